//! The bounds of decoding, together, with their reasons.

/// Objects and lists within each other. kube-apiserver allows 10,000; nothing real comes near this,
/// and even an unoptimized build needs less than 2 MiB of stack for it.
pub const DEPTH: usize = 256;

/// Unknown and duplicate fields that are reported of one document: enough for a person.
pub const STRICT_ERRORS: usize = 100;

/// Values that YAML aliases may add to a document, so that few bytes can't become gigabytes.
pub const YAML_NODES: usize = 1_000_000;

/// Bytes that the anchors and aliases of one document may copy: a long text with an alias to it in
/// each of a million places would be a terabyte. What people write with anchors is a few KiB.
pub const YAML_COPIED_BYTES: usize = 8 << 20;

/// Bytes of one body that a message shows in hexadecimal.
pub const SHOWN_BYTES: usize = 30;
