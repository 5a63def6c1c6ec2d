//! The bounds of patches, with reasons.

/// Operations in one JSON patch. The limit of kube-apiserver: each operation may walk the whole
/// document, so their number bounds the work of one request.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// Bytes that the `copy` operations of one JSON patch may add, measured as JSON. The limit of
/// kube-apiserver: copies of copies would otherwise grow a document exponentially.
pub const MAX_JSON_PATCH_COPY_BYTES: usize = 3 * 1024 * 1024;

/// Entries of updaters in managedFields; the oldest are merged beyond that. The limit of
/// kube-apiserver: objects touched by ever new clients would otherwise grow without end.
pub const MAX_UPDATE_MANAGERS: usize = 10;

/// Bytes of a field manager's name, as the API validates it.
pub const MAX_MANAGER_BYTES: usize = 128;

/// Bytes of all annotations of an object, as the API validates it. The last-applied annotation
/// is dropped rather than making an object invalid.
pub const MAX_ANNOTATION_BYTES: usize = 256 * 1024;
