//! Where in its segment each key was changed: in memory while the segment is written, in a file
//! beside it afterwards. A file that is missing or damaged is made again from the segment.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::SegmentFile;
use super::frames::visit_frames;
use super::history::HistoryError;
use super::history_index::Stretch;
use crate::limits::LOG_KEYS_AT_ONCE;
use crate::log::decode::visit_changes;
use crate::log::frame::{BLOCK_BYTES, FrameHeader, FrameKind};
use crate::log::key_index::{
    Block, Header, INDEX_BLOCK_BYTES, KeyIndexDefect, KeyPlace, encode, find_before, find_last,
};
use crate::placement;
use crate::record::Revision;

/// A change that became durable: the key's hash, and the revision.
pub(super) type ChangedKey = (u64, Revision);

/// The changes in an entry's payload.
pub(super) fn changed_keys(before: Revision, after: Revision, payload: &[u8]) -> Vec<ChangedKey> {
    let mut keys = Vec::new();
    let visited = visit_changes(before, after, payload, |change| {
        keys.push((placement::hash(change.key), change.revision));
    });
    visited.expect("this is what the store has encoded");
    keys
}

/// The changes of a segment, or of its later part, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct OpenKeys {
    /// The revision from which ages are counted.
    base: Revision,
    /// Frames before this byte were there when the process began.
    pub(super) from: u64,
    /// Their changes, sorted, once somebody has needed them.
    pub(super) early: Option<Arc<Vec<KeyPlace>>>,
    /// Of [`LOG_KEYS_AT_ONCE`] each; they don't change any more.
    full: Vec<Arc<Vec<KeyPlace>>>,
    tail: Vec<KeyPlace>,
}

impl OpenKeys {
    pub(super) fn new(base: Revision, from: u64) -> OpenKeys {
        OpenKeys { base, from, ..OpenKeys::default() }
    }

    pub(super) fn add(&mut self, offset: u64, keys: &[ChangedKey]) {
        for &(hash, revision) in keys {
            self.push(KeyPlace { hash, age: age(self.base, revision), block: block(offset) });
        }
    }

    fn push(&mut self, place: KeyPlace) {
        self.tail.push(place);
        if self.tail.len() >= LOG_KEYS_AT_ONCE {
            self.full.push(Arc::new(std::mem::take(&mut self.tail)));
        }
    }

    /// All changes from `from` on.
    pub(super) fn later(&self) -> Vec<Arc<Vec<KeyPlace>>> {
        let mut keys = self.full.clone();
        keys.push(Arc::new(self.tail.clone()));
        keys
    }
}

fn age(base: Revision, revision: Revision) -> u32 {
    u32::try_from(revision - base).expect("a segment holds less than 2^32 revisions")
}

fn block(offset: u64) -> u32 {
    u32::try_from(offset / BLOCK_BYTES as u64).expect("a segment has less than 2^32 blocks")
}

/// Reads the changes in a stretch of a segment back from the disk, sorted.
pub(super) fn scan(
    stretch: &Stretch,
    base: Revision,
    salt: u64,
) -> Result<Vec<KeyPlace>, HistoryError> {
    let mut places: Vec<KeyPlace> = Vec::new();
    visit_frames(stretch, salt, |offset, header: &FrameHeader, payload| {
        if header.kind != FrameKind::Entry {
            return Ok(());
        }
        let block = block(offset);
        visit_changes(header.revision_before, header.revision_after, payload, |change| {
            let hash = placement::hash(change.key);
            places.push(KeyPlace { hash, age: age(base, change.revision), block });
        })
        .map_err(|error| error.to_string())
    })?;
    places.sort_unstable();
    Ok(places)
}

/// The name of the file beside a segment.
pub(super) fn key_file(segment: &Path) -> PathBuf {
    segment.with_extension("keys")
}

/// Writes the key index of a segment under a temporary name, and renames it. It is not synced: a
/// file that a crash spoils is made again.
pub(super) fn write(
    segment: &Path,
    header: &Header,
    places: &[KeyPlace],
    salt: u64,
) -> io::Result<()> {
    let path = key_file(segment);
    let draft = path.with_extension("keys.tmp");
    let written =
        fs::write(&draft, encode(header, places, salt)).and_then(|()| fs::rename(&draft, &path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

/// A key index that answers: from its file, or from memory.
pub(super) enum KeySource {
    Sorted(Arc<Vec<KeyPlace>>),
    File(KeyFile),
}

impl KeySource {
    /// The last change of a key with this hash that is no later than `age`, and its number.
    pub(super) fn last(
        &mut self,
        hash: u64,
        age: u32,
    ) -> Result<Option<(u64, KeyPlace)>, Unusable> {
        match self {
            KeySource::File(file) => {
                let header = file.header;
                find_last(&header, hash, age, |number| file.block(number))
            }
            KeySource::Sorted(places) => {
                let upto = places.partition_point(|place| (place.hash, place.age) <= (hash, age));
                Ok(before(places, upto as u64, hash))
            }
        }
    }

    /// The change before the one with this number, if its key has the same hash.
    pub(super) fn before(
        &mut self,
        number: u64,
        hash: u64,
    ) -> Result<Option<(u64, KeyPlace)>, Unusable> {
        match self {
            KeySource::File(file) => find_before(number, hash, |number| file.block(number)),
            KeySource::Sorted(places) => Ok(before(places, number, hash)),
        }
    }
}

fn before(places: &[KeyPlace], number: u64, hash: u64) -> Option<(u64, KeyPlace)> {
    let number = number.checked_sub(1)?;
    let place = places.get(number as usize).filter(|place| place.hash == hash)?;
    Some((number, *place))
}

/// The file can't be used, and should be made again.
#[derive(Debug)]
pub(super) struct Unusable;

impl From<io::Error> for Unusable {
    fn from(_: io::Error) -> Unusable {
        Unusable
    }
}

impl From<KeyIndexDefect> for Unusable {
    fn from(_: KeyIndexDefect) -> Unusable {
        Unusable
    }
}

/// The file beside a segment.
pub(super) struct KeyFile {
    file: File,
    header: Header,
    salt: u64,
    /// The block that was read last: lookups come in order of their hash.
    last: Option<(u64, Block)>,
}

impl KeyFile {
    /// Opens the file of a segment with these revisions before and after it.
    pub(super) fn open(
        segment: &SegmentFile,
        base: Revision,
        after: Revision,
        salt: u64,
    ) -> Result<KeyFile, Unusable> {
        let file = File::open(key_file(&segment.path))?;
        let mut block = [0; INDEX_BLOCK_BYTES];
        file.read_exact_at(&mut block, 0)?;
        let header = Header::decode(&block, salt, segment.sequence)?;
        if header.base != base
            || header.revision_after != after
            || header.file_bytes() != file.metadata()?.len()
        {
            return Err(Unusable);
        }
        Ok(KeyFile { file, header, salt, last: None })
    }

    /// Bytes of the segment that are in use.
    pub(super) fn log_end(&self) -> u64 {
        self.header.log_end
    }

    fn block(&mut self, number: u64) -> Result<Block, Unusable> {
        if let Some((_, block)) = self.last.as_ref().filter(|(last, _)| *last == number) {
            return Ok(block.clone());
        }
        let mut bytes = [0; INDEX_BLOCK_BYTES];
        self.file.read_exact_at(&mut bytes, (1 + number) * INDEX_BLOCK_BYTES as u64)?;
        let block = Block::decode(&bytes, &self.header, number, self.salt)?;
        self.last = Some((number, block.clone()));
        Ok(block)
    }
}
