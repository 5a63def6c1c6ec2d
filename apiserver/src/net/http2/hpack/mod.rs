//! HPACK (RFC 7541): header fields as few bytes.
//!
//! [`Decoder`] reads what clients send into checked [`Field`]s, [`Encoder`] writes what we answer.

mod decoder;
mod encoder;
mod field;
mod huffman;
mod integer;
mod static_table;

pub(super) use decoder::{DecodeError, Decoder};
pub(super) use encoder::Encoder;
pub(super) use encoder::is_of_connection;
pub(super) use field::{Field, Name};
