//! The bounds of patches, with reasons.

/// Operations in one JSON patch. The limit of kube-apiserver: each operation may walk the whole
/// document, so their number bounds the work of one request.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// Bytes that the `copy` operations of one JSON patch may add, measured as JSON. The limit of
/// kube-apiserver: copies of copies would otherwise grow a document exponentially.
pub const MAX_JSON_PATCH_COPY_BYTES: usize = 3 * 1024 * 1024;
