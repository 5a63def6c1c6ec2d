//! What hostile bytes meet first, as functions of bytes: none may panic, and what they promise holds.
//!
//! `fuzz/` gives them to libFuzzer, `tests/fuzz_corpus.rs` runs them with a corpus and with
//! [`mutations`](mutate) of it. `wire`, `log`, `peer` and `kubernetes` have the targets.

mod kubernetes;
mod log;
pub mod mutate;
mod peer;
mod wire;

pub use kubernetes::{json, label_selector, patch, protobuf, yaml};
pub use log::log_frame;
pub use peer::peer_message;
pub use wire::{etcd_message, gateway_json, grpc_framing, hpack, http2};

/// A function of bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names of their folders in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 12] = [
    ("http2", http2),
    ("hpack", hpack),
    ("grpc_framing", grpc_framing),
    ("etcd_message", etcd_message),
    ("gateway_json", gateway_json),
    ("log_frame", log_frame),
    ("peer_message", peer_message),
    ("protobuf", protobuf),
    ("json", json),
    ("yaml", yaml),
    ("patch", patch),
    ("label_selector", label_selector),
];
