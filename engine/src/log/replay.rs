//! From frames to what they mean: the batches to apply, raft's hard state, and what is pending.

use std::collections::VecDeque;

use bytes::Bytes;
use mainstay_raft::{Damage, EntryKind, Membership};

use super::decode::decode_hard_state;
use super::encode::HardState;
use super::error::LogError;
use super::frame::{FrameHeader, FrameKind, frame_bytes};
use super::raw::RawBatch;
use super::scan::{CutTail, LogEnd, ScannedFrame, Scanner};
use super::segment::{Restart, SegmentBytes};
use super::terms::Terms;
use crate::effect::Batch;
use crate::limits;
use crate::record::Revision;
use crate::sequencer::LogEntry;

/// Which entries of the log count as committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commitment {
    /// All that are durable: the member is alone, and always was.
    EveryEntry,
    /// Those up to the commit index of the newest hard state; and all of them as long as the member
    /// is alone, as nobody can replace what it has then.
    HardState(Voter),
}

impl Commitment {
    /// Whether there are, or were, others than this member, as far as that is known beforehand.
    pub fn has_company(&self) -> bool {
        match self {
            Commitment::EveryEntry => false,
            Commitment::HardState(voter) => {
                let others =
                    |(_, membership): &(u64, Membership)| membership.members() != [voter.id];
                voter.memberships.iter().any(others)
            }
        }
    }
}

/// Who the log belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Voter {
    pub id: u64,
    /// Which life of it this is.
    pub incarnation: u64,
    /// Who was a member at these indexes, as is known from elsewhere; the first one is in force where
    /// the log begins. Never empty.
    pub memberships: Vec<(u64, Membership)>,
    /// Everything up to here is known to be committed.
    pub commit: u64,
}

impl Voter {
    /// A member that has no company.
    pub fn alone(id: u64) -> Voter {
        let memberships = vec![(0, Membership::of_voters(&[id]))];
        Voter { id, memberships, ..Voter::default() }
    }
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

impl Reached {
    fn by(header: &FrameHeader) -> Reached {
        Reached { index: header.index, term: header.term, revision: header.revision_after }
    }
}

/// What is known once everything has been replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    pub hard_state: HardState,
    /// The last entry, committed or not.
    pub reached: Reached,
    /// The last entry that is committed, and intact up to there: all of it was given out.
    pub applied: Reached,
    /// What was reached before the oldest entry that was read.
    pub begins_after: Reached,
    /// The entries behind `applied`. Those that are in `damaged` have no payload; beyond
    /// [`PENDING_BYTES`](limits::PENDING_BYTES), all are.
    pub pending: Vec<LogEntry>,
    /// The terms of all entries that were read.
    pub terms: Terms,
    /// Who was a member from which index on, as far as that was read, or known before.
    pub memberships: Vec<(u64, Membership)>,
    /// Entries without their payload.
    pub damaged: Vec<Damage>,
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
    pub term: u64,
    pub revision_before: Revision,
    pub revision_after: Revision,
}

/// What a snapshot holds already: everything up to this entry.
pub type Behind = Reached;

/// An entry that is durable and not known to be committed.
struct Pending {
    header: FrameHeader,
    content: Content,
}

enum Content {
    Batch(RawBatch),
    Membership(Vec<u8>),
    /// It can't be read, or it is one too many: a copy comes from other members.
    Absent,
}

/// Replays a log batch by batch. Memory: one frame, and the entries that are not yet committed.
pub struct Replay<S> {
    scanner: Scanner<S>,
    commitment: Commitment,
    hard_state: HardState,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    begins_after: Option<Reached>,
    behind: Behind,
    /// The snapshot is not one of this log, unless what says so is replaced.
    misfit_behind: Option<LogError>,
    /// Of the newest entry.
    reached: Reached,
    applied: Reached,
    terms: Terms,
    /// Those of the log, with the first one that was known before.
    memberships: Vec<(u64, Membership)>,
    damaged: Vec<Damage>,
    places: Vec<Place>,
}

impl<S: SegmentBytes> Replay<S> {
    pub fn new(scanner: Scanner<S>, commitment: Commitment) -> Replay<S> {
        let memberships = match &commitment {
            Commitment::EveryEntry => Vec::new(),
            Commitment::HardState(voter) => voter.memberships.clone(),
        };
        assert!(memberships.is_sorted_by(|left, right| left.0 < right.0));
        Replay {
            scanner,
            commitment,
            hard_state: HardState::default(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            begins_after: None,
            behind: Behind::default(),
            misfit_behind: None,
            reached: Reached::default(),
            applied: Reached::default(),
            terms: Terms::default(),
            memberships,
            damaged: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Passes over what a snapshot holds: [`next_batch`](Replay::next_batch) begins behind it.
    pub fn behind(self, behind: Behind) -> Replay<S> {
        Replay { behind, applied: behind, ..self }
    }

    /// The next committed batch, in order; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, LogError> {
        Ok(self.next_raw()?.map(|raw| raw.to_batch()))
    }

    /// [`next_batch`](Replay::next_batch) without copying anything out of its payload.
    pub fn next_raw(&mut self) -> Result<Option<RawBatch>, LogError> {
        loop {
            while let Some(first) = self.next_committed() {
                self.applied = Reached::by(&first.header);
                if let Content::Batch(batch) = first.content {
                    self.pending_bytes -= batch.bytes();
                    return Ok(Some(batch));
                }
            }
            match self.scanner.next_frame()? {
                Some(frame) => self.take(frame)?,
                None => return self.misfit_behind.take().map_or(Ok(None), Err),
            }
        }
    }

    fn next_committed(&mut self) -> Option<Pending> {
        let committed = match &self.commitment {
            Commitment::EveryEntry => u64::MAX,
            Commitment::HardState(voter) if self.is_alone(voter) => u64::MAX,
            Commitment::HardState(voter) => self.hard_state.commit.max(voter.commit),
        };
        self.pending.pop_front_if(|first| {
            first.header.index <= committed && !matches!(first.content, Content::Absent)
        })
    }

    /// Whether the member is the only one, as raft sees it.
    fn is_alone(&self, voter: &Voter) -> bool {
        self.memberships.last().is_some_and(|(_, membership)| {
            membership.members() == [voter.id]
                && !membership.is_joint()
                && membership.incarnation(voter.id) == voter.incarnation
        })
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
        let pending = self.pending.into_iter().map(Pending::into_entry).collect();
        let HardState { term, vote, commit } = self.hard_state;
        let known = match &self.commitment {
            Commitment::EveryEntry => 0,
            Commitment::HardState(voter) => voter.commit,
        };
        let commit = commit.max(known).max(self.applied.index).min(self.reached.index);
        Replayed {
            hard_state: HardState { term, vote, commit },
            reached: self.reached,
            applied: self.applied,
            begins_after: self.begins_after.unwrap_or_default(),
            pending,
            terms: self.terms,
            memberships: self.memberships,
            damaged: self.damaged,
            end: self.scanner.end(),
            cut: self.scanner.cut().cloned(),
        }
    }

    fn take(&mut self, frame: ScannedFrame) -> Result<(), LogError> {
        let (segment, offset) = (frame.header.segment, frame.offset);
        self.places.push(place_of(&frame));
        self.follow(frame).map_err(|reason| inconsistent(segment, offset, reason))
    }

    fn follow(&mut self, frame: ScannedFrame) -> Result<(), String> {
        let ScannedFrame { header, payload, offset, is_damaged } = frame;
        match header.kind {
            FrameKind::SegmentStart => self.begin_segment(&header, offset),
            FrameKind::Restart => {
                let restart = Restart::decode(&payload).ok_or("a restart without members")?;
                self.hard_state = restart.hard_state;
                self.restart(&header, restart.membership);
                self.check_behind(&header, offset);
                Ok(())
            }
            FrameKind::HardState => {
                let state = decode_hard_state(&payload).map_err(|error| error.to_string())?;
                self.hard_state = state;
                Ok(())
            }
            FrameKind::Entry | FrameKind::Membership => {
                if let Some(reason) = self.misfit(&header) {
                    return Err(reason);
                }
                self.reached = Reached::by(&header);
                self.terms.push(header.term);
                if header.index <= self.behind.index {
                    self.note_membership(&header, &payload, is_damaged)?;
                    self.check_behind(&header, offset);
                    return Ok(());
                }
                self.note_damage(&header, is_damaged);
                self.note_membership(&header, &payload, is_damaged)?;
                self.wait(header, payload, is_damaged)
            }
        }
    }

    /// A segment begins: with what was reached, or with less, when a new leader replaces the rest.
    fn begin_segment(&mut self, header: &FrameHeader, offset: u64) -> Result<(), String> {
        let begins_with = Reached::by(header);
        if self.begins_after.is_none() {
            self.begins_after = Some(begins_with);
            self.reached = begins_with;
            self.terms = Terms::new(header.index, header.term);
            if self.behind.index <= header.index {
                self.applied = begins_with;
            }
            self.check_behind(header, offset);
            return Ok(());
        }
        if begins_with.index < self.reached.index {
            self.go_back(begins_with)?;
        }
        let fits = begins_with.index == self.reached.index
            && begins_with.revision == self.reached.revision;
        if !fits {
            return Err(format!(
                "the segment begins behind {begins_with:?} and the log is at {:?}",
                self.reached
            ));
        }
        Ok(())
    }

    /// Everything behind an entry is replaced.
    fn go_back(&mut self, to: Reached) -> Result<(), String> {
        let known = self.terms.at(to.index).filter(|&term| term == to.term);
        if self.commitment == Commitment::EveryEntry
            || to.index < self.applied.index
            || known.is_none()
        {
            return Err(format!(
                "entries behind {to:?} are replaced, and {:?} is committed",
                self.applied
            ));
        }
        while let Some(last) = self.pending.pop_back_if(|last| last.header.index > to.index) {
            self.pending_bytes -= last.bytes();
        }
        self.damaged.retain(|damage| damage.index <= to.index);
        self.memberships.retain(|(index, _)| *index <= to.index);
        if let Commitment::HardState(voter) = &self.commitment {
            let known = voter.memberships.iter().filter(|(index, _)| *index > to.index);
            self.memberships.extend(known.cloned());
        }
        self.terms.truncate(to.index);
        self.reached = to;
        if to.index < self.behind.index {
            self.misfit_behind = None;
        }
        Ok(())
    }

    /// A snapshot of another member took the place of all that was before.
    fn restart(&mut self, header: &FrameHeader, membership: Membership) {
        let reached = Reached::by(header);
        self.pending.clear();
        self.pending_bytes = 0;
        self.damaged.clear();
        self.misfit_behind = None;
        self.memberships.retain(|(index, _)| *index > header.index);
        self.memberships.insert(0, (header.index, membership));
        self.terms = Terms::new(reached.index, reached.term);
        self.begins_after = Some(reached);
        self.reached = reached;
        if self.behind.index < reached.index {
            self.applied = reached;
        }
    }

    fn note_damage(&mut self, header: &FrameHeader, is_damaged: bool) {
        if is_damaged {
            let kind = match header.kind {
                FrameKind::Membership => EntryKind::Membership,
                _ => EntryKind::Normal,
            };
            self.damaged.push(Damage { index: header.index, term: header.term, kind });
        }
    }

    fn note_membership(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        is_damaged: bool,
    ) -> Result<(), String> {
        if header.kind != FrameKind::Membership || is_damaged {
            return Ok(());
        }
        let membership = Membership::decode(payload).ok_or("a membership that makes no sense")?;
        // What is known from elsewhere was in force at its index, and may be of an earlier one.
        let place = self.memberships.partition_point(|(index, _)| *index < header.index);
        match self.memberships.get_mut(place) {
            Some(known) if known.0 == header.index => known.1 = membership,
            _ => self.memberships.insert(place, (header.index, membership)),
        }
        Ok(())
    }

    /// An entry waits until it is committed.
    fn wait(&mut self, header: FrameHeader, payload: Vec<u8>, damaged: bool) -> Result<(), String> {
        let too_many = self.pending_bytes > limits::PENDING_BYTES;
        if too_many && !damaged {
            // Others have it, too: this member need not hold it in memory until it is committed.
            self.note_damage(&header, true);
        }
        let content = if damaged || too_many {
            Content::Absent
        } else if header.kind == FrameKind::Membership {
            Content::Membership(payload)
        } else {
            let batch = RawBatch::read(header, payload).map_err(|error| error.to_string())?;
            Content::Batch(batch)
        };
        let pending = Pending { header, content };
        self.pending_bytes += pending.bytes();
        self.pending.push_back(pending);
        Ok(())
    }

    /// Whether the snapshot is one of this log. If not, the entry that says so may be replaced.
    fn check_behind(&mut self, header: &FrameHeader, offset: u64) {
        let found = Reached::by(header);
        if found.index == self.behind.index && found.index > 0 && found != self.behind {
            let reason =
                format!("{found:?} was reached where the snapshot begins with {:?}", self.behind);
            self.misfit_behind = Some(inconsistent(header.segment, offset, reason));
        }
    }

    fn misfit(&self, header: &FrameHeader) -> Option<String> {
        let (index, revision_before) = (header.index, header.revision_before);
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
        if header.term < self.terms.last().1 {
            return Some(format!(
                "entry {expected} has term {} behind term {}",
                header.term,
                self.terms.last().1
            ));
        }
        None
    }
}

impl Pending {
    fn bytes(&self) -> usize {
        match &self.content {
            Content::Batch(batch) => batch.bytes(),
            Content::Membership(_) | Content::Absent => 0,
        }
    }

    fn into_entry(self) -> LogEntry {
        let payload = match self.content {
            Content::Batch(batch) => batch.into_payload().into(),
            Content::Membership(payload) => payload.into(),
            Content::Absent => Bytes::new(),
        };
        entry_of(&self.header, payload)
    }
}

/// An entry as its frame has it.
pub fn entry_of(header: &FrameHeader, payload: Bytes) -> LogEntry {
    let is_membership = header.kind == FrameKind::Membership;
    let changes_nothing = header.revision_before == header.revision_after;
    // The batch without anything in it stands for the entry that a term begins with.
    let is_empty = !is_membership && changes_nothing && payload[..] == EMPTY_BATCH;
    LogEntry {
        index: header.index,
        term: header.term,
        kind: if is_membership { EntryKind::Membership } else { EntryKind::Normal },
        revision_before: header.revision_before,
        revision_after: header.revision_after,
        payload: if is_empty { Bytes::new() } else { payload },
        staged: None,
    }
}

/// The payload of a frame without items.
pub const EMPTY_BATCH: [u8; 1] = [0];

fn place_of(frame: &ScannedFrame) -> Place {
    let header = &frame.header;
    Place {
        kind: header.kind,
        segment: header.segment,
        offset: frame.offset,
        end: frame.offset + frame_bytes(header.payload_length as usize) as u64,
        index: header.index,
        term: header.term,
        revision_before: header.revision_before,
        revision_after: header.revision_after,
    }
}

fn inconsistent(segment: u64, offset: u64, reason: String) -> LogError {
    LogError::Inconsistent { file: super::segment::file_name(segment), offset, reason }
}
