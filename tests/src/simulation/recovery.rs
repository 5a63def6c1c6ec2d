//! A start: the newest whole snapshot and the log behind it, by the engine's own code.

use std::sync::Arc;

use mainstay_engine::effect::Batch;
use mainstay_engine::log::HardState;
use mainstay_engine::log::frame::BLOCK_BYTES;
use mainstay_engine::log::replay::{Behind, Commitment, Reached, Replay};
use mainstay_engine::log::scan::{LogEnd, Scanner};
use mainstay_engine::mvcc::Settled;
use mainstay_engine::placement;
use mainstay_engine::restored::{State, follow};
use mainstay_engine::snapshot::policy::Kept;
use mainstay_engine::snapshot::{Layout, SnapshotError};

use super::bugs::Bug;
use super::disk::{Disk, SnapshotImage};
use super::log::{Places, SALT};

/// A snapshot that can be read.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) image: SnapshotImage,
    pub(super) layout: Layout,
}

impl Snapshot {
    pub(super) fn open(disk: &Disk, index: u64) -> Result<Snapshot, SnapshotError> {
        let image = disk.snapshot(index).expect("it is in the folder");
        let layout = Layout::read(&image, SALT, index)?;
        Ok(Snapshot { image, layout })
    }

    pub(super) fn kept(&self) -> Kept {
        Kept { index: self.layout.header.index, end: self.layout.footer.end.revision }
    }

    /// Every entry, in the order of the file.
    pub(super) fn entries(&self) -> Result<Vec<Settled>, SnapshotError> {
        let mut entries = Vec::new();
        for number in self.layout.blocks_of_runs(0..self.layout.header.runs) {
            self.layout.read_entries(&self.image, number, |entry| entries.push(entry))?;
        }
        Ok(entries)
    }
}

/// What a start finds.
pub(super) struct Recovered {
    pub(super) state: State,
    pub(super) reached: Reached,
    pub(super) promised: HardState,
    pub(super) end: LogEnd,
    /// All that the log still has.
    pub(super) batches: Vec<Batch>,
    pub(super) places: Places,
    /// By index; the newest is what the state was loaded from.
    pub(super) snapshots: Vec<Snapshot>,
    /// Snapshots that can't be used.
    pub(super) damaged: Vec<u64>,
}

/// Finds out what the disk holds, for so many cores. Changes nothing.
pub(super) fn recover(disk: &Disk, cores: usize, bug: Option<Bug>) -> Result<Recovered, String> {
    let mut state = State::new(cores);
    let (mut snapshots, mut damaged) = (Vec::new(), Vec::new());
    for index in disk.snapshots().rev() {
        let loaded = Snapshot::open(disk, index).and_then(|snapshot| {
            if snapshots.is_empty() {
                state = load(&snapshot, cores)?;
            }
            Ok(snapshot)
        });
        match loaded {
            Ok(snapshot) => snapshots.insert(0, snapshot),
            Err(_) => damaged.push(index),
        }
    }
    let behind = snapshots.last().map_or(Behind::default(), |newest| {
        let header = newest.layout.header;
        Behind { index: header.index, term: header.term, revision: header.revision }
    });
    let scanner = || Scanner::new(SALT, disk.images(), None).map_err(|error| error.to_string());
    let mut all = Replay::new(scanner()?, Commitment::EveryEntry);
    let mut batches = Vec::new();
    let mut places = Places::default();
    while let Some(batch) = all.next_batch().map_err(|error| error.to_string())? {
        batches.push(batch);
    }
    all.take_places().into_iter().for_each(|place| places.add(place, disk));
    let mut replay = Replay::new(scanner()?, Commitment::EveryEntry).behind(behind);
    let mut number = 0;
    let mut portion = Vec::new();
    while let Some(batch) = replay.next_raw().map_err(|error| error.to_string())? {
        number += 1;
        if bug == Some(Bug::ReplaySkipsBatch) && number == 3 {
            continue;
        }
        state.rest.follow_batch(&batch);
        portion.push(batch);
    }
    let portion = Arc::new(portion);
    for (number, shard) in state.shards.iter_mut().enumerate() {
        follow(shard, (number, cores), [Arc::clone(&portion)]);
    }
    let begins_after = replay.begins_after().map_or(0, |reached| reached.index);
    if begins_after > behind.index {
        return Err(format!("the log begins after {begins_after}, the snapshot at {behind:?}"));
    }
    let mut replayed = replay.finish();
    if replayed.end.position == 0 {
        replayed.reached.revision = 1;
    }
    let log_end = replayed.reached.index;
    if let Some(newest) = snapshots.last()
        && log_end < newest.layout.footer.end.index
    {
        let end = newest.layout.footer.end;
        return Err(format!("the snapshot ends with {end:?} and the log with {log_end}"));
    }
    let logged = replayed.hard_state;
    let snapshotted = snapshots.last().map_or(HardState::default(), |newest| {
        let header = newest.layout.header;
        let (term, vote, commit) = (header.raft_term, header.raft_vote, header.raft_commit);
        HardState { term, vote, commit }
    });
    Ok(Recovered {
        state,
        reached: replayed.reached,
        promised: if logged.term > 0 { logged } else { snapshotted },
        end: replayed.end,
        batches,
        places,
        snapshots,
        damaged,
    })
}

/// What a snapshot holds, for any number of cores.
fn load(snapshot: &Snapshot, cores: usize) -> Result<State, SnapshotError> {
    let mut state = State::new(cores);
    let mut entries = snapshot.entries()?;
    entries.sort_by(|left, right| left.record.key().cmp(right.record.key()));
    for Settled { record, previous } in entries {
        let owner = placement::shard_of(placement::hash(record.key()), cores);
        state.shards[owner].restore(record, previous);
    }
    state.load_rest(&snapshot.layout, &snapshot.image)?;
    Ok(state)
}

/// Makes the disk ready for a log that goes on behind `end`: wipes what does not count there. Gives
/// the room that the segment to go on with has.
pub(super) fn prepare(disk: &mut Disk, end: &LogEnd, bug: Option<Bug>) -> u64 {
    if end.position == 0 {
        let old: Vec<u64> = disk.segments().collect();
        old.into_iter().for_each(|sequence| disk.remove_segment(sequence));
        let full = std::mem::replace(&mut disk.full, false);
        assert!(disk.create_segment(1, vec![0; 2 * BLOCK_BYTES]));
        disk.full = full;
        return 2 * BLOCK_BYTES as u64;
    }
    let later: Vec<u64> = disk.segments().filter(|&sequence| sequence > end.segment).collect();
    for sequence in later {
        if end.stale_segments || sequence > end.segment + 1 {
            disk.remove_segment(sequence);
        }
    }
    if bug != Some(Bug::TailNotWiped) {
        let zeros = vec![0; end.stale_bytes as usize];
        disk.put(end.segment, end.offset as usize, &zeros);
    }
    disk.segment(end.segment).map_or(0, <[u8]>::len) as u64
}
