//! From frames to what they mean: the batches to apply, raft's hard state, and what is pending.

use std::collections::VecDeque;

use super::decode::decode_hard_state;
use super::encode::HardState;
use super::error::LogError;
use super::frame::{FrameKind, frame_bytes};
use super::raw::RawBatch;
use super::scan::{CutTail, LogEnd, ScannedFrame, Scanner};
use super::segment::SegmentBytes;
use crate::effect::Batch;
use crate::limits;
use crate::record::Revision;

/// Which entries of the log count as committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commitment {
    /// All that are durable: the member is alone.
    EveryEntry,
    /// Those up to the commit index of the newest hard state.
    HardState,
}

/// Where the log's contents end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    /// Of the last entry, 0 when there is none.
    pub index: u64,
    pub term: u64,
    /// The store's revision after it.
    pub revision: Revision,
}

/// What is known once everything has been replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    pub hard_state: HardState,
    /// The last entry, committed or not.
    pub reached: Reached,
    /// What was reached before the oldest entry that the log still holds.
    pub begins_after: Reached,
    /// Entries that are durable but not known to be committed.
    pub pending: Vec<Batch>,
    pub end: LogEnd,
    pub cut: Option<CutTail>,
}

/// A frame's place, for the index of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub kind: FrameKind,
    pub segment: u64,
    pub offset: u64,
    /// Where the frame, padding included, ends.
    pub end: u64,
    pub index: u64,
    pub revision_before: Revision,
    pub revision_after: Revision,
}

/// What a snapshot holds already: everything up to this entry.
pub type Behind = Reached;

/// Replays a log batch by batch. Memory: one frame, and the entries that are not yet committed.
pub struct Replay<S> {
    scanner: Scanner<S>,
    commitment: Commitment,
    hard_state: HardState,
    pending: VecDeque<RawBatch>,
    begins_after: Option<Reached>,
    behind: Behind,
    /// Of the newest entry.
    reached: Reached,
    places: Vec<Place>,
}

impl<S: SegmentBytes> Replay<S> {
    pub fn new(scanner: Scanner<S>, commitment: Commitment) -> Replay<S> {
        Replay {
            scanner,
            commitment,
            hard_state: HardState::default(),
            pending: VecDeque::new(),
            begins_after: None,
            behind: Behind::default(),
            reached: Reached::default(),
            places: Vec::new(),
        }
    }

    /// Passes over what a snapshot holds: [`next_batch`](Replay::next_batch) begins behind it.
    pub fn behind(self, behind: Behind) -> Replay<S> {
        Replay { behind, ..self }
    }

    /// The next committed batch, in order; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, LogError> {
        Ok(self.next_raw()?.map(|raw| raw.to_batch()))
    }

    /// [`next_batch`](Replay::next_batch) without copying anything out of its payload.
    pub fn next_raw(&mut self) -> Result<Option<RawBatch>, LogError> {
        loop {
            let committed = match self.commitment {
                Commitment::EveryEntry => u64::MAX,
                Commitment::HardState => self.hard_state.commit,
            };
            if self.pending.front().is_some_and(|batch| batch.index() <= committed) {
                return Ok(self.pending.pop_front());
            }
            match self.scanner.next_frame()? {
                Some(frame) => self.take(frame)?,
                None => return Ok(None),
            }
        }
    }

    /// What was reached before the oldest entry; `None` until the first frame was seen.
    pub fn begins_after(&self) -> Option<Reached> {
        self.begins_after
    }

    /// The newest entry that was read, or what was before the oldest one.
    pub fn reached(&self) -> Reached {
        self.reached
    }

    /// Bytes read and bytes in all: for a progress bar.
    pub fn progress(&self) -> (u64, u64) {
        self.scanner.progress()
    }

    /// The places of the frames seen since the last call, in order of the log.
    pub fn take_places(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.places)
    }

    /// What was found, once [`next_batch`](Replay::next_batch) gave `None`.
    pub fn finish(self) -> Replayed {
        Replayed {
            hard_state: self.hard_state,
            reached: self.reached,
            begins_after: self.begins_after.unwrap_or_default(),
            pending: self.pending.iter().map(RawBatch::to_batch).collect(),
            end: self.scanner.end(),
            cut: self.scanner.cut().cloned(),
        }
    }

    fn take(&mut self, frame: ScannedFrame) -> Result<(), LogError> {
        let ScannedFrame { header, payload, offset } = frame;
        let inconsistent = |reason: String| LogError::Inconsistent {
            file: super::segment::file_name(header.segment),
            offset,
            reason,
        };
        self.places.push(Place {
            kind: header.kind,
            segment: header.segment,
            offset,
            end: offset + frame_bytes(payload.len()) as u64,
            index: header.index,
            revision_before: header.revision_before,
            revision_after: header.revision_after,
        });
        match header.kind {
            FrameKind::SegmentStart => {
                let reached = Reached {
                    index: header.index,
                    term: header.term,
                    revision: header.revision_after,
                };
                if self.begins_after.is_none() {
                    self.begins_after = Some(reached);
                    self.reached = reached;
                    self.check_behind().map_err(inconsistent)?;
                }
            }
            FrameKind::HardState => {
                self.hard_state =
                    decode_hard_state(&payload).map_err(|error| inconsistent(error.to_string()))?;
            }
            FrameKind::Entry if header.index <= self.behind.index => {
                if let Some(reason) = self.misfit(header.index, header.revision_before) {
                    return Err(inconsistent(reason));
                }
                let (index, term, revision) = (header.index, header.term, header.revision_after);
                self.reached = Reached { index, term, revision };
                self.check_behind().map_err(inconsistent)?;
            }
            FrameKind::Entry => {
                let batch = RawBatch::read(header, payload)
                    .map_err(|error| inconsistent(error.to_string()))?;
                self.truncate_from(batch.index());
                if let Some(reason) = self.misfit(batch.index(), batch.revision_before()) {
                    return Err(inconsistent(reason));
                }
                self.reached = reached_by(&batch);
                self.pending.push_back(batch);
            }
        }
        Ok(())
    }

    /// A newer leader's entry replaces those of its index and after. Committed ones can't be.
    fn truncate_from(&mut self, index: u64) {
        while let Some(last) = self.pending.pop_back_if(|batch| batch.index() >= index) {
            self.reached = Reached {
                index: last.index() - 1,
                term: self.pending.back().map_or(last.term(), RawBatch::term),
                revision: last.revision_before(),
            };
        }
    }

    /// Whether the snapshot is one of this log.
    fn check_behind(&self) -> Result<(), String> {
        if self.reached.index != self.behind.index || self.behind.index == 0 {
            return Ok(());
        }
        if self.reached != self.behind {
            return Err(format!(
                "{:?} was reached where the snapshot begins with {:?}",
                self.reached, self.behind
            ));
        }
        Ok(())
    }

    fn misfit(&self, index: u64, revision_before: Revision) -> Option<String> {
        let expected = self.reached.index + 1;
        if index != expected {
            return Some(format!("entry {index} where {expected} comes next"));
        }
        if revision_before != self.reached.revision {
            return Some(format!(
                "entry {expected} follows revision {revision_before} and the log is at {}",
                self.reached.revision
            ));
        }
        if self.pending.len() >= limits::UNCOMMITTED_REVISIONS as usize {
            return Some(format!("more than {} uncommitted entries", self.pending.len()));
        }
        None
    }
}

fn reached_by(batch: &RawBatch) -> Reached {
    Reached { index: batch.index(), term: batch.term(), revision: batch.revision_after() }
}
