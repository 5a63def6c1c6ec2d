//! Messages as bytes, and back.
//!
//! ```text
//!  0             4          16                16 + length
//!  | length u32  | zeros    | archive (rkyv)  | contents: keys, values, entries, one after the other
//! ```
//!
//! The archive holds numbers, and lengths of contents in the order in which they come behind it. So
//! contents are copied once when they are sent, and when they are received they are slices of the
//! message's own memory. Archives are checked before anything in them is believed, and hold nothing
//! that contains its own kind: transactions within transactions are lists, read with a bounded depth.

mod answer;
mod contents;
mod error;
mod greeting;
mod join;
mod members;
mod raft;
mod range;
mod records;
mod request;
#[cfg(test)]
mod tests;
mod transaction;

use bytes::Bytes;
use rkyv::rancor::Error;
use rkyv::util::AlignedVec;

use super::frame::{ALIGNMENT, Kind, Received, open, seal};
use super::{PeerMessage, limits};
use contents::{Contents, Reading};

pub use greeting::{decode_hello, decode_ping, decode_refusal, hello, ping, refusal};
pub use join::{decode_join_answer, decode_join_question, join_answer, join_question};

/// Bytes before the archive.
const PREFIX_BYTES: usize = 16;

const _: () = assert!(PREFIX_BYTES.is_multiple_of(ALIGNMENT));

/// What the other end sent that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {kind:?} message of {length} bytes that makes no sense: {what}")]
pub struct WireError {
    pub kind: Kind,
    pub length: usize,
    pub what: &'static str,
}

/// Part of a message makes no sense, for this reason.
type Decoded<T> = Result<T, &'static str>;

/// A message on its way out, as far as it was not sent.
#[derive(Debug)]
pub struct Encoded {
    kind: Kind,
    version: u16,
    prefix: [u8; PREFIX_BYTES],
    archive: AlignedVec,
    contents: Contents,
    /// Bytes that were sent, of all.
    sent: usize,
    length: usize,
    /// Where that is: prefix, archive or a content; and how much of it was sent.
    section: usize,
    offset: usize,
}

impl Encoded {
    fn new(kind: Kind, version: u16, archive: AlignedVec, contents: Contents) -> Encoded {
        let mut prefix = [0; PREFIX_BYTES];
        let length = u32::try_from(archive.len()).expect("archives reach no farther than 2 GiB");
        prefix[..4].copy_from_slice(&length.to_le_bytes());
        let length = PREFIX_BYTES + archive.len() + contents.bytes();
        let (sent, section, offset) = (0, 0, 0);
        Encoded { kind, version, prefix, archive, contents, sent, length, section, offset }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of the whole message, without the headers of its frames.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether a part of it was sent.
    pub fn is_begun(&self) -> bool {
        self.sent > 0
    }

    /// Writes the next frame of it. Whether that was the last one.
    pub fn write_frame(&mut self, out: &mut Vec<u8>) -> bool {
        let at = open(out);
        let mut room = (self.length - self.sent).min(limits::FRAME_BYTES);
        self.sent += room;
        while room > 0 {
            let section: &[u8] = match self.section {
                0 => &self.prefix,
                1 => &self.archive,
                content => self.contents.get(content - 2),
            };
            let part = &section[self.offset..];
            let count = part.len().min(room);
            out.extend_from_slice(&part[..count]);
            room -= count;
            self.offset += count;
            if self.offset == section.len() {
                (self.section, self.offset) = (self.section + 1, 0);
            }
        }
        seal(out, at, self.kind, self.version, self.length - self.sent);
        self.sent == self.length
    }

    /// All of it, as received.
    #[cfg(test)]
    pub(super) fn into_received(mut self) -> Received {
        let mut out = Vec::new();
        let mut reader = super::frame::Reader::default();
        reader.agree(self.version);
        loop {
            out.clear();
            let last = self.write_frame(&mut out);
            reader.space()[..out.len()].copy_from_slice(&out);
            reader.filled(out.len());
            let received = reader.next_message().expect("its own frames");
            assert_eq!(received.is_some(), last);
            if let Some(received) = received {
                return received;
            }
        }
    }
}

/// A message as bytes, of this version of the protocol. `None` for one that is too long for anybody
/// to take.
pub fn encode(message: &PeerMessage, version: u16) -> Option<Encoded> {
    let mut contents = Contents::default();
    let (kind, archive) = match message {
        PeerMessage::Raft(message) => {
            let row = raft::row(message, &mut contents);
            (raft::kind(message), archive(&row))
        }
        PeerMessage::Request { number, request } => {
            let row = request::row(*number, request, &mut contents);
            (Kind::Request, archive(&row))
        }
        PeerMessage::Answer { number, outcome, index } => {
            let row = answer::row(*number, outcome, *index, &mut contents);
            (Kind::Answer, archive(&row))
        }
    };
    let encoded = Encoded::new(kind, version, archive, contents);
    (encoded.length <= kind.limit()).then_some(encoded)
}

/// What a message of members says. Its contents share the memory that it was received in.
pub fn decode(received: &Received) -> Result<PeerMessage, WireError> {
    let (kind, length) = (received.kind, received.payload.len());
    let message = match kind {
        Kind::Raft | Kind::Append | Kind::Snapshot => decode_as(&received.payload, raft::message),
        Kind::Request => decode_as(&received.payload, request::message),
        Kind::Answer => decode_as(&received.payload, answer::message),
        _ => Err("members that know each other do not say this"),
    };
    message.map_err(|what| WireError { kind, length, what })
}

/// Reads the archive in place and hands it over, with what is behind it.
fn decode_as<T, R>(payload: &Bytes, read: impl FnOnce(&T, &mut Reading) -> Decoded<R>) -> Decoded<R>
where
    T: rkyv::Portable
        + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, Error>>,
{
    let (prefix, rest) = payload.split_first_chunk::<PREFIX_BYTES>().ok_or("it is too short")?;
    let [l0, l1, l2, l3, zeros @ ..] = prefix;
    if zeros.iter().any(|byte| *byte != 0) {
        return Err("there is something where nothing should be");
    }
    let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
    let archive = rest.get(..length).ok_or("its archive is longer than the message")?;
    let row = rkyv::access::<T, Error>(archive).map_err(|_| "its archive is none")?;
    let mut reading = Reading::new(payload.slice(PREFIX_BYTES + length..));
    let message = read(row, &mut reading)?;
    if !reading.is_empty() {
        return Err("it is longer than what it says");
    }
    Ok(message)
}

/// Writes a row in the layout that [`decode_as`] reads.
fn archive<T>(row: &T) -> AlignedVec
where
    T: for<'a> rkyv::Serialize<
            rkyv::api::high::HighSerializer<
                AlignedVec,
                rkyv::ser::allocator::ArenaHandle<'a>,
                Error,
            >,
        >,
{
    rkyv::to_bytes::<Error>(row).expect("memory is all that writing rows needs")
}
