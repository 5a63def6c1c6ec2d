//! Crashes in memory: every image that the writes in flight can leave behind must recover to a
//! state that the acknowledgements allow, and damage to what was acknowledged must be reported.
//!
//! The disk of these tests persists 512-byte sectors in any order. A write that completed is
//! whole; of one in flight any sectors may be there. What was never written holds what it held.

use std::collections::BTreeSet;
use std::io;

use mainstay_raft::Membership;

use super::append::{Appender, EntryMeta, FrameMeta};
use super::decode::decode_hard_state;
use super::encode::{HardState, encode};
use super::error::LogError;
use super::frame::{BLOCK_BYTES, FrameKind, HEADER_BYTES, frame_bytes, payload_crc, read_header};
use super::replay::{Commitment, Reached, Replay, Voter};
use super::scan::{KnownEnd, LogEnd, Scanner};
use super::segment::{FORMAT_VERSION, Restart, SegmentBytes, SegmentStart, file_name};
use crate::effect::{Batch, Change, Effect, Item};
use crate::record::Record;

const SALT: u64 = 0x5a17;
const SECTOR_BYTES: usize = 512;
const CAPACITY: usize = 12 * BLOCK_BYTES;
/// Segments that there are, used or not.
const SEGMENTS: usize = 4;
/// Writes in flight at once.
const DEPTH: usize = 3;

struct Memory<'a> {
    sequence: u64,
    bytes: &'a [u8],
}

impl SegmentBytes for Memory<'_> {
    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn name(&self) -> String {
        file_name(self.sequence)
    }

    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.copy_from_slice(&self.bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

/// Segments 1, 2, ... as they are on the disk.
#[derive(Clone)]
struct Image(Vec<Vec<u8>>);

impl Image {
    /// Unused segments: zeros, or (but for the first) whole frames of older segments.
    fn unused(recycled: bool) -> Image {
        let mut segments = vec![vec![0; CAPACITY]; SEGMENTS];
        if recycled {
            for (number, segment) in segments.iter_mut().enumerate().skip(1) {
                let mut writer = Writer::new();
                writer.appender = Appender::new(
                    SALT,
                    &LogEnd { segment: number as u64 + 90, ..empty_end() },
                    CAPACITY as u64,
                    Reached::default(),
                );
                for size in [10, 5000, 100, 9000, 1] {
                    writer.append(size, 0);
                }
                for write in &writer.writes {
                    segment[write.offset..][..write.bytes.len()].copy_from_slice(&write.bytes);
                }
            }
        }
        Image(segments)
    }

    fn apply(&mut self, write: &Write, sectors: impl Fn(usize) -> bool) {
        let segment = &mut self.0[write.segment - 1];
        for (number, sector) in write.bytes.chunks(SECTOR_BYTES).enumerate() {
            if sectors(number) {
                let offset = write.offset + number * SECTOR_BYTES;
                segment[offset..offset + sector.len()].copy_from_slice(sector);
            }
        }
    }

    fn scanner(&self, known_end: Option<KnownEnd>) -> Scanner<Memory<'_>> {
        let numbered = (1..).zip(&self.0);
        let segments = numbered.map(|(sequence, bytes)| Memory { sequence, bytes });
        Scanner::new(SALT, segments.collect(), known_end).unwrap()
    }

    /// The positions of the frames that count, and where the log ends.
    fn recover(&self, writes: &[Write]) -> Result<LogEnd, LogError> {
        let mut scanner = self.scanner(None);
        let mut count = 0;
        while let Some(frame) = scanner.next_frame()? {
            let write = &writes[count];
            let frame_bytes = &write.bytes[HEADER_BYTES..][..frame.payload.len()];
            assert_eq!(frame.header.position, write.position, "not what was written");
            assert_eq!(frame.payload, frame_bytes, "not what was written");
            count += 1;
        }
        let end = scanner.end();
        assert_eq!(end.position as usize, count);
        Ok(end)
    }

    /// What a start does with the rest of a log.
    fn tidy(&mut self, end: &LogEnd) {
        if end.segment > 0 {
            let current = &mut self.0[end.segment as usize - 1];
            current[end.offset as usize..][..end.stale_bytes as usize].fill(0);
        }
        if end.stale_segments {
            for segment in &mut self.0[end.segment as usize..] {
                segment.fill(0);
            }
        }
    }
}

fn empty_end() -> LogEnd {
    LogEnd { segment: 0, offset: 0, position: 0, crc: 0, stale_bytes: 0, stale_segments: false }
}

#[derive(Clone)]
struct Write {
    segment: usize,
    offset: usize,
    position: u64,
    durable_position: u64,
    bytes: Vec<u8>,
}

impl Write {
    fn sectors(&self) -> usize {
        self.bytes.len() / SECTOR_BYTES
    }
}

/// Makes frames as the log's writer does, and remembers them.
struct Writer {
    appender: Appender,
    index: u64,
    writes: Vec<Write>,
}

impl Writer {
    fn new() -> Writer {
        let appender = Appender::new(SALT, &empty_end(), CAPACITY as u64, Reached::default());
        Writer { appender, index: 0, writes: Vec::new() }
    }

    /// Appends an entry of `size` bytes, and what has to come before it, submitted while
    /// everything up to `durable_position` was durable.
    fn append(&mut self, size: usize, durable_position: u64) {
        if !self.appender.at_segment_start() && !self.appender.fits(frame_bytes(size) as u64) {
            self.appender.change_segment(CAPACITY as u64);
        }
        if self.appender.at_segment_start() {
            let start = SegmentStart { format_version: FORMAT_VERSION, capacity: CAPACITY as u64 };
            self.place(FrameKind::SegmentStart, &start.encode(), None, durable_position);
        }
        let revision_before = self.index as i64 + 1;
        self.index += 1;
        let reached = Reached { index: self.index, term: 1, revision: revision_before + 1 };
        let payload: Vec<u8> = (0..size).map(|byte| (byte as u64 ^ self.index) as u8).collect();
        let entry = Some(EntryMeta { revision_before, reached });
        self.place(FrameKind::Entry, &payload, entry, durable_position);
    }

    /// Appends what a member of a cluster has in its log: an entry with the next index of `reached`,
    /// which may be in the place of another one.
    fn append_entry(&mut self, reached: &mut Reached, term: u64, size: usize) {
        let before = *reached;
        let (index, revision) = (before.index + 1, before.revision + 1);
        *reached = Reached { index, term, revision };
        let record = Record::new(b"key", &vec![term as u8; size], revision, revision, 1, 0);
        let changes = vec![Change { record, previous: None }];
        let batch = Batch {
            index,
            term,
            revision_before: before.revision,
            revision_after: revision,
            items: vec![Item::Effect(Effect { revision, changes })],
        };
        let payload = encode(&batch).payload;
        let entry = EntryMeta { revision_before: before.revision, reached: *reached };
        if self.appender.replaces(&entry) || !self.appender.fits(frame_bytes(payload.len()) as u64)
        {
            self.appender.change_segment(CAPACITY as u64);
        }
        if self.appender.at_segment_start() {
            if self.appender.replaces(&entry) {
                self.appender.begin_replacing(&entry);
            }
            let start = SegmentStart { format_version: FORMAT_VERSION, capacity: CAPACITY as u64 };
            self.place(FrameKind::SegmentStart, &start.encode(), None, 0);
        }
        self.place(FrameKind::Entry, &payload, Some(entry), 0);
    }

    fn append_membership(&mut self, reached: &mut Reached, voters: &[u64]) {
        let before = *reached;
        reached.index += 1;
        let entry = EntryMeta { revision_before: before.revision, reached: *reached };
        let payload = Membership::of_voters(voters).encode();
        self.place(FrameKind::Membership, &payload, Some(entry), 0);
    }

    fn append_hard_state(&mut self, state: HardState) {
        self.place(FrameKind::HardState, &state.encode(), None, 0);
    }

    fn restart(&mut self, reached: Reached, hard_state: HardState) {
        self.appender.change_segment(CAPACITY as u64);
        let start = SegmentStart { format_version: FORMAT_VERSION, capacity: CAPACITY as u64 };
        let membership = Membership::of_voters(&[1, 2, 3]);
        let payload = Restart { start, hard_state, membership }.encode();
        let entry = EntryMeta { revision_before: reached.revision, reached };
        // Nothing is in flight when it is written.
        let durable = self.appender.position();
        self.place(FrameKind::Restart, &payload, Some(entry), durable);
    }

    fn place(
        &mut self,
        kind: FrameKind,
        payload: &[u8],
        entry: Option<EntryMeta>,
        durable_position: u64,
    ) {
        // The start of a segment takes a place in flight, too.
        let durable_position =
            durable_position.max((self.appender.position() + 1).saturating_sub(DEPTH as u64));
        let mut bytes = vec![0; frame_bytes(payload.len())];
        bytes[HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
        let meta = FrameMeta {
            kind,
            payload_length: payload.len() as u32,
            payload_crc: payload_crc(payload),
            entry,
        };
        let place = self.appender.place(&meta, durable_position, &mut bytes);
        self.writes.push(Write {
            segment: place.segment as usize,
            offset: place.offset as usize,
            position: self.appender.position(),
            durable_position,
            bytes,
        });
    }
}

/// A log over two segments, with frames of one and of several blocks.
fn sample() -> Vec<Write> {
    let mut writer = Writer::new();
    for size in [100, 9000, 700, 5000, 12_000, 30, 4016, 4017] {
        writer.append(size, 0);
    }
    assert_eq!(writer.writes.last().unwrap().segment, 2);
    writer.writes
}

/// The writes that may be in flight when those before `acknowledged` have been acknowledged.
fn in_flight(writes: &[Write], acknowledged: usize) -> &[Write] {
    let rest = &writes[acknowledged..];
    let count =
        rest.iter().take_while(|write| write.durable_position <= acknowledged as u64).count();
    &rest[..count]
}

/// What a member of a cluster writes: entries, some of which are replaced, a change of members, and
/// a new beginning behind a snapshot.
fn sample_of_a_cluster() -> Vec<Write> {
    let mut writer = Writer::new();
    let mut reached = Reached { index: 0, term: 0, revision: 0 };
    for size in [100, 5000, 300] {
        writer.append_entry(&mut reached, 1, size);
    }
    let kept = reached;
    writer.append_hard_state(HardState { term: 1, vote: 2, commit: 2 });
    for size in [10, 4100] {
        writer.append_entry(&mut reached, 1, size);
    }
    writer.append_hard_state(HardState { term: 2, vote: 3, commit: 2 });
    reached = kept;
    writer.append_entry(&mut reached, 2, 200);
    writer.append_membership(&mut reached, &[1, 2, 3, 4]);
    writer.append_entry(&mut reached, 2, 6000);
    let hard_state = HardState { term: 2, vote: 3, commit: 5 };
    writer.append_hard_state(hard_state);
    reached = Reached { index: 70, term: 5, revision: 900 };
    writer.restart(reached, hard_state);
    writer.append_entry(&mut reached, 5, 100);
    writer.append_entry(&mut reached, 5, 5000);
    writer.writes
}

/// Every image that a crash can leave behind, with what had been acknowledged and what was in flight.
fn for_every_crash(writes: &[Write], mut look: impl FnMut(&Image, usize, usize)) -> usize {
    let mut images = 0;
    for recycled in [false, true] {
        let mut acknowledged_image = Image::unused(recycled);
        for acknowledged in 0..=writes.len() {
            let flying = in_flight(writes, acknowledged);
            // Each write in flight torn at each sector, either part there; the others whole or
            // not there, in every combination.
            for torn in 0..flying.len() {
                for others in 0..1 << flying.len() {
                    for cut in 0..=flying[torn].sectors() {
                        for tail in [false, true] {
                            let mut image = acknowledged_image.clone();
                            for (number, write) in flying.iter().enumerate() {
                                image.apply(write, |sector| match number == torn {
                                    true => (sector < cut) != tail,
                                    false => others & (1 << number) != 0,
                                });
                            }
                            look(&image, acknowledged, flying.len());
                            images += 1;
                        }
                    }
                }
            }
            if let Some(write) = writes.get(acknowledged) {
                acknowledged_image.apply(write, |_| true);
            }
        }
    }
    images
}

#[test]
fn every_crash_recovers_to_what_the_acknowledgements_allow() {
    let writes = sample();
    let images = for_every_crash(&writes, |image, acknowledged, flying| {
        check(image, &writes, acknowledged, flying);
    });
    assert!(images > 2000, "{images}");
}

/// What a log means that consists of these writes.
#[derive(Debug, Default, PartialEq)]
struct Meaning {
    begins_after: u64,
    /// Index and term.
    entries: Vec<(u64, u64)>,
    hard_state: HardState,
    memberships: Vec<(u64, Membership)>,
}

fn meaning(writes: &[Write]) -> Meaning {
    let mut meaning =
        Meaning { memberships: vec![(0, Membership::of_voters(&[1, 2, 3]))], ..Meaning::default() };
    for write in writes {
        let header = read_header(&write.bytes, SALT, write.segment as u64).unwrap().header;
        let payload = &write.bytes[HEADER_BYTES..][..header.payload_length as usize];
        match header.kind {
            FrameKind::SegmentStart => {
                meaning.entries.retain(|&(index, _)| index <= header.index);
                meaning.memberships.retain(|&(index, _)| index <= header.index);
            }
            FrameKind::Entry => meaning.entries.push((header.index, header.term)),
            FrameKind::Membership => {
                meaning.entries.push((header.index, header.term));
                let membership = Membership::decode(payload).unwrap();
                meaning.memberships.push((header.index, membership));
            }
            FrameKind::HardState => meaning.hard_state = decode_hard_state(payload).unwrap(),
            FrameKind::Restart => {
                let restart = Restart::decode(payload).unwrap();
                meaning.begins_after = header.index;
                meaning.entries.clear();
                meaning.hard_state = restart.hard_state;
                meaning.memberships = vec![(header.index, restart.membership)];
            }
        }
    }
    meaning
}

#[test]
fn the_log_of_a_member_means_after_every_crash_what_was_written() {
    let writes = sample_of_a_cluster();
    let mut kinds: Vec<u8> = writes.iter().map(|write| write.bytes[16]).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, [1, 2, 3, 4, 5], "every kind of frame");
    let voter = Voter { id: 1, memberships: meaning(&[]).memberships, ..Voter::default() };
    let mut seen = BTreeSet::new();
    let images = for_every_crash(&writes, |image, acknowledged, flying| {
        check(image, &writes, acknowledged, flying);
        let commitment = Commitment::HardState(voter.clone());
        let mut replay = Replay::new(image.scanner(None), commitment);
        let mut applied = 0;
        while let Some(batch) = replay.next_raw().unwrap() {
            assert!(batch.index() > applied);
            applied = batch.index();
        }
        let replayed = replay.finish();
        let count = replayed.end.position as usize;
        let expected = meaning(&writes[..count]);
        seen.insert(count);
        let base = expected.begins_after;
        let terms = |upto: u64| -> Vec<(u64, u64)> {
            let known = (base + 1..=upto).map(|index| (index, replayed.terms.at(index)));
            known.map(|(index, term)| (index, term.expect("a term"))).collect()
        };
        let last = expected.entries.last().map_or(base, |last| last.0);
        assert_eq!(replayed.reached.index, last);
        assert_eq!(terms(last), expected.entries);
        assert_eq!(replayed.memberships, expected.memberships);
        let commit = expected.hard_state.commit.max(base).min(last);
        assert_eq!(replayed.hard_state, HardState { commit, ..expected.hard_state });
        assert_eq!(replayed.applied.index, commit);
        let pending: Vec<(u64, u64)> =
            replayed.pending.iter().map(|entry| (entry.index, entry.term)).collect();
        assert_eq!(pending[..], expected.entries[(commit - base) as usize..]);
    });
    assert_eq!(seen.len(), writes.len() + 1, "every prefix: {images} images");
}

fn check(image: &Image, writes: &[Write], acknowledged: usize, flying: usize) {
    let end = image.recover(writes).unwrap_or_else(|error| panic!("{acknowledged}: {error}"));
    let count = end.position as usize;
    assert!(count >= acknowledged, "lost an acknowledged write: {count} of {acknowledged}");
    assert!(count <= acknowledged + flying);
}

#[test]
fn damage_before_an_acknowledgement_is_reported_at_its_place() {
    let writes = sample();
    let mut whole = Image::unused(true);
    for write in &writes {
        whole.apply(write, |_| true);
    }
    let known_durable = writes.iter().map(|write| write.durable_position).max().unwrap();
    let mut index = 0;
    for write in &writes {
        let payload = write.bytes[20..24].try_into().map(u32::from_le_bytes).unwrap() as usize;
        let step = if payload > 1000 { 61 } else { 1 };
        for byte in (0..HEADER_BYTES + payload).step_by(step) {
            let mut image = whole.clone();
            image.0[write.segment - 1][write.offset + byte] ^= 0x10;
            let found = image.recover(&writes);
            if write.position > known_durable {
                // Nothing on the disk tells that it had been acknowledged.
                assert_eq!(found.unwrap().position, write.position - 1);
                continue;
            }
            match found {
                Err(LogError::Corrupt { file, offset, expected_index, revision, .. }) => {
                    // A bad first block is only found when the segment before has ended.
                    let (expected_file, expected_offset) = match (write.segment, write.offset) {
                        (2, 0) => (1, end_of_segment(&writes, 1)),
                        place => place,
                    };
                    assert_eq!(file, file_name(expected_file as u64), "byte {byte}");
                    assert_eq!(offset as usize, expected_offset, "byte {byte}");
                    assert_eq!(expected_index, index + 1);
                    assert_eq!(revision, index as i64 + i64::from(index > 0));
                }
                other => panic!("position {}, byte {byte}: {other:?}", write.position),
            }
        }
        index += u64::from(write.bytes[16] == 2);
    }
}

fn end_of_segment(writes: &[Write], segment: usize) -> usize {
    let last = writes.iter().rfind(|write| write.segment == segment).unwrap();
    last.offset + last.bytes.len()
}

#[test]
fn a_lost_or_misplaced_acknowledged_write_is_reported() {
    let writes = sample();
    let known_durable = writes.iter().map(|write| write.durable_position).max().unwrap() as usize;
    for recycled in [false, true] {
        for lost in 0..known_durable {
            let mut image = Image::unused(recycled);
            for (number, write) in writes.iter().enumerate() {
                image.apply(write, |_| number != lost);
            }
            let found = image.recover(&writes);
            assert!(matches!(found, Err(LogError::Corrupt { .. })), "{lost} {found:?}");
            // An intact frame from elsewhere in the log in its place is no better.
            let mut stranger = writes[(lost + 1) % known_durable].clone();
            (stranger.segment, stranger.offset) = (writes[lost].segment, writes[lost].offset);
            stranger.bytes.truncate(writes[lost].bytes.len());
            image.apply(&stranger, |_| true);
            let found = image.recover(&writes);
            assert!(matches!(found, Err(LogError::Corrupt { .. })), "{lost} {found:?}");
        }
    }
}

#[test]
fn a_missing_segment_is_reported() {
    let image = Image::unused(false);
    let memory = |sequence| Memory { sequence, bytes: &image.0[0] };
    let Err(error) = Scanner::new(SALT, vec![memory(4), memory(6)], None) else {
        panic!("accepted")
    };
    assert!(error.to_string().contains("lacks 0000000000000005.log"), "{error}");
    // Without its first block, the oldest segment that is kept is damaged, not new.
    let mut scanner = Scanner::new(SALT, vec![memory(4)], None).unwrap();
    assert!(matches!(scanner.next_frame(), Err(LogError::Corrupt { offset: 0, .. })));
}

#[test]
fn a_frame_that_followed_another_one_does_not_connect() {
    // Two continuations of the same log, as a crash and a lost wipe would leave them: the second
    // one's third frame, and the first one's fourth, both intact and each at its place.
    let (mut first, mut second) = (Writer::new(), Writer::new());
    for (size, other) in [(10, 10), (20, 21), (30, 30)] {
        first.append(size, 0);
        second.append(other, 0);
    }
    let mut image = Image::unused(false);
    for write in [&second.writes[0], &second.writes[1], &second.writes[2], &first.writes[3]] {
        image.apply(write, |_| true);
    }
    assert_eq!(first.writes[3].offset, second.writes[3].offset);
    assert_eq!(image.recover(&second.writes).unwrap().position, 3);
}

#[test]
fn a_noted_end_shows_damage_to_the_last_frame() {
    let writes = sample();
    let mut image = Image::unused(true);
    for write in &writes {
        image.apply(write, |_| true);
    }
    let whole = image.recover(&writes).unwrap();
    let known_end = Some(KnownEnd { position: whole.position, crc: whole.crc });
    let last = writes.last().unwrap();
    for (byte, damaged) in [(0, true), (100, true), (last.bytes.len() - 1, false)] {
        let mut image = image.clone();
        image.0[last.segment - 1][last.offset + byte] ^= 1;
        let mut scanner = image.scanner(known_end);
        let end = loop {
            match scanner.next_frame() {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        match end {
            Err(LogError::Corrupt { offset, .. }) => {
                assert!(damaged && offset as usize == last.offset)
            }
            other => assert!(!damaged && other == Ok(None), "{other:?}"),
        }
    }
}

/// A small generator (xorshift), so that a seed tells everything.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn crashes_one_after_another_never_lose_or_invent_anything() {
    for seed in 1..=200 {
        crash_repeatedly(seed);
    }
}

/// Runs a log through several crashes with writes in flight, any sectors of which arrive.
fn crash_repeatedly(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut image = Image::unused(random.below(2) == 0);
    let mut writer = Writer::new();
    for _ in 0..4 {
        // Everything recovered counts as durable from here on.
        let recovered = writer.writes.len();
        let mut durable = recovered;
        for _ in 0..random.below(6) {
            let size = [20, 3000, 5000, 9000][random.below(4)];
            writer.append(size, durable as u64);
            let newest = writer.writes.last().unwrap().durable_position as usize;
            durable = durable.max(newest) + random.below(2);
            durable = durable.min(writer.writes.len());
        }
        let newest = writer.writes.iter().map(|write| write.durable_position).max().unwrap_or(0);
        let acknowledged = durable.max(newest as usize);
        for (number, write) in writer.writes.iter().enumerate().skip(recovered) {
            let kind = random.below(3);
            let mask = random.below(usize::MAX >> 33);
            image.apply(write, |sector| {
                number < acknowledged || kind == 1 || (kind == 2 && mask >> (sector % 31) & 1 == 1)
            });
        }
        let end =
            image.recover(&writer.writes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let count = end.position as usize;
        assert!(count >= acknowledged, "seed {seed}: lost an acknowledged write");
        image.tidy(&end);
        assert_eq!(image.recover(&writer.writes).unwrap().position, end.position, "seed {seed}");
        writer.writes.truncate(count);
        writer.index = writer.writes.iter().filter(|write| write.bytes[16] == 2).count() as u64;
        let reached = Reached { index: writer.index, term: 1, revision: writer.index as i64 + 1 };
        writer.appender = Appender::new(SALT, &end, CAPACITY as u64, reached);
        if writer.appender.segment() == 3 {
            return;
        }
    }
}
