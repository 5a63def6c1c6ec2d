//! The streams of a connection: what is known of each, and which are there.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use bytes::Bytes;
use http::HeaderMap;

use super::window::{ReceiveWindow, SendWindow};
use crate::net::limits;

/// Names a stream of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Small numbers, used again once a stream has ended: an index for who keeps things per stream.
    pub slot: u32,
    /// The number that the client gave it.
    pub id: u32,
}

/// How an answer ends once all its data is sent.
#[derive(Debug)]
pub(super) enum Ending {
    Data,
    Trailers(HeaderMap),
}

/// An open stream. Removed once both sides have ended, or one has reset it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) receive_window: ReceiveWindow,
    /// The client has sent all of the request.
    pub(super) receive_ended: bool,
    /// Bytes of the request's body that are still to come, if it said how many there are.
    pub(super) content_left: Option<u64>,
    /// Where in a message the request's body is, if it is made of messages.
    pub(super) position: Position,
    pub(super) send_window: SendWindow,
    /// To be sent when there is room for it.
    pub(super) pending: VecDeque<Bytes>,
    pub(super) ending: Option<Ending>,
    /// Has its place among those that send in turn.
    pub(super) queued: bool,
    pub(super) room: Room,
    pub(super) progress: Progress,
}

/// A place in a body of gRPC messages: five bytes that end with a length, then so many bytes. Of other
/// bodies it tells nothing, and costs them nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    Prefix {
        bytes: [u8; 5],
        length: u8,
    },
    Message {
        left: u32,
    },
    /// Something else.
    Lost,
}

impl Default for Position {
    fn default() -> Position {
        Position::Prefix { bytes: [0; 5], length: 0 }
    }
}

impl Position {
    /// Goes on by a frame; whether a message that has something in it is complete with it.
    pub(super) fn advance(&mut self, mut data: &[u8]) -> bool {
        let mut completed = false;
        while let Some((&first, rest)) = data.split_first() {
            match self {
                Position::Lost => return completed,
                Position::Message { left } => {
                    let part = data.len().min(*left as usize);
                    data = &data[part..];
                    *left -= part as u32;
                    if *left == 0 {
                        completed = true;
                        *self = Position::default();
                    }
                }
                Position::Prefix { bytes, length } => {
                    data = rest;
                    bytes[usize::from(*length)] = first;
                    *length += 1;
                    if bytes[0] != 0 {
                        *self = Position::Lost;
                    } else if *length == 5 {
                        let [_, a, b, c, d] = *bytes;
                        *self = match u32::from_be_bytes([a, b, c, d]) {
                            0 => Position::default(),
                            left => Position::Message { left },
                        };
                    }
                }
            }
        }
        completed
    }
}

/// How an answer that waits gets on, between one check and the next.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// All of the answer is here: it waits in memory, not at its source.
    pub(super) whole: bool,
    /// Bytes sent since the last check.
    pub(super) sent: usize,
    /// The most that waited at a check.
    pub(super) most: usize,
    /// Checks without progress.
    pub(super) stalled: u32,
}

impl Progress {
    /// A check: so much waits now.
    pub(super) fn check(&mut self, pending: usize) {
        let sent = mem::take(&mut self.sent);
        self.most = self.most.max(pending);
        let enough = limits::PROGRESS_BYTES.max(self.most / limits::PROGRESS_SHARE);
        if pending == 0 {
            *self = Progress { whole: self.whole, ..Progress::default() };
        } else if sent >= enough {
            self.stalled = 0;
        } else {
            self.stalled += 1;
        }
    }
}

/// Whether somebody waits for room for more data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    NotWanted,
    Wanted,
    /// There is room: the stream is on the list of those to tell.
    Listed,
}

impl Stream {
    /// Bytes that wait to be sent.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.iter().map(Bytes::len).sum()
    }

    pub(super) fn may_send_data(&self) -> bool {
        !self.pending.is_empty() && self.send_window.available() > 0
    }

    pub(super) fn has_room(&self) -> bool {
        self.pending.is_empty() && self.send_window.available() > 0
    }
}

/// The open streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
    by_id: BTreeMap<u32, u32>,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn insert(&mut self, stream: Stream) -> StreamKey {
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                // As many as may be open at a time.
                (self.slots.len() - 1) as u32
            }
        };
        let before = self.slots[slot as usize].replace(stream);
        assert!(before.is_none(), "a slot has one stream");
        self.by_id.insert(id, slot);
        StreamKey { slot, id }
    }

    pub(super) fn find(&self, id: u32) -> Option<StreamKey> {
        self.by_id.get(&id).map(|&slot| StreamKey { slot, id })
    }

    /// `None` when it has ended.
    pub(super) fn get(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.slots.get_mut(key.slot as usize)?.as_mut().filter(|stream| stream.id == key.id)
    }

    pub(super) fn remove(&mut self, key: StreamKey) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        self.slots[key.slot as usize] = None;
        self.free.push(key.slot);
        self.by_id.remove(&key.id);
        true
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = StreamKey> {
        self.by_id.iter().map(|(&id, &slot)| StreamKey { slot, id })
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = (StreamKey, &mut Stream)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, stream)| {
            let stream = stream.as_mut()?;
            Some((StreamKey { slot: slot as u32, id: stream.id }, stream))
        })
    }
}

/// How a stream ended that may still be spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// Both sides had said all they wanted to.
    Finished,
    ResetByClient,
    /// What the client sent before it heard of it is to be ignored.
    ResetByUs,
}

/// The streams that ended last.
#[derive(Debug, Default)]
pub(super) struct RecentlyClosed(VecDeque<(u32, Closed)>);

impl RecentlyClosed {
    const LENGTH: usize = 128;

    pub(super) fn push(&mut self, id: u32, closed: Closed) {
        if self.0.len() == RecentlyClosed::LENGTH {
            self.0.pop_front();
        }
        self.0.push_back((id, closed));
    }

    pub(super) fn find(&self, id: u32) -> Option<Closed> {
        self.0.iter().rev().find(|closed| closed.0 == id).map(|closed| closed.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_complete_with_their_last_byte() {
        for (name, frames, expected) in [
            ("one", &[&[0, 0, 0, 0, 2, 7, 7][..]][..], &[true][..]),
            ("two", &[&[0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 1, 7]], &[true]),
            (
                "in parts",
                &[&[0, 0], &[0, 0, 2], &[7], &[7], &[0]],
                &[false, false, false, true, false],
            ),
            ("over an end", &[&[0, 0, 0, 0, 1, 7, 0], &[0, 0, 0, 1], &[7]], &[true, false, true]),
            ("nothing", &[&[], &[0, 0, 0, 0, 0], &[0; 10]], &[false, false, false]),
            ("others", &[b"{\"key\": 1}", &[0, 0, 0, 0, 1, 7]], &[false, false]),
            ("compressed", &[&[1, 0, 0, 0, 1, 7]], &[false]),
            ("long", &[&[0, 255, 255, 255, 255, 7], &[7; 100]], &[false, false]),
        ] {
            let mut position = Position::default();
            let found: Vec<_> = frames.iter().map(|frame| position.advance(frame)).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn progress_is_a_part_of_what_waited() {
        let (step, share) = (limits::PROGRESS_BYTES, limits::PROGRESS_SHARE);
        for (name, checks, stalled) in [
            ("nothing taken", &[(0, 100), (0, 100)][..], 2),
            ("a little taken", &[(step - 1, 10 * step)], 1),
            ("enough taken", &[(0, 10 * step), (step, 9 * step)], 0),
            ("too little of much", &[(0, 100 * share * step), (10 * step, 90 * share * step)], 2),
            ("nothing waits", &[(0, 100), (0, 0)], 0),
        ] {
            let mut progress = Progress::default();
            for &(sent, pending) in checks {
                progress.sent = sent;
                progress.check(pending);
            }
            assert_eq!(progress.stalled, stalled, "{name}");
        }
    }
}
