//! Looks older versions of keys up in the log: the newest one at or before a revision.
//!
//! The segment that holds the revision comes first, then those before it, then the base: the
//! snapshot that holds what was before the oldest segment. Key indexes say in which frame a key
//! may be; the frame says whether it is.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::buffer::AlignedBuffer;
use super::deleted_keys::{DeletedKeys, LARGE_BYTES};
use super::file::SegmentFile;
use super::frames::read_frame;
use super::history::{HistoryError, HistoryReader};
use super::history_index::{HistoryIndex, Keys, SegmentIndex, Stretch};
use super::keys::{KeyFile, KeySource, Unusable, key_file, scan, write};
use super::recovery::FIRST_REVISION;
use crate::log::decode::{DecodeError, RawChange, visit_changes};
use crate::log::frame::{BLOCK_BYTES, FrameHeader, FrameKind};
use crate::log::key_index::{Header, KeyPlace};
use crate::mvcc::Lookup;
use crate::placement;
use crate::record::{Record, Revision};
use crate::runtime::blocking;

/// What holds the versions from before the oldest segment: a snapshot that is no newer than what
/// history was compacted to.
pub trait Base: Debug + Send + Sync {
    /// Every version up to here is in it, or was superseded before anything that can be asked for.
    fn revision(&self) -> Revision;

    /// The version of a key that it holds; a tombstone or `None` for one that did not live.
    /// Blocks. Errors name file and place.
    fn find(&self, key: &[u8]) -> Result<Option<Record>, HistoryError>;
}

/// What there was of a segment when a lookup began. It can be read even if it is released.
struct View {
    file: Arc<SegmentFile>,
    base: Revision,
    /// Later changes in it were replaced by a new leader.
    upto: Revision,
    /// The revision after the segment; of the newest one it may become larger.
    after: Revision,
    /// Where its frames end, if that is known.
    end: Option<u64>,
    keys: ViewOfKeys,
}

/// Where to look keys of a segment up, and where its frames end.
struct Opened {
    source: KeySource,
    end: u64,
    /// The file's.
    number: Option<u64>,
}

/// Another file of the same name has another number.
fn file_number(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|facts| facts.ino())
}

enum ViewOfKeys {
    File,
    /// Changes that were there when the process began, if known; where they end; and all later.
    Memory {
        early: Option<Arc<Vec<KeyPlace>>>,
        from: u64,
        later: Vec<Arc<Vec<KeyPlace>>>,
    },
}

/// Where one of the wanted versions may be.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// Of the lookup.
    wanted: usize,
    hash: u64,
    /// The place's number in its index.
    number: u64,
    place: KeyPlace,
}

impl Candidate {
    fn revision(&self, view: &View) -> Revision {
        view.base + i64::from(self.place.age)
    }
}

impl HistoryReader {
    fn lock_index(&self) -> MutexGuard<'_, HistoryIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest version, or tombstone, of each key at or before its revision; `None` where there
    /// was none. Revisions must not be compacted. Runs on the executor's blocking threads.
    pub async fn look_up(&self, lookups: Vec<Lookup>) -> Result<Vec<Option<Record>>, HistoryError> {
        let reader = self.clone();
        blocking(move || reader.look_up_blocking(&lookups)).await
    }

    /// Says what holds the versions from before the segments that are going to be released.
    pub fn set_base(&self, base: Option<Arc<dyn Base>>) {
        self.lock_index().base = base;
    }

    /// [`look_up`](HistoryReader::look_up) for callers that may block.
    pub fn look_up_blocking(
        &self,
        lookups: &[Lookup],
    ) -> Result<Vec<Option<Record>>, HistoryError> {
        self.past_releases(|| self.try_to_look_up(lookups))
    }

    fn try_to_look_up(&self, lookups: &[Lookup]) -> Result<Vec<Option<Record>>, HistoryError> {
        let (views, base, begins_after) = self.views();
        let mut search = Search {
            hashes: lookups.iter().map(|lookup| placement::hash(&lookup.key)).collect(),
            lookups,
            found: vec![None; lookups.len()],
            missing: (0..lookups.len()).collect(),
        };
        // Lookups near each other in an index come one after the other.
        search.missing.sort_unstable_by_key(|&wanted| search.hashes[wanted]);
        let covered = base.as_ref().map_or(0, |base| base.revision());
        for view in views.iter().rev() {
            if search.missing.is_empty() || view.after <= covered {
                break;
            }
            self.search_segment(view, &mut search)?;
        }
        for &wanted in &search.missing {
            let Lookup { key, revision } = &lookups[wanted];
            let requested = *revision;
            let found = match &base {
                Some(base) => base.find(key)?,
                None if begins_after <= FIRST_REVISION => None,
                None => return Err(HistoryError::Released { requested, begins_after }),
            };
            // A base of later than what is asked for: that was compacted meanwhile.
            if found.as_ref().is_some_and(|record| record.mod_revision() > requested) {
                return Err(HistoryError::Released { requested, begins_after });
            }
            search.found[wanted] = found;
        }
        Ok(search.found)
    }

    fn views(&self) -> (Vec<View>, Option<Arc<dyn Base>>, Revision) {
        let index = self.lock_index();
        let mut views: Vec<View> =
            index.segments().map(|(segment, file)| View::of(segment, file)).collect();
        for number in 1..views.len() {
            views[number - 1].after = views[number].base;
        }
        (views, index.base.clone(), index.begins_after)
    }

    fn search_segment(&self, view: &View, search: &mut Search<'_>) -> Result<(), HistoryError> {
        let wanted = search.wanted_in(view);
        if wanted.is_empty() {
            return Ok(());
        }
        let mut opened = self.open(view, &wanted, search)?;
        // Ends: in memory, or with a file that somebody else has just made.
        let mut candidates = loop {
            match search.first_candidates(&wanted, view, &mut opened.source) {
                Ok(candidates) => break candidates,
                Err(Unusable) => opened = self.rebuild(view, opened.number)?,
            }
        };
        while !candidates.is_empty() {
            candidates.sort_unstable_by_key(|candidate| candidate.place.block);
            let mut others = Vec::new();
            for same in candidates.chunk_by(|left, right| left.place.block == right.place.block) {
                others.extend(self.read_candidates(view, opened.end, same, search)?);
            }
            // Another key with the same hash: there may be an earlier change of the right one.
            let earlier = |source: &mut KeySource| -> Result<Vec<Candidate>, Unusable> {
                let mut earlier = Vec::new();
                for &Candidate { wanted, hash, number, .. } in &others {
                    let before = source.before(number, hash)?;
                    earlier.extend(before.map(|(number, place)| Candidate {
                        wanted,
                        hash,
                        number,
                        place,
                    }));
                }
                Ok(earlier)
            };
            candidates = loop {
                match earlier(&mut opened.source) {
                    Ok(earlier) => break earlier,
                    // The same entries have the same numbers.
                    Err(Unusable) => opened = self.rebuild(view, opened.number)?,
                }
            };
        }
        search.forget_found();
        Ok(())
    }

    /// Looks some candidates up in the frame in which they may be; gives those that are not there.
    fn read_candidates(
        &self,
        view: &View,
        end: u64,
        candidates: &[Candidate],
        search: &mut Search<'_>,
    ) -> Result<Vec<Candidate>, HistoryError> {
        let offset = u64::from(candidates[0].place.block) * BLOCK_BYTES as u64;
        let known = self.lock_index().deleted_keys(view.file.sequence, offset);
        if let Some(deleted) = known {
            return search.find_deleted(view, &deleted, candidates);
        }
        let mut buffer = AlignedBuffer::default();
        let stretch = Stretch::of(&view.file, offset, end);
        let (header, payload) = read_frame(&stretch, self.salt, &mut buffer)?;
        if header.kind != FrameKind::Entry {
            return Ok(candidates.to_vec());
        }
        if payload.len() >= LARGE_BYTES
            && let Some(deleted) = DeletedKeys::of(offset, &header, payload)
        {
            self.lock_index().add_deleted_keys(Arc::new(deleted));
        }
        let found = search.find_in(view, &header, payload, candidates);
        found.map_err(|error| stretch.damaged(offset, error.to_string()))
    }

    /// Where to look the `wanted` up.
    fn open(
        &self,
        view: &View,
        wanted: &[usize],
        search: &Search<'_>,
    ) -> Result<Opened, HistoryError> {
        let (ViewOfKeys::Memory { early, from, later }, Some(end)) = (&view.keys, view.end) else {
            let number = file_number(&key_file(&view.file.path));
            return match self.open_file(view, number) {
                Some(opened) => Ok(opened),
                None => self.rebuild(view, number),
            };
        };
        let early = match early {
            Some(early) => Arc::clone(early),
            None => self.early(view, *from)?,
        };
        // These are not sorted yet: take out what is of interest in one go.
        let mut hashes: Vec<u64> = wanted.iter().map(|&wanted| search.hashes[wanted]).collect();
        hashes.sort_unstable();
        let wanted = |place: &&KeyPlace| hashes.binary_search(&place.hash).is_ok();
        let all = later.iter().chain([&early]).flat_map(|places| places.iter());
        let mut places: Vec<KeyPlace> = all.filter(wanted).copied().collect();
        places.sort_unstable();
        Ok(Opened { source: KeySource::Sorted(Arc::new(places)), end, number: None })
    }

    fn open_file(&self, view: &View, number: Option<u64>) -> Option<Opened> {
        let file = KeyFile::open(&view.file, view.base, view.after, self.salt).ok()?;
        let end = file.log_end();
        let fits = view.end.is_none_or(|known| known == end);
        fits.then_some(Opened { source: KeySource::File(file), end, number })
    }

    /// Writes the key index of a segment that is full, and lets go of what is in memory.
    pub(super) fn write_keys(&self, sequence: u64) {
        let view = self.views().0.into_iter().find(|view| view.file.sequence == sequence);
        let Some(view) = view else { return };
        let ViewOfKeys::Memory { early, from, later } = &view.keys else { return };
        // Who looks something up is told of an unreadable segment.
        let early = early.clone().or_else(|| self.early(&view, *from).ok());
        if let (Some(early), Some(end)) = (early, view.end) {
            let all = later.iter().chain([&early]).flat_map(|places| places.iter());
            let mut places: Vec<KeyPlace> = all.copied().collect();
            places.sort_unstable();
            self.write_file(&view, end, &places);
        }
        let mut index = self.lock_index();
        index.keys_are_in_file(sequence);
    }

    fn write_file(&self, view: &View, end: u64, places: &[KeyPlace]) {
        let header = Header {
            sequence: view.file.sequence,
            base: view.base,
            revision_after: view.after,
            log_end: end,
            entries: places.len() as u64,
        };
        // It is a cache: where it can't be written it is made again when it is needed.
        let _ = write(&view.file.path, &header, places, self.salt);
        // First a segment is given up, and then its file is removed. If that is over the file must
        // not stay behind.
        let index = self.lock_index();
        if !index.files.contains_key(&view.file.sequence) {
            let _ = fs::remove_file(key_file(&view.file.path));
        }
    }

    /// The changes in the newest segment from before this process, which it has not seen.
    fn early(&self, view: &View, from: u64) -> Result<Arc<Vec<KeyPlace>>, HistoryError> {
        let stretch = Stretch::of(&view.file, 0, from);
        let places = Arc::new(scan(&stretch, view.base, self.salt)?);
        let mut index = self.lock_index();
        index.set_early(view.file.sequence, &places);
        Ok(places)
    }

    /// Makes a segment's key index again. Memory serves where no file can be written.
    /// `tried` is the number of the file that can't be used.
    fn rebuild(&self, view: &View, tried: Option<u64>) -> Result<Opened, HistoryError> {
        // One at a time, as it reads a whole segment: cores may ask for the same.
        static REBUILDING: Mutex<()> = Mutex::new(());
        let _rebuilding = REBUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever was here before may have made it.
        let now = file_number(&key_file(&view.file.path));
        if now != tried
            && let Some(opened) = self.open_file(view, now)
        {
            return Ok(opened);
        }
        let end = match view.end {
            Some(end) => end,
            None => self.find_end(view)?,
        };
        let places = scan(&Stretch::of(&view.file, 0, end), view.base, self.salt)?;
        self.write_file(view, end, &places);
        Ok(Opened { source: KeySource::Sorted(Arc::new(places)), end, number: None })
    }

    /// Where the frames of a segment end that the start had no need to read.
    fn find_end(&self, view: &View) -> Result<u64, HistoryError> {
        let outlined = self.outlined(|index| Ok(index.whole(view.file.sequence)))?;
        match outlined {
            Some(stretch) => Ok(stretch.end),
            // It was released since the lookup began.
            None => Err(HistoryError::Released {
                requested: view.after,
                begins_after: self.begins_after(),
            }),
        }
    }
}

impl View {
    fn of(segment: &SegmentIndex, file: &Arc<SegmentFile>) -> View {
        let keys = match &segment.keys {
            Keys::File => ViewOfKeys::File,
            Keys::Memory(keys) => ViewOfKeys::Memory {
                early: if keys.from == 0 { Some(Arc::default()) } else { keys.early.clone() },
                from: keys.from,
                later: keys.later(),
            },
        };
        let (base, upto) = (segment.revision_before, segment.upto.revision);
        let end = segment.outlined.then_some(segment.end);
        View { file: Arc::clone(file), base, upto, after: Revision::MAX, end, keys }
    }

    /// The age of what is wanted at `revision`; `None` when all of the segment is later.
    fn age(&self, revision: Revision) -> Option<u32> {
        let age = revision.min(self.upto) - self.base;
        (age > 0).then(|| u32::try_from(age).unwrap_or(u32::MAX))
    }
}

/// Lookups under way.
struct Search<'a> {
    lookups: &'a [Lookup],
    hashes: Vec<u64>,
    found: Vec<Option<Record>>,
    /// Numbers of those that are not found yet, by hash.
    missing: Vec<usize>,
}

impl Search<'_> {
    fn wanted_in(&self, view: &View) -> Vec<usize> {
        let inside = |&wanted: &usize| view.age(self.lookups[wanted].revision).is_some();
        self.missing.iter().copied().filter(inside).collect()
    }

    fn first_candidates(
        &self,
        wanted: &[usize],
        view: &View,
        source: &mut KeySource,
    ) -> Result<Vec<Candidate>, Unusable> {
        let mut candidates = Vec::new();
        for &wanted in wanted {
            let hash = self.hashes[wanted];
            let Some(age) = view.age(self.lookups[wanted].revision) else { continue };
            let last = source.last(hash, age)?;
            candidates.extend(last.map(|(number, place)| Candidate {
                wanted,
                hash,
                number,
                place,
            }));
        }
        Ok(candidates)
    }

    /// Looks candidates up in a frame's payload; gives those that are not in it.
    fn find_in(
        &mut self,
        view: &View,
        header: &FrameHeader,
        payload: &[u8],
        candidates: &[Candidate],
    ) -> Result<Vec<Candidate>, DecodeError> {
        let lookups = self.lookups;
        // A large frame is gone through once, however many are looked for.
        let mut sought: HashMap<(Revision, &[u8]), Option<RawChange<'_>>> = HashMap::new();
        let name =
            |candidate: &Candidate| (candidate.revision(view), &lookups[candidate.wanted].key[..]);
        sought.extend(candidates.iter().map(|candidate| (name(candidate), None)));
        let (before, after) = (header.revision_before, header.revision_after);
        visit_changes(before, after, payload, |change| {
            // The last change of a revision counts.
            if let Some(found) = sought.get_mut(&(change.revision, change.key)) {
                *found = Some(change);
            }
        })?;
        let mut others = Vec::new();
        for candidate in candidates {
            match &sought[&name(candidate)] {
                Some(change) => self.found[candidate.wanted] = Some(change.to_record()),
                None => others.push(*candidate),
            }
        }
        Ok(others)
    }

    /// The same in a large deletion that was read before.
    fn find_deleted(
        &mut self,
        view: &View,
        deleted: &DeletedKeys,
        candidates: &[Candidate],
    ) -> Result<Vec<Candidate>, HistoryError> {
        let lookups = self.lookups;
        let key = |candidate: &Candidate| &lookups[candidate.wanted].key[..];
        let mut sorted = candidates.to_vec();
        sorted.sort_unstable_by_key(key);
        let keys: Vec<&[u8]> = sorted.iter().map(key).collect();
        let contained = deleted.contain(&view.file, &keys)?;
        let mut others = Vec::new();
        for (candidate, contained) in sorted.iter().zip(contained) {
            let revision = deleted.revision();
            if contained && candidate.revision(view) == revision {
                let tombstone = Record::tombstone(key(candidate), revision);
                self.found[candidate.wanted] = Some(tombstone);
            } else {
                others.push(*candidate);
            }
        }
        Ok(others)
    }

    fn forget_found(&mut self) {
        let found = &self.found;
        self.missing.retain(|&wanted| found[wanted].is_none());
    }
}
