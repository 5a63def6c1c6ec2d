//! The wire format of protobuf: tagged numbers and bytes, and nothing of what they mean.

use super::DecodeError;

/// One field's value as it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    pub(super) fn varint(self) -> Result<u64, DecodeError> {
        match self {
            Wire::Varint(value) => Ok(value),
            _ => Err(wrong_wire_type()),
        }
    }

    pub(super) fn double(self) -> Result<f64, DecodeError> {
        match self {
            Wire::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(wrong_wire_type()),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => Err(wrong_wire_type()),
        }
    }

    /// Text; what is not UTF-8 is replaced, as it would be in JSON.
    pub(super) fn text(self) -> Result<String, DecodeError> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
}

fn wrong_wire_type() -> DecodeError {
    DecodeError::new("proto: wrong wireType for field")
}

fn truncated() -> DecodeError {
    DecodeError::new("unexpected EOF")
}

/// The fields of a message, as number and value, in the order of the bytes. `owner` is what the
/// message is called when something is wrong with it.
pub(super) fn fields<'a>(owner: &'a str, message: &'a [u8]) -> Fields<'a> {
    Fields { owner, rest: message }
}

pub(super) struct Fields<'a> {
    owner: &'a str,
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), DecodeError>;

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

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Wire<'a>), DecodeError> {
        let tag = take_varint(&mut self.rest)?;
        let (number, wire_type) = ((tag >> 3) as i32, tag & 7);
        if wire_type == 4 {
            let problem = "wiretype end group for non-group";
            return Err(DecodeError::new(format!("proto: {}: {problem}", self.owner)));
        }
        if number <= 0 {
            let problem = format!("illegal tag {number} (wire type {wire_type})");
            return Err(DecodeError::new(format!("proto: {}: {problem}", self.owner)));
        }
        let value = match wire_type {
            0 => Wire::Varint(take_varint(&mut self.rest)?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take_array()?)),
            2 => {
                let length = take_varint(&mut self.rest)?;
                let length = usize::try_from(length).map_err(|_| truncated())?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.take_array()?)),
            other => return Err(DecodeError::new(format!("proto: illegal wireType {other}"))),
        };
        Ok((number as u32, value))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| truncated())
    }
}

/// Takes a variable-length number from the front.
pub(super) fn take_varint(rest: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or_else(truncated)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DecodeError::new("proto: integer overflow"))
}

fn put_raw_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_raw_varint(out, u64::from(number) << 3);
    put_raw_varint(out, value);
}

pub(super) fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_raw_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_raw_varint(out, u64::from(number) << 3 | 2);
    put_raw_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
