//! What waits to be sent to one peer, and what goes next.
//!
//! Every kind of message has a queue, and every queue a bound. What is short and urgent (votes,
//! heartbeats, acknowledgements) always goes first; the others take turns, a frame each, so that
//! neither a snapshot nor a large answer holds up entries. Messages of one kind keep their order.

use std::collections::{BTreeSet, VecDeque};

use super::frame::Kind;
use super::wire::{self, Encoded};
use super::{PeerMessage, limits};
use crate::error::StoreError;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// It waits to be sent.
    Queued,
    /// So many messages are lost: this one, or older ones that it took the place of.
    Dropped(usize),
    /// It is a request and is not going to be sent: nothing was done, and this is why.
    Refused(StoreError),
}

/// Those kinds that take turns.
const TURNS: [Kind; 4] = [Kind::Append, Kind::Request, Kind::Answer, Kind::Snapshot];

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Encoded>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, message: Encoded) {
        self.bytes += message.length();
        self.messages.push_back(message);
    }

    /// Drops the oldest messages until there is room for `more` bytes, but never one of which a
    /// part was sent. How many were dropped.
    fn make_room(&mut self, count: usize, bytes: usize, more: usize) -> usize {
        let mut dropped = 0;
        while !self.messages.is_empty()
            && (self.messages.len() >= count || self.bytes + more > bytes)
        {
            let place = usize::from(self.messages[0].is_begun());
            let Some(oldest) = self.messages.remove(place) else { break };
            self.bytes -= oldest.length();
            dropped += 1;
        }
        dropped
    }

    fn write_frame(&mut self, batch: &mut Vec<u8>) {
        let message = self.messages.front_mut().expect("asked when there is one");
        if message.write_frame(batch) {
            self.bytes -= message.length();
            self.messages.pop_front();
        }
    }
}

/// The queues of one peer.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The version agreed on with whoever is at the other end; nothing is queued while nobody is.
    version: Option<u16>,
    /// The peer has a connection to here, so that answers can come.
    is_heard: bool,
    /// Frames of the connection itself.
    control: Vec<u8>,
    urgent: Queue,
    queues: [Queue; TURNS.len()],
    /// Whose turn it is.
    turn: usize,
    /// Requests without an answer.
    open: BTreeSet<u64>,
}

impl Outbox {
    /// There is a connection to the peer.
    pub fn connect(&mut self, version: u16) {
        assert!(self.version.is_none() && self.is_empty());
        self.version = Some(version);
    }

    /// The connection is lost, and with it all that waits. Gives the requests that are not going to
    /// be answered.
    pub fn disconnect(&mut self) -> Vec<u64> {
        let open = std::mem::take(&mut self.open);
        *self = Outbox { is_heard: self.is_heard, ..Outbox::default() };
        open.into_iter().collect()
    }

    pub fn is_connected(&self) -> bool {
        self.version.is_some()
    }

    /// The peer has a connection to here, or has not any more: gives the requests whose answers are
    /// lost with it.
    pub fn set_heard(&mut self, is_heard: bool) -> Vec<u64> {
        self.is_heard = is_heard;
        if is_heard {
            return Vec::new();
        }
        std::mem::take(&mut self.open).into_iter().collect()
    }

    /// The request of this number is answered. Whether it was waiting for that.
    pub fn answered(&mut self, number: u64) -> bool {
        self.open.remove(&number)
    }

    /// Requests without an answer.
    pub fn open_requests(&self) -> usize {
        self.open.len()
    }

    /// Queues a message.
    pub fn push(&mut self, message: &PeerMessage) -> Pushed {
        let request = match message {
            PeerMessage::Request { number, .. } => Some(*number),
            _ => None,
        };
        let Some(version) = self.version else {
            return if request.is_some() {
                refused(StoreError::NoLeader)
            } else {
                Pushed::Dropped(1)
            };
        };
        match request {
            // Its answer would not find the way.
            Some(_) if !self.is_heard => return refused(StoreError::NoLeader),
            Some(_) if self.open.len() >= limits::REQUESTS => {
                return refused(StoreError::TooManyRequests);
            }
            _ => {}
        }
        let Some(encoded) = wire::encode(message, version).or_else(|| too_long(message, version))
        else {
            return if request.is_some() {
                refused(StoreError::TooLarge)
            } else {
                Pushed::Dropped(1)
            };
        };
        self.queue(encoded, request)
    }

    fn queue(&mut self, encoded: Encoded, request: Option<u64>) -> Pushed {
        let length = encoded.length();
        let (queue, count, bytes) = match encoded.kind() {
            Kind::Append => (self.of(Kind::Append), usize::MAX, limits::APPEND_QUEUE_BYTES),
            Kind::Snapshot => (self.of(Kind::Snapshot), usize::MAX, limits::SNAPSHOT_QUEUE_BYTES),
            Kind::Request => {
                let queue = self.of(Kind::Request);
                if !queue.messages.is_empty() && queue.bytes + length > limits::REQUEST_QUEUE_BYTES
                {
                    return refused(StoreError::TooManyRequests);
                }
                (queue, usize::MAX, usize::MAX)
            }
            Kind::Answer => (self.of(Kind::Answer), limits::ANSWERS, usize::MAX),
            _ => (&mut self.urgent, limits::SHORT_QUEUE, usize::MAX),
        };
        let dropped = queue.make_room(count, bytes, length);
        queue.push(encoded);
        self.open.extend(request);
        if dropped > 0 { Pushed::Dropped(dropped) } else { Pushed::Queued }
    }

    fn of(&mut self, kind: Kind) -> &mut Queue {
        let place = TURNS.iter().position(|turn| *turn == kind).expect("all that take turns");
        &mut self.queues[place]
    }

    /// Queues a frame of the connection itself, before everything else.
    pub fn say(&mut self, frame: &[u8]) {
        self.control.extend_from_slice(frame);
    }

    pub fn is_empty(&self) -> bool {
        self.control.is_empty()
            && self.urgent.messages.is_empty()
            && self.queues.iter().all(|queue| queue.messages.is_empty())
    }

    /// Takes what is to be sent next, as much as goes in one write.
    pub fn fill(&mut self, batch: &mut Vec<u8>) {
        batch.append(&mut self.control);
        while batch.len() < limits::BATCH_BYTES {
            if !self.urgent.messages.is_empty() {
                self.urgent.write_frame(batch);
                continue;
            }
            let places = (0..TURNS.len()).map(|step| (self.turn + step) % TURNS.len());
            let mut waiting = places.filter(|place| !self.queues[*place].messages.is_empty());
            let Some(place) = waiting.next() else { return };
            self.queues[place].write_frame(batch);
            self.turn = (place + 1) % TURNS.len();
        }
    }
}

fn refused(error: StoreError) -> Pushed {
    Pushed::Refused(error)
}

/// What whoever asked is told instead of an answer that is too long for anybody.
fn too_long(message: &PeerMessage, version: u16) -> Option<Encoded> {
    let PeerMessage::Answer { number, index, .. } = message else { return None };
    let text = "the answer is longer than members send each other: it was done, but to read so much \
                ask the leader itself, or for less at a time";
    let outcome = Err(StoreError::HistoryUnreadable(text.to_owned()));
    wire::encode(&PeerMessage::Answer { number: *number, outcome, index: *index }, version)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mainstay_raft::{Body, Entry, EntryKind, Membership, Message, Snapshot, SnapshotPart};

    use super::*;
    use crate::message::{Answer, Request};
    use crate::peer::frame::Reader;

    fn raft(body: Body) -> PeerMessage {
        PeerMessage::Raft(Message { from: 1, to: 2, term: 3, incarnation: 4, body })
    }

    fn heartbeat(round: u64) -> PeerMessage {
        raft(Body::Heartbeat { round, tick: 0, commit: 0 })
    }

    fn append(index: u64, bytes: usize) -> PeerMessage {
        let data = Bytes::from(vec![7; bytes]);
        let entries = vec![Entry { index, term: 3, kind: EntryKind::Normal, data }];
        raft(Body::Append { prev_index: index - 1, prev_term: 3, entries, commit: 0 })
    }

    fn part(offset: u64, bytes: usize) -> PeerMessage {
        let membership = Membership::of_voters(&[1, 2]);
        let snapshot = Snapshot { index: 9, term: 3, fingerprint: 5, membership };
        let data = Bytes::from(vec![9; bytes]);
        raft(Body::SnapshotPart(SnapshotPart { snapshot, offset, data, done: false }))
    }

    fn request(number: u64) -> PeerMessage {
        PeerMessage::Request { number, request: Request::Leases }
    }

    fn connected() -> Outbox {
        let mut outbox = Outbox::default();
        outbox.connect(1);
        outbox.set_heard(true);
        outbox
    }

    /// What arrives, in order: kinds and, for heartbeats and entries, their number.
    fn drain(outbox: &mut Outbox) -> Vec<(Kind, u64)> {
        let mut reader = Reader::default();
        reader.agree(1);
        let mut arrived = Vec::new();
        while !outbox.is_empty() {
            let mut batch = Vec::new();
            outbox.fill(&mut batch);
            for mut bytes in batch.chunks(limits::FRAME_BYTES) {
                while !bytes.is_empty() {
                    let space = reader.space();
                    let count = space.len().min(bytes.len());
                    space[..count].copy_from_slice(&bytes[..count]);
                    reader.filled(count);
                    bytes = &bytes[count..];
                    while let Some(received) = reader.next_message().expect("good frames") {
                        arrived.push((received.kind, number(&received)));
                    }
                }
            }
        }
        assert!(!reader.is_within_message());
        arrived
    }

    fn number(received: &crate::peer::frame::Received) -> u64 {
        match wire::decode(received).expect("a message") {
            PeerMessage::Raft(Message { body: Body::Heartbeat { round, .. }, .. }) => round,
            PeerMessage::Raft(Message { body: Body::Append { prev_index, .. }, .. }) => {
                prev_index + 1
            }
            PeerMessage::Raft(Message { body: Body::SnapshotPart(part), .. }) => part.offset,
            PeerMessage::Request { number, .. } | PeerMessage::Answer { number, .. } => number,
            PeerMessage::Raft(_) => 0,
        }
    }

    #[test]
    fn urgent_messages_overtake_and_others_take_turns() {
        let mut outbox = connected();
        for message in [part(0, 300 << 10), append(1, 10), append(2, 200 << 10), append(3, 10)] {
            assert_eq!(outbox.push(&message), Pushed::Queued);
        }
        assert_eq!(outbox.push(&request(5)), Pushed::Queued);
        // The first batch is under way when something urgent comes.
        let mut batch = Vec::new();
        outbox.fill(&mut batch);
        assert!(batch.len() >= limits::BATCH_BYTES);
        assert_eq!(outbox.push(&heartbeat(8)), Pushed::Queued);
        let mut second = Vec::new();
        outbox.fill(&mut second);
        let kind = u16::from_le_bytes([second[4], second[5]]);
        assert_eq!(kind, Kind::Raft.number(), "the heartbeat is first");
    }

    #[test]
    fn everything_arrives_in_its_order() {
        let mut outbox = connected();
        outbox.push(&part(0, 300 << 10));
        for index in 1..=40 {
            outbox.push(&append(index, 20 << 10));
            outbox.push(&heartbeat(index));
        }
        outbox.push(&part(1, 10));
        let arrived = drain(&mut outbox);
        for (kind, count) in [(Kind::Raft, 40), (Kind::Append, 40), (Kind::Snapshot, 2)] {
            let numbers: Vec<u64> =
                arrived.iter().filter(|one| one.0 == kind).map(|one| one.1).collect();
            assert!(numbers.is_sorted() && numbers.len() == count, "{kind:?}: {numbers:?}");
        }
        assert!(outbox.queues.iter().all(|queue| queue.bytes == 0));
    }

    #[test]
    fn the_oldest_messages_of_raft_go_when_there_are_too_many() {
        let mut outbox = connected();
        for round in 0..limits::SHORT_QUEUE as u64 {
            assert_eq!(outbox.push(&heartbeat(round)), Pushed::Queued);
        }
        assert_eq!(outbox.push(&heartbeat(99_999)), Pushed::Dropped(1));
        let large = limits::APPEND_QUEUE_BYTES / 4;
        for index in 1..=3 {
            assert_eq!(outbox.push(&append(index, large)), Pushed::Queued);
        }
        assert_eq!(outbox.push(&append(4, large)), Pushed::Dropped(1), "headers count, too");
        let arrived = drain(&mut outbox);
        assert_eq!(arrived[0], (Kind::Raft, 1));
        assert_eq!(arrived[limits::SHORT_QUEUE - 1], (Kind::Raft, 99_999));
        let entries: Vec<u64> =
            arrived.iter().filter(|one| one.0 == Kind::Append).map(|one| one.1).collect();
        assert_eq!(entries, [2, 3, 4]);
    }

    #[test]
    fn what_is_half_sent_is_not_dropped() {
        let mut outbox = connected();
        outbox.push(&append(1, limits::APPEND_QUEUE_BYTES));
        let mut batch = Vec::new();
        outbox.fill(&mut batch);
        assert_eq!(outbox.push(&append(2, 10)), Pushed::Queued, "nothing may go");
        assert_eq!(outbox.push(&append(3, 10)), Pushed::Dropped(1), "the second may");
        let (mut bytes, mut rest) = (batch.len(), Vec::new());
        while !outbox.is_empty() {
            rest.clear();
            outbox.fill(&mut rest);
            bytes += rest.len();
        }
        assert!(bytes > limits::APPEND_QUEUE_BYTES);
    }

    #[test]
    fn requests_are_refused_rather_than_lost() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(&request(1)), Pushed::Refused(StoreError::NoLeader));
        assert_eq!(outbox.push(&heartbeat(1)), Pushed::Dropped(1));
        outbox.connect(1);
        assert_eq!(outbox.push(&request(1)), Pushed::Refused(StoreError::NoLeader));
        assert!(outbox.set_heard(true).is_empty());
        for number in 0..limits::REQUESTS as u64 {
            assert_eq!(outbox.push(&request(number)), Pushed::Queued);
        }
        assert_eq!(outbox.push(&request(1 << 40)), Pushed::Refused(StoreError::TooManyRequests));
        assert!(outbox.answered(0) && !outbox.answered(0) && !outbox.answered(1 << 40));
        assert_eq!(outbox.push(&request(1 << 40)), Pushed::Queued);
        assert_eq!(outbox.disconnect().len(), limits::REQUESTS);
        assert!(outbox.is_empty() && !outbox.is_connected());
        assert_eq!(outbox.push(&request(1)), Pushed::Refused(StoreError::NoLeader));

        outbox.connect(1);
        assert_eq!(outbox.push(&request(7)), Pushed::Queued, "the peer is still heard");
        assert_eq!(outbox.set_heard(false), [7]);
        let answer = PeerMessage::Answer { number: 7, outcome: Ok(Answer::Done), index: 1 };
        assert_eq!(outbox.push(&answer), Pushed::Queued, "the peer may hear us");
    }
}
