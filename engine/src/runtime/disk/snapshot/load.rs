//! A whole snapshot back into memory, on all processors.
//!
//! Each shard has a thread that puts keys into its indexes, in order. Blocks are read, checked and
//! turned into records by threads of their own, several for each run when there are processors for
//! them: they take its pieces in turns, so that the shard's thread gets them in order. At most two
//! pieces of each wait.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::file::{Extent, SnapshotFile};
use crate::mvcc::Settled;
use crate::placement;
use crate::runtime::disk::buffer::AlignedBuffer;
use crate::shard::Shard;
use crate::snapshot::SnapshotError;

/// Bytes read at once.
const EXTENT_BYTES: u64 = 1 << 20;

/// Pieces that one reading thread has ready.
const PIECES_READY: usize = 2;

/// An entry with its key's [`hash`](placement::hash).
pub(super) type Hashed = (u64, Settled);

type Piece = Result<Vec<Hashed>, SnapshotError>;

/// Fills shards that are empty with what a snapshot holds, using about `threads` threads.
pub fn load(
    file: &SnapshotFile,
    shards: &mut [Shard],
    threads: usize,
) -> Result<(), SnapshotError> {
    let count = shards.len();
    let readers = threads.div_ceil(count).max(1);
    thread::scope(|scope| {
        let builders: Vec<_> = shards
            .iter_mut()
            .enumerate()
            .map(|(number, shard)| {
                let runs = file.layout().runs_of_shard(number, count);
                // Runs of another number of shards hold keys of others, too.
                let all = file.layout().header.runs as usize == count;
                let mine = move |hash| all || placement::shard_of(hash, count) == number;
                shard.reserve(file.layout().footer.records as usize / count);
                scope.spawn(move || build(file, runs, mine, shard, readers))
            })
            .collect();
        builders.into_iter().try_for_each(|builder| match builder.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn build(
    file: &SnapshotFile,
    runs: Range<u32>,
    mine: impl Fn(u64) -> bool + Copy + Send,
    shard: &mut Shard,
    readers: usize,
) -> Result<(), SnapshotError> {
    let readers = readers.div_ceil(runs.len().max(1));
    thread::scope(|scope| {
        let mut streams = Vec::new();
        for run in runs {
            let extents = file.extents(file.layout().blocks_of_runs(run..run + 1), EXTENT_BYTES);
            let pieces = (0..readers).map(|reader| {
                let (sender, receiver) = sync_channel(PIECES_READY);
                let mine_of_reader: Vec<Extent> =
                    extents.iter().skip(reader).step_by(readers).cloned().collect();
                scope.spawn(move || read(file, &mine_of_reader, mine, &sender));
                receiver
            });
            streams.push(Stream::new(pieces.collect()));
        }
        merge(streams, |(hash, entry)| shard.restore_hashed(hash, entry.record, entry.previous))
    })
}

/// Reads pieces and sends their entries, until nobody wants them.
fn read(
    file: &SnapshotFile,
    extents: &[Extent],
    mine: impl Fn(u64) -> bool,
    sender: &SyncSender<Piece>,
) {
    let mut buffer = AlignedBuffer::default();
    for extent in extents {
        let piece = read_extent(file, extent, &mine, &mut buffer);
        let failed = piece.is_err();
        if sender.send(piece).is_err() || failed {
            return;
        }
    }
}

fn read_extent(
    file: &SnapshotFile,
    extent: &Extent,
    mine: &impl Fn(u64) -> bool,
    buffer: &mut AlignedBuffer,
) -> Piece {
    file.read_extent(extent, buffer)?;
    let layout = file.layout();
    let rows = extent.blocks.clone().map(|number| layout.blocks()[number].rows as usize).sum();
    let mut entries = Vec::with_capacity(rows);
    for number in extent.blocks.clone() {
        let block = &layout.blocks()[number];
        let start = (block.offset - extent.start) as usize;
        let bytes = &buffer.bytes()[start..start + block.bytes()];
        layout.entries(number, bytes, |entry| {
            let hash = placement::hash(entry.record.key());
            if mine(hash) {
                entries.push((hash, entry));
            }
        })?;
    }
    Ok(entries)
}

/// The entries of one run, in order.
struct Stream {
    readers: Vec<Receiver<Piece>>,
    turn: usize,
    piece: std::vec::IntoIter<Hashed>,
}

impl Stream {
    fn new(readers: Vec<Receiver<Piece>>) -> Stream {
        Stream { readers, turn: 0, piece: Vec::new().into_iter() }
    }

    fn next(&mut self) -> Result<Option<Hashed>, SnapshotError> {
        loop {
            if let Some(entry) = self.piece.next() {
                return Ok(Some(entry));
            }
            // The first reader without another piece is the one whose turn the last one would be.
            let Ok(piece) = self.readers[self.turn].recv() else { return Ok(None) };
            self.piece = piece?.into_iter();
            self.turn = (self.turn + 1) % self.readers.len();
        }
    }
}

/// Passes the entries of all streams to `take`, by key.
fn merge(mut streams: Vec<Stream>, mut take: impl FnMut(Hashed)) -> Result<(), SnapshotError> {
    if let [only] = &mut streams[..] {
        while let Some(entry) = only.next()? {
            take(entry);
        }
        return Ok(());
    }
    let mut heads = Vec::with_capacity(streams.len());
    for stream in &mut streams {
        heads.push(stream.next()?);
    }
    loop {
        let key = |number: &usize| heads[*number].as_ref().map(|(_, entry)| entry.record.key());
        let with_more = (0..heads.len()).filter(|&number| heads[number].is_some());
        let first = with_more.min_by(|left, right| key(left).cmp(&key(right)));
        let Some(first) = first else { return Ok(()) };
        let next = streams[first].next()?;
        if let Some(entry) = std::mem::replace(&mut heads[first], next) {
            take(entry);
        }
    }
}
