//! Protobuf by hand, for the few messages on the hot path: the loader shares the processor with
//! the server it measures, so it neither allocates nor decodes what it does not look at.
//! The tests hold it to the messages that prost generates.

use thiserror::Error;

/// Bytes that are no protobuf message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the response is no valid protobuf message")]
pub struct WireError;

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5, which no message here uses.
    Fixed,
}

/// The fields of a message in the order of its bytes.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads `message`.
    #[must_use]
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (position, byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[position + 1..];
                return Ok(value);
            }
        }
        Err(WireError)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(length).map_err(|_| WireError)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError)?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Field<'a>), WireError> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return Err(WireError),
        };
        Ok((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint field; a zero is left out, as proto3 does.
pub fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        put_varint(out, field << 3);
        put_varint(out, value);
    }
}

/// Appends a field of bytes, text or a nested message; an empty one is left out.
pub fn put_bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    if !value.is_empty() {
        put_varint(out, field << 3 | 2);
        put_varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

/// How many bytes the varint of `value` takes.
#[must_use]
pub fn varint_width(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// What a response to a put or a transaction says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteAnswer {
    /// The store's revision at the answer; for a write that happened, its own.
    pub revision: i64,
    /// `TxnResponse.succeeded`; false for other responses.
    pub succeeded: bool,
    /// The key's modification revision in the first range answer of a transaction.
    pub current_revision: Option<i64>,
}

/// Reads a `PutResponse` or a `TxnResponse`.
pub fn write_answer(response: &[u8]) -> Result<WriteAnswer, WireError> {
    let mut answer = WriteAnswer::default();
    for field in Fields::of(response) {
        match field? {
            (1, Field::Bytes(header)) => answer.revision = number(header, 3)? as i64,
            (2, Field::Varint(succeeded)) => answer.succeeded = succeeded != 0,
            (3, Field::Bytes(operation)) if answer.current_revision.is_none() => {
                answer.current_revision = range_revision(operation)?;
            }
            _ => {}
        }
    }
    Ok(answer)
}

/// The number of key-value pairs in a `RangeResponse`.
pub fn range_length(response: &[u8]) -> Result<usize, WireError> {
    let mut length = 0;
    for field in Fields::of(response) {
        if let (2, Field::Bytes(_)) = field? {
            length += 1;
        }
    }
    Ok(length)
}

/// `ResponseOp{response_range{kvs{mod_revision}}}`; no pair means that the key is absent (0).
fn range_revision(operation: &[u8]) -> Result<Option<i64>, WireError> {
    let Some(range) = message(operation, 1)? else { return Ok(None) };
    match message(range, 2)? {
        Some(pair) => Ok(Some(number(pair, 3)? as i64)),
        None => Ok(Some(0)),
    }
}

/// The first nested message (or bytes) of that field number.
pub fn message(of: &[u8], number: u64) -> Result<Option<&[u8]>, WireError> {
    for field in Fields::of(of) {
        if let (found, Field::Bytes(bytes)) = field?
            && found == number
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The varint of that field number, 0 when it is absent.
pub fn number(of: &[u8], number: u64) -> Result<u64, WireError> {
    let mut value = 0;
    for field in Fields::of(of) {
        if let (found, Field::Varint(varint)) = field?
            && found == number
        {
            value = varint;
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_proto::kv::{PutResponse, RangeResponse, Response, ResponseOp, TxnResponse};
    use mainstay_proto::{KeyValue, ResponseHeader};
    use prost::Message;

    #[test]
    fn varints_round_trip_and_know_their_width() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 35, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_width(value), "{value}");
            assert_eq!(Fields::of(&bytes).varint(), Ok(value));
        }
    }

    #[test]
    fn damaged_messages_are_errors_and_never_panics() {
        for bytes in [&[0x80][..], &[0x0a, 5, 1], &[0x0b], &[0x09, 1, 2], &[0xff; 11], &[0x0a]] {
            assert_eq!(write_answer(bytes), Err(WireError), "{bytes:02x?}");
        }
    }

    #[test]
    fn answers_as_prost_encodes_them_are_read() {
        let header =
            Some(ResponseHeader { cluster_id: 9, member_id: 8, revision: 70_000, raft_term: 2 });
        let pair = |mod_revision| KeyValue {
            key: "key".into(),
            create_revision: 7,
            mod_revision,
            value: vec![3; 300].into(),
            ..Default::default()
        };
        let range = |kvs| RangeResponse { header, kvs, ..Default::default() };
        let failed = |kvs| TxnResponse {
            header,
            succeeded: false,
            responses: vec![ResponseOp { response: Some(Response::Range(range(kvs))) }],
        };
        let put = PutResponse { header, prev_kv: None };
        let done = TxnResponse {
            header,
            succeeded: true,
            responses: vec![ResponseOp { response: Some(Response::Put(put.clone())) }],
        };
        for (message, succeeded, current_revision) in [
            (put.encode_to_vec(), false, None),
            (done.encode_to_vec(), true, None),
            (failed(vec![pair(41)]).encode_to_vec(), false, Some(41)),
            (failed(vec![]).encode_to_vec(), false, Some(0)),
        ] {
            let expected = WriteAnswer { revision: 70_000, succeeded, current_revision };
            assert_eq!(write_answer(&message), Ok(expected));
        }
        let list = range(vec![pair(1), pair(2), pair(3)]);
        assert_eq!(range_length(&list.encode_to_vec()), Ok(3));
    }
}
