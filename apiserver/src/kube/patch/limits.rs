//! The bounds of patches, with reasons.

/// Operations in one JSON patch. The limit of kube-apiserver: each operation may walk the whole
/// document, so their number bounds the work of one request.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// Bytes that the `copy` operations of one JSON patch may add, measured as JSON. The limit of
/// kube-apiserver: copies of copies would otherwise grow a document exponentially.
pub const MAX_JSON_PATCH_COPY_BYTES: usize = 3 * 1024 * 1024;

/// Objects and lists within each other that a JSON patch may leave behind. As much as bodies may
/// have: operations that put a value into itself would otherwise nest without end, and everything
/// that walks an object uses the stack.
pub const MAX_JSON_PATCH_DEPTH: usize = crate::kube::codec::limits::DEPTH;

/// Objects and lists within each other in a merge patch or strategic merge patch. Nothing real comes
/// near, and merging walks patch and object together on the stack.
pub const MAX_PATCH_DEPTH: usize = 200;

/// Values that the operations of one JSON patch may look at or shift in lists, about a second's
/// work. Thousands of operations on lists of thousands stay far below.
pub const MAX_JSON_PATCH_WORK: usize = 200_000_000;

/// Levels of an object that have owners of their own; what is deeper belongs to the field around
/// it. Nothing real comes near, and it keeps the recursion of merging well below a thread's stack.
pub const MAX_OWNED_DEPTH: usize = 128;

/// Problems of an applied configuration that are told: enough for a person.
pub const MAX_APPLY_PROBLEMS: usize = 100;

/// Entries of updaters in managedFields; the oldest are merged beyond that. The limit of
/// kube-apiserver: objects touched by ever new clients would otherwise grow without end.
pub const MAX_UPDATE_MANAGERS: usize = 10;

/// Bytes of a field manager's name, as the API validates it.
pub const MAX_MANAGER_BYTES: usize = 128;

/// Bytes of all annotations of an object, as the API validates it. The last-applied annotation
/// is dropped rather than making an object invalid.
pub const MAX_ANNOTATION_BYTES: usize = 256 * 1024;
