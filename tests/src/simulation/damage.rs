//! Damage that the store claims to notice: on a copy of the disk something is changed, and a start
//! from it must be refused, or find exactly what there was.
//!
//! A frame of the log that a later one knew to be durable can't be the unfinished end of the log: a
//! bit that flips in it, or another frame in its place, is damage. (The last frames are in no way
//! different from ones that were never finished.) A snapshot vouches for each of its bytes.

use mainstay_engine::log::frame::{HEADER_BYTES, frame_bytes};
use mainstay_engine::log::replay::{Commitment, Replay};
use mainstay_engine::log::scan::{ScannedFrame, Scanner};

use super::disk::Disk;
use super::log::SALT;
use super::model::Model;
use super::random::Random;
use super::recovery::{Snapshot, recover};
use super::report::Faults;
use super::start::check_state;

pub(super) fn check(disk: &Disk, model: &Model, random: &mut Random, faults: &mut Faults) {
    if random.chance(50) {
        return;
    }
    match random.below(3) {
        0 => flip_log(disk, random, faults),
        1 => flip_snapshot(disk, model, random, faults),
        _ => misdirect(disk, random, faults),
    }
}

/// The frames that a later one knew to be durable.
fn proven(disk: &Disk) -> Vec<ScannedFrame> {
    let mut frames = frames(disk).unwrap_or_default();
    let durable = frames.last().map_or(0, |frame| frame.header.durable_position);
    frames.retain(|frame| frame.header.position <= durable);
    frames
}

fn frames(disk: &Disk) -> Option<Vec<ScannedFrame>> {
    let mut scanner = Scanner::new(SALT, disk.images(), None).ok()?;
    let mut frames = Vec::new();
    while let Some(frame) = scanner.next_frame().ok()? {
        frames.push(frame);
    }
    Some(frames)
}

fn is_refused(disk: &Disk) -> bool {
    let Ok(scanner) = Scanner::new(SALT, disk.images(), None) else { return true };
    let mut replay = Replay::new(scanner, Commitment::EveryEntry);
    loop {
        match replay.next_batch() {
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

fn flip_log(disk: &Disk, random: &mut Random, faults: &mut Faults) {
    let proven = proven(disk);
    if proven.is_empty() {
        return;
    }
    let frame = &proven[random.below(proven.len())];
    let bit = random.below((HEADER_BYTES + frame.payload.len()) * 8);
    let mut damaged = disk.clone();
    let place = frame.offset as usize + bit / 8;
    let segment = disk.segment(frame.header.segment).expect("it was read");
    damaged.put(frame.header.segment, place, &[segment[place] ^ 1 << (bit % 8)]);
    faults.log_bits += 1;
    assert!(is_refused(&damaged), "bit {bit} of {:?} flipped unnoticed", frame.header);
}

/// A frame that lands where another one was.
fn misdirect(disk: &Disk, random: &mut Random, faults: &mut Faults) {
    let (proven, all) = (proven(disk), frames(disk).unwrap_or_default());
    if proven.is_empty() {
        return;
    }
    let (target, source) = (&proven[random.below(proven.len())], &all[random.below(all.len())]);
    let length = frame_bytes(source.payload.len());
    let room = frame_bytes(target.payload.len());
    if target.header.position == source.header.position || length > room {
        return;
    }
    let from = source.offset as usize;
    let bytes =
        disk.segment(source.header.segment).expect("it was read")[from..from + length].to_vec();
    let mut damaged = disk.clone();
    damaged.put(target.header.segment, target.offset as usize, &bytes);
    faults.misdirected += 1;
    let (target, source) = (&target.header, &source.header);
    assert!(is_refused(&damaged), "{source:?} in the place of {target:?} is not noticed");
}

fn flip_snapshot(disk: &Disk, model: &Model, random: &mut Random, faults: &mut Faults) {
    let Some(newest) = disk.snapshots().next_back() else { return };
    let image = disk.snapshot(newest).expect("just seen");
    let whole = Snapshot::open(disk, newest).and_then(|snapshot| snapshot.entries());
    let bit = random.below(image.bytes.len() * 8);
    let mut bytes = image.bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    let mut damaged = disk.clone();
    damaged.put_snapshot(newest, bytes);
    faults.snapshot_bits += 1;
    let read = Snapshot::open(&damaged, newest).and_then(|snapshot| snapshot.entries());
    if let (Ok(read), Ok(whole)) = (read, whole) {
        assert_eq!(read, whole, "bit {bit} of snapshot {newest} flipped unnoticed");
    }
    // An older one, and more of the log, do as well; or the start is refused.
    let Ok(recovered) = recover(&damaged, 2, None) else { return };
    if recovered.reached.index == model.index {
        check_state(&recovered.state, model);
    }
}
