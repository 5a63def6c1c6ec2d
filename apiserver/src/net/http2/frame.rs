//! Frames as bytes: the nine-byte head, and the payloads that the server writes (RFC 9113, section 4
//! and 6).

use bytes::{BufMut, BytesMut};

use super::error::{ErrorCode, Fault};

/// Bytes before each payload.
pub(super) const HEAD_BYTES: usize = 9;
/// The largest payload that everyone takes, and the largest that we take.
pub(super) const FRAME_BYTES: usize = 16_384;
/// The largest payload that any client may announce to take.
pub(super) const LARGEST_FRAME_BYTES: u32 = (1 << 24) - 1;

/// The types of frames.
pub(super) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const PRIORITY: u8 = 0x2;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PUSH_PROMISE: u8 = 0x5;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
    pub(crate) const CONTINUATION: u8 = 0x9;
}

/// The flags of frames; what a bit means depends on the type.
pub(super) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// What comes before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Of the payload, in bytes.
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    pub(super) fn parse(bytes: [u8; HEAD_BYTES]) -> Head {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        Head {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            // The reserved bit has no meaning and is ignored.
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn write(&self, output: &mut BytesMut) {
        debug_assert!(self.length <= LARGEST_FRAME_BYTES as usize);
        let length = (self.length as u32).to_be_bytes();
        let stream = self.stream.to_be_bytes();
        output.put_slice(&[
            length[1], length[2], length[3], self.kind, self.flags, stream[0], stream[1],
            stream[2], stream[3],
        ]);
    }
}

/// The payload of a DATA or HEADERS frame without its padding.
pub(super) fn unpad<'a>(head: &Head, payload: &'a [u8]) -> Result<&'a [u8], Fault> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let Some((&padding, rest)) = payload.split_first() else {
        return Err(Fault::frame_size("a padded frame is empty"));
    };
    let length = rest
        .len()
        .checked_sub(usize::from(padding))
        .ok_or(Fault::protocol("the padding is longer than the frame"))?;
    Ok(&rest[..length])
}

/// Four bytes as a number without its reserved bit.
pub(super) fn number(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(payload.try_into().ok()?) & 0x7fff_ffff)
}

pub(super) fn write_reset(output: &mut BytesMut, stream: u32, code: ErrorCode) {
    Head { length: 4, kind: kind::RST_STREAM, flags: 0, stream }.write(output);
    output.put_u32(code.0);
}

pub(super) fn write_window_update(output: &mut BytesMut, stream: u32, increment: u32) {
    debug_assert!(increment > 0 && increment <= 0x7fff_ffff);
    Head { length: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream }.write(output);
    output.put_u32(increment);
}

pub(super) fn write_ping(output: &mut BytesMut, ack: bool, payload: [u8; 8]) {
    let flags = if ack { flag::ACK } else { 0 };
    Head { length: 8, kind: kind::PING, flags, stream: 0 }.write(output);
    output.put_slice(&payload);
}

pub(super) fn write_goaway(output: &mut BytesMut, last_stream: u32, code: ErrorCode, text: &str) {
    Head { length: 8 + text.len(), kind: kind::GOAWAY, flags: 0, stream: 0 }.write(output);
    output.put_u32(last_stream);
    output.put_u32(code.0);
    output.put_slice(text.as_bytes());
}

/// A header block, in as many frames as its length takes.
pub(super) fn write_headers(
    output: &mut BytesMut,
    stream: u32,
    block: &[u8],
    end: bool,
    limit: usize,
) {
    let (first, mut rest) = block.split_at(block.len().min(limit));
    let mut flags = if end { flag::END_STREAM } else { 0 };
    if rest.is_empty() {
        flags |= flag::END_HEADERS;
    }
    Head { length: first.len(), kind: kind::HEADERS, flags, stream }.write(output);
    output.put_slice(first);
    while !rest.is_empty() {
        let (next, later) = rest.split_at(rest.len().min(limit));
        let flags = if later.is_empty() { flag::END_HEADERS } else { 0 };
        Head { length: next.len(), kind: kind::CONTINUATION, flags, stream }.write(output);
        output.put_slice(next);
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_survive_the_wire() {
        for head in [
            Head { length: 0, kind: kind::SETTINGS, flags: 0, stream: 0 },
            Head { length: 16_384, kind: kind::DATA, flags: 9, stream: 0x7fff_ffff },
            Head { length: 0xff_ffff, kind: 0xff, flags: 0xff, stream: 1 },
        ] {
            let mut bytes = BytesMut::new();
            head.write(&mut bytes);
            assert_eq!(Head::parse(bytes[..].try_into().expect("nine bytes")), head);
        }
        let reserved = Head::parse([0, 0, 4, 8, 0, 0x80, 0, 0, 3]);
        assert_eq!(reserved.stream, 3, "the reserved bit is ignored");
    }

    #[test]
    fn padding_is_taken_off() {
        for (flags, payload, expected) in [
            (0, &[1, 2, 3][..], Some(&[1, 2, 3][..])),
            (flag::PADDED, &[0, 2, 3], Some(&[2, 3])),
            (flag::PADDED, &[2, 7, 0, 0], Some(&[7])),
            (flag::PADDED, &[2, 0, 0], Some(&[])),
            (flag::PADDED, &[3, 0, 0], None),
            (flag::PADDED, &[], None),
        ] {
            let head = Head { length: payload.len(), kind: kind::DATA, flags, stream: 1 };
            assert_eq!(unpad(&head, payload).ok(), expected, "{flags} {payload:?}");
        }
    }

    #[test]
    fn a_long_header_block_goes_on_in_continuations() {
        for (length, expected) in [
            (0, &[(kind::HEADERS, 5, 0)][..]),
            (10, &[(kind::HEADERS, 5, 10)]),
            (11, &[(kind::HEADERS, 1, 10), (kind::CONTINUATION, 4, 1)]),
            (
                30,
                &[(kind::HEADERS, 1, 10), (kind::CONTINUATION, 0, 10), (kind::CONTINUATION, 4, 10)],
            ),
        ] {
            let mut output = BytesMut::new();
            write_headers(&mut output, 1, &vec![7; length], true, 10);
            let mut found = Vec::new();
            while let Some((head, _)) = output.split_first_chunk::<HEAD_BYTES>() {
                let head = Head::parse(*head);
                let _frame = output.split_to(HEAD_BYTES + head.length);
                found.push((head.kind, head.flags, head.length));
            }
            assert_eq!(found, expected);
        }
    }
}
