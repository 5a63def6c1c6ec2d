//! Bytes to objects and back, driven by the schema table: JSON, YAML and protobuf.
//!
//! A document first becomes a [`node::Node`]; `typed` then holds it against the table, which reports
//! what does not belong and leaves an object as a kube-apiserver would have it.

pub mod json;
pub mod json_text;
pub mod limits;
pub mod node;
mod normal;
mod object;
pub mod protobuf;
mod typed;
pub mod yaml;
mod yaml_scalar;
pub mod yaml_text;

use thiserror::Error;

pub use normal::{forget_empty, normalize};
pub use object::{Format, ObjectError, TypeMeta, api_version, decode_object, type_meta};
pub use typed::{Decoded, decode_node};

/// Why bytes or a document could not be decoded; the message alone, as Go's decoders tell it.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{0}")]
pub struct DecodeError(String);

impl DecodeError {
    pub(crate) fn new(message: impl Into<String>) -> DecodeError {
        DecodeError(message.into())
    }
}
