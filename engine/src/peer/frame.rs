//! Frames: pieces of messages, each with a header that vouches for it.
//!
//! ```text
//!  0         4       6         8           12       16
//!  | length  | kind  | version | following | crc32  | payload: `length` bytes
//! ```
//!
//! All numbers are little endian. `following` says how many bytes of the same message come in later
//! frames of the same kind; between them frames of other kinds may come, so that a long message
//! holds up nothing that is more urgent.

use bytes::Bytes;
use rkyv::util::AlignedVec;

use super::limits;
use super::{LEAST_VERSION, NEWEST_VERSION};

/// Bytes before a frame's payload.
pub const HEADER_BYTES: usize = 16;

/// Messages begin at multiples of this many bytes in memory: what rkyv needs to read them in place.
pub const ALIGNMENT: usize = 16;

/// What a message is, and so which queue and which bounds it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Hello,
    Refused,
    Ping,
    Pong,
    JoinQuestion,
    JoinAnswer,
    /// A message of raft that is short.
    Raft,
    /// One with entries.
    Append,
    /// One with a part of a snapshot.
    Snapshot,
    Request,
    Answer,
}

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::Hello,
        Kind::Refused,
        Kind::Ping,
        Kind::Pong,
        Kind::JoinQuestion,
        Kind::JoinAnswer,
        Kind::Raft,
        Kind::Append,
        Kind::Snapshot,
        Kind::Request,
        Kind::Answer,
    ];

    /// As frames have it. Numbers are never used again for something else.
    pub fn number(self) -> u16 {
        self as u16 + 1
    }

    pub fn of_number(number: u16) -> Option<Kind> {
        Kind::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The longest message of this kind.
    pub fn limit(self) -> usize {
        match self {
            Kind::Hello | Kind::Refused | Kind::Ping | Kind::Pong => limits::HANDSHAKE_BYTES,
            Kind::JoinQuestion | Kind::JoinAnswer => limits::JOIN_BYTES,
            Kind::Raft => limits::SHORT_BYTES,
            Kind::Append => limits::APPEND_BYTES,
            Kind::Snapshot => limits::SNAPSHOT_BYTES,
            Kind::Request => limits::REQUEST_BYTES,
            Kind::Answer => limits::ANSWER_BYTES,
        }
    }
}

/// What the other end sent that can't be a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error(
        "a damaged frame (kind {kind}, {length} bytes, checksum {found:08x}, should be \
         {expected:08x}): the network changed it, or no member of Mainstay sent it"
    )]
    Checksum { kind: u16, length: u32, found: u32, expected: u32 },
    #[error("a frame of {length} bytes (kind {kind}); there may be {limit}")]
    FrameTooLong { kind: u16, length: u32, limit: usize },
    #[error("a message of {length} bytes (kind {kind:?}); there may be {limit}")]
    MessageTooLong { kind: Kind, length: u64, limit: usize },
    #[error("a piece of a {kind:?} message that does not go on where the last one ended")]
    Order { kind: Kind },
    #[error("a frame of version {version}; agreed was {agreed}")]
    Version { version: u16, agreed: u16 },
    #[error("a frame of kind {kind} before the greeting: no member of Mainstay is there")]
    NoGreeting { kind: u16 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    length: u32,
    kind: u16,
    version: u16,
    following: u32,
    crc: u32,
}

impl Header {
    fn decode(bytes: &[u8; HEADER_BYTES]) -> Header {
        let [l0, l1, l2, l3, k0, k1, v0, v1, f0, f1, f2, f3, c0, c1, c2, c3] = *bytes;
        Header {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            kind: u16::from_le_bytes([k0, k1]),
            version: u16::from_le_bytes([v0, v1]),
            following: u32::from_le_bytes([f0, f1, f2, f3]),
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
        }
    }
}

/// Opens a frame at the end of `out`; [`seal`] closes it when its payload is there.
pub(super) fn open(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.resize(at + HEADER_BYTES, 0);
    at
}

/// Closes the frame that begins at `at` and ends where `out` ends.
pub(super) fn seal(out: &mut [u8], at: usize, kind: Kind, version: u16, following: usize) {
    let length = out.len() - at - HEADER_BYTES;
    assert!(length <= limits::FRAME_BYTES, "frames are cut");
    let following = u32::try_from(following).expect("messages are bounded");
    let frame = &mut out[at..];
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    frame[4..6].copy_from_slice(&kind.number().to_le_bytes());
    frame[6..8].copy_from_slice(&version.to_le_bytes());
    frame[8..12].copy_from_slice(&following.to_le_bytes());
    let crc = checksum(&frame[..12], &frame[HEADER_BYTES..]);
    frame[12..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// A message that fits a frame, as bytes.
pub(crate) fn single(kind: Kind, version: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
    let at = open(&mut out);
    out.extend_from_slice(payload);
    seal(&mut out, at, kind, version, 0);
    out
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

/// A message as it was sent.
#[derive(Debug, Clone)]
pub struct Received {
    pub kind: Kind,
    /// Of the protocol: how the payload is laid out.
    pub version: u16,
    /// In one piece of memory of its own, which begins at a multiple of [`ALIGNMENT`].
    pub payload: Bytes,
}

impl Received {
    /// A message of these bytes, as if it had come in one frame.
    pub fn new(kind: Kind, version: u16, bytes: &[u8]) -> Received {
        let mut payload = AlignedVec::<ALIGNMENT>::with_capacity(bytes.len());
        payload.extend_from_slice(bytes);
        Received { kind, version, payload: Bytes::from_owner(payload) }
    }
}

/// A message of which pieces are missing.
struct Partial {
    kind: Kind,
    payload: AlignedVec<ALIGNMENT>,
    following: usize,
}

/// Puts received bytes together to messages.
pub struct Reader {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// At most one of each kind.
    partial: Vec<Partial>,
    /// What both ends agreed on; until then only greetings and refusals are taken, of any version.
    agreed: Option<u16>,
}

impl Default for Reader {
    fn default() -> Reader {
        let buffer = vec![0; limits::READ_BYTES].into_boxed_slice();
        Reader { buffer, start: 0, end: 0, partial: Vec::new(), agreed: None }
    }
}

impl Reader {
    /// From here on frames of all kinds may come, and are of this version.
    pub fn agree(&mut self, version: u16) {
        assert!((LEAST_VERSION..=NEWEST_VERSION).contains(&version));
        self.agreed = Some(version);
    }

    /// Where the next received bytes go. Never empty, if [`next_message`](Reader::next_message) was asked until it
    /// gave nothing.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < HEADER_BYTES + limits::FRAME_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes were received there.
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.buffer.len() - self.end);
        self.end += count;
    }

    /// Whether the other end stopped in the middle of something.
    pub fn is_within_message(&self) -> bool {
        self.start != self.end || !self.partial.is_empty()
    }

    /// The next whole message.
    pub fn next_message(&mut self) -> Result<Option<Received>, FrameError> {
        while let Some((header, payload)) = self.frame()? {
            self.start = payload.end;
            let Some(kind) = Kind::of_number(header.kind) else { continue };
            if let Some(payload) = self.piece(kind, &header, payload)? {
                return Ok(Some(Received { kind, version: header.version, payload }));
            }
        }
        Ok(None)
    }

    /// The next whole frame, checked, and where its payload is.
    fn frame(&self) -> Result<Option<(Header, std::ops::Range<usize>)>, FrameError> {
        let bytes = &self.buffer[self.start..self.end];
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(head);
        self.check(&header)?;
        let length = header.length as usize;
        let Some(payload) = bytes[HEADER_BYTES..].get(..length) else { return Ok(None) };
        let expected = checksum(&head[..12], payload);
        if header.crc != expected {
            let (kind, length, found) = (header.kind, header.length, header.crc);
            return Err(FrameError::Checksum { kind, length, found, expected });
        }
        let at = self.start + HEADER_BYTES;
        Ok(Some((header, at..at + length)))
    }

    /// What can be said before the payload is there.
    fn check(&self, header: &Header) -> Result<(), FrameError> {
        let (kind, length, version) = (header.kind, header.length, header.version);
        let known = Kind::of_number(kind);
        let limit = match (self.agreed, known) {
            (None, Some(Kind::Hello | Kind::Refused)) => limits::HANDSHAKE_BYTES,
            (None, _) => return Err(FrameError::NoGreeting { kind }),
            // Of any version: it may be about versions.
            (Some(_), Some(Kind::Refused)) => limits::HANDSHAKE_BYTES,
            (Some(agreed), Some(_)) if version != agreed => {
                return Err(FrameError::Version { version, agreed });
            }
            (Some(_), _) => limits::FRAME_BYTES,
        };
        if length as usize > limit {
            return Err(FrameError::FrameTooLong { kind, length, limit });
        }
        Ok(())
    }

    /// Adds a piece to its message. Gives the message when it is whole.
    fn piece(
        &mut self,
        kind: Kind,
        header: &Header,
        at: std::ops::Range<usize>,
    ) -> Result<Option<Bytes>, FrameError> {
        let (length, following) = (at.len(), header.following as usize);
        let payload = &self.buffer[at];
        let place = self.partial.iter().position(|partial| partial.kind == kind);
        let mut partial = match place {
            Some(place) => self.partial.swap_remove(place),
            None => {
                let (total, limit) = (length as u64 + following as u64, kind.limit());
                if total > limit as u64 {
                    return Err(FrameError::MessageTooLong { kind, length: total, limit });
                }
                Partial { kind, payload: AlignedVec::new(), following: length + following }
            }
        };
        if partial.following != length + following || (length == 0 && following > 0) {
            return Err(FrameError::Order { kind });
        }
        // Nobody gets memory by announcing much: it grows with what has come.
        let more = match partial.following {
            rest if rest <= limits::ASSEMBLED_AT_ONCE => rest,
            rest => rest.min(partial.payload.len().max(limits::ASSEMBLED_AT_ONCE)),
        };
        if partial.payload.capacity() - partial.payload.len() < length {
            partial.payload.reserve_exact(more);
        }
        partial.payload.extend_from_slice(payload);
        partial.following = following;
        if following > 0 {
            self.partial.push(partial);
            return Ok(None);
        }
        Ok(Some(Bytes::from_owner(partial.payload)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], step: usize, agreed: bool) -> Result<Vec<(Kind, Vec<u8>)>, FrameError> {
        let mut reader = Reader::default();
        if agreed {
            reader.agree(1);
        }
        let mut found = Vec::new();
        for mut part in bytes.chunks(step) {
            while !part.is_empty() {
                let space = reader.space();
                let count = space.len().min(part.len());
                space[..count].copy_from_slice(&part[..count]);
                reader.filled(count);
                part = &part[count..];
                while let Some(message) = reader.next_message()? {
                    found.push((message.kind, message.payload.to_vec()));
                }
            }
        }
        Ok(found)
    }

    fn frame(kind: u16, version: u16, following: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        out[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        out[4..6].copy_from_slice(&kind.to_le_bytes());
        out[6..8].copy_from_slice(&version.to_le_bytes());
        out[8..12].copy_from_slice(&following.to_le_bytes());
        let crc = checksum(&out[..12], payload);
        out[12..].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn kinds_have_numbers_of_their_own() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.number()), place + 1);
            assert_eq!(Kind::of_number(kind.number()), Some(kind));
        }
        assert_eq!((Kind::of_number(0), Kind::of_number(12)), (None, None));
    }

    #[test]
    fn what_was_sealed_is_read_however_it_is_cut() {
        let long = vec![7; limits::FRAME_BYTES];
        let mut bytes = single(Kind::Raft, 1, b"one");
        bytes.extend(single(Kind::Append, 1, &long));
        bytes.extend(single(Kind::Ping, 1, b""));
        let expected =
            vec![(Kind::Raft, b"one".to_vec()), (Kind::Append, long), (Kind::Ping, Vec::new())];
        for step in [1, 15, 16, 17, 4096, usize::MAX] {
            assert_eq!(read(&bytes, step, true).as_ref(), Ok(&expected), "{step}");
        }
    }

    #[test]
    fn pieces_come_between_pieces_of_others() {
        let (append, snapshot) = (Kind::Append.number(), Kind::Snapshot.number());
        let bytes = [
            frame(append, 1, 4, b"ab"),
            frame(snapshot, 1, 1, b"x"),
            frame(Kind::Raft.number(), 1, 0, b"urgent"),
            frame(append, 1, 1, b"cde"),
            frame(snapshot, 1, 0, b"y"),
            frame(999, 1, 7, b"a kind of the future"),
            frame(append, 1, 0, b"f"),
            frame(append, 1, 0, b"next"),
        ];
        let expected = vec![
            (Kind::Raft, b"urgent".to_vec()),
            (Kind::Snapshot, b"xy".to_vec()),
            (Kind::Append, b"abcdef".to_vec()),
            (Kind::Append, b"next".to_vec()),
        ];
        assert_eq!(read(&bytes.concat(), usize::MAX, true), Ok(expected));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let append = Kind::Append.number();
        let good = single(Kind::Append, 1, b"abc");
        let mut flipped = good.clone();
        flipped[HEADER_BYTES] ^= 1;
        let mut header = good.clone();
        header[9] ^= 1;
        for (bytes, expected) in [
            (flipped, "damaged frame"),
            (header, "damaged frame"),
            (frame(append, 2, 0, b"abc"), "version 2; agreed was 1"),
            (frame(append, 1, u32::MAX, b"abc"), "a message of 4294967298 bytes"),
            (frame(Kind::Hello.number(), 1, 5000, b"abc"), "a message of 5003 bytes"),
            (frame(append, 1, 3, b""), "does not go on"),
            ([frame(append, 1, 3, b"a"), frame(append, 1, 0, b"b")].concat(), "does not go on"),
            ([frame(append, 1, 1, b"a"), frame(append, 1, 0, b"bc")].concat(), "does not go on"),
            (vec![0xff; 64], "frame of 4294967295 bytes"),
            (b"GET /members HTTP/1.1\r\n\r\n".to_vec(), "bytes (kind"),
        ] {
            let error = read(&bytes, usize::MAX, true).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}, not {expected}");
        }
        let mut flags = good.clone();
        flags.truncate(good.len() - 1);
        assert_eq!(read(&flags, usize::MAX, true), Ok(Vec::new()), "the end is not there yet");
    }

    #[test]
    fn before_the_greeting_there_is_nothing_else() {
        let long = vec![0; limits::HANDSHAKE_BYTES + 1];
        for (bytes, expected) in [
            (single(Kind::Append, 1, b"abc"), "before the greeting"),
            (b"GET /members HTTP/1.1\r\n\r\n".to_vec(), "before the greeting"),
            (single(Kind::Hello, 1, &long), "a frame of 4097 bytes"),
        ] {
            let error = read(&bytes, usize::MAX, false).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}, not {expected}");
        }
        let hello = single(Kind::Hello, 9, b"abc");
        assert_eq!(read(&hello, usize::MAX, false), Ok(vec![(Kind::Hello, b"abc".to_vec())]));
    }

    #[test]
    fn memory_grows_with_what_has_come() {
        let mut reader = Reader::default();
        reader.agree(1);
        let piece = frame(Kind::Append.number(), 1, 3 << 30, &[0; 1000]);
        reader.space()[..piece.len()].copy_from_slice(&piece);
        reader.filled(piece.len());
        assert!(reader.next_message().expect("good so far").is_none());
        assert!(reader.is_within_message());
        assert!(reader.partial[0].payload.capacity() <= limits::ASSEMBLED_AT_ONCE);
    }
}
