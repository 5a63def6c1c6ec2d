//! The log's writer on the simulated disk: the places and headers of frames are the engine's, which
//! write ends when is the seed's.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mainstay_engine::effect::SharedBatch;
use mainstay_engine::log::HardState;
use mainstay_engine::log::append::{Appender, EntryMeta, FrameMeta};
use mainstay_engine::log::decode::{decode, visit_changes};
use mainstay_engine::log::frame::{
    BLOCK_BYTES, FrameHeader, FrameKind, HEADER_BYTES, frame_bytes, payload_crc, read_header,
};
use mainstay_engine::log::replay::{Place, Reached};
use mainstay_engine::log::scan::LogEnd;
use mainstay_engine::log::segment::{FORMAT_VERSION, SegmentStart};
use mainstay_engine::sequencer::LogWrite;
use mainstay_engine::{Record, Revision};

use super::bugs::Bug;
use super::disk::Disk;
use super::random::Random;

pub(super) const SALT: u64 = 0x5eed;

/// Frames in flight at once.
const DEPTH: usize = 6;

/// A frame that has no place yet.
struct Waiting {
    meta: FrameMeta,
    payload: Bytes,
    hard_state: Option<HardState>,
}

struct InFlight {
    /// The disk's number.
    write: u64,
    position: u64,
    place: Place,
    hard_state: Option<HardState>,
    done: bool,
}

/// Where revisions and keys are in the durable log.
#[derive(Default)]
pub(super) struct Places {
    entries: Vec<Place>,
    /// By key: revisions with the numbers of their entries.
    keys: BTreeMap<Vec<u8>, Vec<(Revision, usize)>>,
    /// `(sequence, first index)` of the segments that hold frames.
    segments: VecDeque<(u64, u64)>,
}

impl Places {
    /// Takes note of a frame whose bytes are on the disk.
    pub(super) fn add(&mut self, place: Place, disk: &Disk) {
        match place.kind {
            FrameKind::SegmentStart | FrameKind::Restart => {
                self.segments.push_back((place.segment, place.index + 1));
            }
            FrameKind::HardState | FrameKind::Membership => {}
            FrameKind::Entry => {
                let (header, payload) = frame_at(disk, &place).expect("it was written just now");
                let number = self.entries.len();
                self.entries.push(place);
                let (before, after) = (header.revision_before, header.revision_after);
                visit_changes(before, after, payload, |change| {
                    let revisions = self.keys.entry(change.key.to_vec()).or_default();
                    revisions.push((change.revision, number));
                })
                .expect("it was encoded just now");
            }
        }
    }

    /// Gives up the segments that hold nothing but entries before `index`; never the newest.
    pub(super) fn release_before(&mut self, index: u64, disk: &mut Disk) -> usize {
        let mut released = 0;
        while self.segments.get(1).is_some_and(|&(_, first)| first <= index) {
            let (sequence, _) = self.segments.pop_front().expect("just seen");
            disk.remove_segment(sequence);
            released += 1;
        }
        released
    }

    /// Where an entry is, if it is durable.
    pub(super) fn place_of(&self, index: u64) -> Option<Place> {
        self.entries.iter().rev().find(|place| place.index == index).copied()
    }

    fn first_segment(&self) -> u64 {
        self.segments.front().map_or(1, |&(sequence, _)| sequence)
    }

    /// The newest version of a key at or before `revision` that the log has. `Err` when it may have
    /// been in a segment that was released.
    pub(super) fn find(
        &self,
        disk: &Disk,
        key: &[u8],
        revision: Revision,
    ) -> Result<Option<Record>, Released> {
        let revisions = self.keys.get(key).map_or(&[][..], Vec::as_slice);
        let newest = revisions.iter().rev().find(|&&(at, _)| at <= revision);
        let retained =
            newest.filter(|(_, number)| self.entries[*number].segment >= self.first_segment());
        let Some(&(at, number)) = retained else {
            return if self.first_segment() == 1 { Ok(None) } else { Err(Released) };
        };
        let (header, payload) = frame_at(disk, &self.entries[number])
            .unwrap_or_else(|| panic!("the log lost revision {at} of {key:?}"));
        let mut found = None;
        visit_changes(header.revision_before, header.revision_after, payload, |change| {
            if change.revision == at && change.key == key {
                found = Some(change.to_record());
            }
        })
        .expect("its checksums hold");
        Ok(found)
    }

    /// Some batches from the one that holds `revision` on.
    pub(super) fn read_from(
        &self,
        disk: &Disk,
        revision: Revision,
        max: usize,
    ) -> Result<Vec<SharedBatch>, Released> {
        let first = self.entries.partition_point(|place| place.revision_after < revision);
        let places = self.entries.iter().skip(first).take(max);
        if places.clone().next().is_some_and(|place| place.revision_before >= revision) {
            return Err(Released);
        }
        let mut batches = Vec::new();
        for place in places {
            if place.segment < self.first_segment() {
                return Err(Released);
            }
            let (header, payload) = frame_at(disk, place).expect("it is durable");
            let batch = decode(&header, payload).expect("its checksums hold");
            batches.push(SharedBatch::new(batch));
        }
        Ok(batches)
    }
}

/// It is in a segment that was given up.
#[derive(Debug)]
pub(super) struct Released;

/// A frame, if it is whole.
fn frame_at<'a>(disk: &'a Disk, place: &Place) -> Option<(FrameHeader, &'a [u8])> {
    let bytes = disk.segment(place.segment)?;
    let frame = &bytes[place.offset as usize..place.end as usize];
    let read = read_header(frame, SALT, place.segment).ok()?;
    let payload = &frame[HEADER_BYTES..][..read.header.payload_length as usize];
    read.check_payload(payload).ok()?;
    Some((read.header, payload))
}

/// The writing end.
pub(super) struct Log {
    appender: Appender,
    segment_bytes: u64,
    waiting: VecDeque<Waiting>,
    in_flight: VecDeque<InFlight>,
    durable_position: u64,
    /// The newest entry that is durable, or passes for it.
    durable_index: u64,
    hard_state: HardState,
    pub(super) places: Places,
    /// Bytes that became durable since the start.
    pub(super) bytes: u64,
    bug: Option<Bug>,
}

impl Log {
    pub(super) fn new(
        end: &LogEnd,
        capacity: u64,
        reached: Reached,
        hard_state: HardState,
        places: Places,
        segment_bytes: u64,
        bug: Option<Bug>,
    ) -> Log {
        Log {
            appender: Appender::new(SALT, end, capacity, reached),
            segment_bytes,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            durable_position: end.position,
            durable_index: reached.index,
            hard_state,
            places,
            bytes: 0,
            bug,
        }
    }

    pub(super) fn write(&mut self, write: LogWrite) {
        if let Some(state) = write.hard_state {
            let state = HardState { term: state.term, vote: state.vote, commit: state.commit };
            let payload = Bytes::copy_from_slice(&state.encode());
            self.wait(FrameKind::HardState, payload, None, Some(state));
        }
        for entry in write.entries {
            let (index, term, revision) = (entry.index, entry.term, entry.revision_after);
            let reached = Reached { index, term, revision };
            let meta = EntryMeta { revision_before: entry.revision_before, reached };
            self.wait(FrameKind::Entry, entry.payload, Some(meta), None);
        }
    }

    fn wait(
        &mut self,
        kind: FrameKind,
        payload: Bytes,
        entry: Option<EntryMeta>,
        hard_state: Option<HardState>,
    ) {
        let payload_length = payload.len() as u32;
        let meta = FrameMeta { kind, payload_length, payload_crc: payload_crc(&payload), entry };
        self.waiting.push_back(Waiting { meta, payload, hard_state });
    }

    /// Hands what waits to the disk, as far as it takes more. Gives what counts as durable if that
    /// changed.
    pub(super) fn submit(&mut self, disk: &mut Disk, random: &mut Random) -> Option<u64> {
        while self.in_flight.len() < DEPTH
            && let Some(first) = self.waiting.front()
        {
            let length = frame_bytes(first.meta.payload_length as usize) as u64;
            if self.appender.at_segment_start() {
                self.start_segment(disk);
            } else if self.appender.fits(length) {
                let waiting = self.waiting.pop_front().expect("just seen");
                self.place(disk, waiting);
            } else if !self.change_segment(length, disk, random) {
                break;
            }
        }
        if self.bug != Some(Bug::AckBeforeSync) {
            return None;
        }
        let newest = self.in_flight.iter().rev().find(|write| write.place.kind == FrameKind::Entry);
        self.acknowledge(newest.map_or(0, |write| write.place.index))
    }

    fn change_segment(&mut self, length: u64, disk: &mut Disk, random: &mut Random) -> bool {
        let capacity = self.segment_bytes.max(length + BLOCK_BYTES as u64);
        let sequence = self.appender.segment() + 1;
        // One that was made ready before a crash may be there.
        let room = match disk.segment(sequence).map(<[u8]>::len) {
            Some(room) if room as u64 >= length + BLOCK_BYTES as u64 => room as u64,
            Some(_) => {
                disk.remove_segment(sequence);
                return self.change_segment(length, disk, random);
            }
            None => {
                let mut contents = vec![0; capacity as usize];
                if random.chance(30)
                    && let Some(old) = disk.segments().next()
                    && let Some(bytes) = disk.segment(old)
                {
                    // Recycled: the frames of an older one are still in it.
                    let length = bytes.len().min(contents.len());
                    contents[..length].copy_from_slice(&bytes[..length]);
                }
                if !disk.create_segment(sequence, contents) {
                    return false;
                }
                capacity
            }
        };
        self.appender.change_segment(room);
        self.start_segment_of(room, disk);
        true
    }

    fn start_segment(&mut self, disk: &mut Disk) {
        let room = disk.segment(self.appender.segment()).expect("the start made it").len();
        self.start_segment_of(room as u64, disk);
    }

    fn start_segment_of(&mut self, capacity: u64, disk: &mut Disk) {
        let start = SegmentStart { format_version: FORMAT_VERSION, capacity };
        let payload = Bytes::copy_from_slice(&start.encode());
        let payload_length = payload.len() as u32;
        let payload_crc = payload_crc(&payload);
        let kind = FrameKind::SegmentStart;
        let meta = FrameMeta { kind, payload_length, payload_crc, entry: None };
        self.place(disk, Waiting { meta, payload, hard_state: None });
    }

    fn place(&mut self, disk: &mut Disk, waiting: Waiting) {
        let Waiting { meta, payload, hard_state } = waiting;
        let mut frame = vec![0; frame_bytes(payload.len())];
        frame[HEADER_BYTES..][..payload.len()].copy_from_slice(&payload);
        let place = self.appender.place(&meta, self.durable_position, &mut frame);
        let write = disk.submit(place.segment, place.offset, frame);
        let position = self.appender.position();
        let done = false;
        self.in_flight.push_back(InFlight { write, position, place, hard_state, done });
    }

    /// A write ended. Gives up to which index the log is durable if that changed.
    pub(super) fn written(&mut self, write: u64, disk: &Disk) -> Option<u64> {
        let ended = self.in_flight.iter_mut().find(|in_flight| in_flight.write == write);
        ended.expect("it was in flight").done = true;
        let mut reached = 0;
        while let Some(first) = self.in_flight.pop_front_if(|first| first.done) {
            self.durable_position = first.position;
            self.places.add(first.place, disk);
            if let Some(hard_state) = first.hard_state {
                self.hard_state = hard_state;
            }
            if first.place.kind == FrameKind::Entry {
                reached = first.place.index;
                self.bytes += first.place.end - first.place.offset;
            }
        }
        self.acknowledge(reached)
    }

    fn acknowledge(&mut self, index: u64) -> Option<u64> {
        if index <= self.durable_index {
            return None;
        }
        self.durable_index = index;
        Some(index)
    }

    pub(super) fn durable_index(&self) -> u64 {
        self.durable_index
    }

    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Whether everything that was appended is durable.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }
}
