//! Applying entries that were evaluated elsewhere: shards install their records, and tell what lived
//! before each, as watchers want it. Then the batch is handed to all cores like one's own.
//!
//! Several entries are on their way at once. Each shard takes them in order. An entry that grants or
//! ends a lease is handed out before the next begins, as that may attach keys to it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Mail, owner};
use crate::effect::{Batch, Change, Control, Deleted, Deletion, Item, SharedBatch};
use crate::message::Message;
use crate::record::Record;
use crate::sequencer::{LogEntry, Own};

/// Entries on their way at once: enough to keep all shards busy.
const JOBS_MAX: usize = 64;

/// Records in one message to a shard: some hundred microseconds' worth.
const SLICE_RECORDS: usize = if cfg!(test) { 2 } else { 512 };

/// Deletions of more keys than this travel on as one.
const MANY_KEYS: usize = if cfg!(test) { 1 } else { 1024 };

/// Something that was applied, in order.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) batch: SharedBatch,
    pub(super) tickets: Vec<u64>,
    /// Bytes that no longer wait for their commit.
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Applying {
    /// In order of the log.
    jobs: VecDeque<Job>,
    next_number: u64,
}

#[derive(Debug)]
struct Job {
    number: u64,
    content: Content,
    parts: Vec<Part>,
    /// Shards that have not installed everything.
    missing: usize,
    /// Shards have to have its batch before they take the next.
    is_barrier: bool,
}

#[derive(Debug)]
enum Content {
    /// It was evaluated here.
    Own(Own),
    Foreign(Batch),
}

/// A shard's share of an entry.
#[derive(Debug)]
struct Part {
    shard: usize,
    /// Places of its changes: number of the item, and of the change in it.
    places: Vec<(u32, u32)>,
    sent: usize,
    answered: usize,
}

impl Applying {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether the next entry may begin.
    pub(super) fn has_room(&self) -> bool {
        let last_sent = self.jobs.back().is_none_or(Job::is_sent);
        self.jobs.len() < JOBS_MAX && last_sent && !self.jobs.iter().any(|job| job.is_barrier)
    }

    /// A batch that was evaluated here is committed.
    pub(super) fn begin_own(&mut self, own: Own) {
        self.begin(Content::Own(own), Vec::new());
    }

    /// An entry of another leader, or of raft itself, is committed.
    pub(super) fn begin_foreign(&mut self, entry: &LogEntry, cores: usize, mail: &mut Mail<'_>) {
        let (index, term) = (entry.index, entry.term);
        // It is committed: without it, this member can't go on.
        let batch = entry.batch();
        let batch = batch.unwrap_or_else(|error| panic!("entry {index} of term {term}: {error}"));
        let mut parts: Vec<Part> = Vec::new();
        for (item, content) in batch.items.iter().enumerate() {
            let Item::Effect(effect) = content else { continue };
            for (change, content) in effect.changes.iter().enumerate() {
                let shard = owner::of_key(content.record.key(), cores);
                let place = (item as u32, change as u32);
                match parts.iter_mut().find(|part| part.shard == shard) {
                    Some(part) => part.places.push(place),
                    None => {
                        let places = vec![place];
                        parts.push(Part { shard, places, sent: 0, answered: 0 });
                    }
                }
            }
        }
        self.begin(Content::Foreign(batch), parts);
        let job = self.jobs.back_mut().expect("just begun");
        (0..job.parts.len()).for_each(|part| job.send_slice(part, mail));
    }

    fn begin(&mut self, content: Content, parts: Vec<Part>) {
        self.next_number += 1;
        let (number, missing) = (self.next_number, parts.len());
        let is_barrier = content.changes_leases();
        self.jobs.push_back(Job { number, content, parts, missing, is_barrier });
    }

    /// A shard has installed a slice.
    pub(super) fn replicated(
        &mut self,
        shard: usize,
        number: u64,
        previous: Vec<Option<Record>>,
        mail: &mut Mail<'_>,
    ) {
        let first = self.jobs.front().map_or(0, |first| first.number);
        let place = usize::try_from(number - first).expect("jobs end in order");
        let job = &mut self.jobs[place];
        let index = job.parts.iter().position(|part| part.shard == shard);
        let index = index.expect("only a shard that was asked answers");
        let part = &mut job.parts[index];
        let Content::Foreign(batch) = &mut job.content else {
            unreachable!("own batches are installed already")
        };
        for previous in previous {
            let (item, change) = part.places[part.answered];
            part.answered += 1;
            let Item::Effect(effect) = &mut batch.items[item as usize] else { unreachable!() };
            effect.changes[change as usize].previous = previous;
        }
        if part.answered == part.places.len() {
            job.missing -= 1;
        } else if part.answered == part.sent {
            job.send_slice(index, mail);
        }
    }

    /// The oldest entry, once it is installed everywhere.
    pub(super) fn take_applied(&mut self) -> Option<Applied> {
        let job = self.jobs.pop_front_if(|job| job.missing == 0)?;
        Some(match job.content {
            Content::Own(Own { batch, tickets, bytes }) => Applied { batch, tickets, bytes },
            Content::Foreign(batch) => {
                let batch = Arc::new(with_deletion(batch));
                Applied { batch, tickets: Vec::new(), bytes: 0 }
            }
        })
    }
}

impl Content {
    fn changes_leases(&self) -> bool {
        use Control::{LeaseGrant, LeaseRevoke};
        let Content::Foreign(batch) = self else { return false };
        let of_lease =
            |item: &Item| matches!(item, Item::Control(LeaseGrant { .. } | LeaseRevoke { .. }));
        batch.items.iter().any(of_lease)
    }
}

impl Job {
    fn is_sent(&self) -> bool {
        self.parts.iter().all(|part| part.sent == part.places.len())
    }

    fn send_slice(&mut self, part: usize, mail: &mut Mail<'_>) {
        let Content::Foreign(batch) = &self.content else { return };
        let part = &mut self.parts[part];
        let end = (part.sent + SLICE_RECORDS).min(part.places.len());
        let record = |&(item, change): &(u32, u32)| match &batch.items[item as usize] {
            Item::Effect(effect) => effect.changes[change as usize].record.clone(),
            Item::Deletion(_) | Item::Control(_) => unreachable!("places are those of changes"),
        };
        let records = part.places[part.sent..end].iter().map(record).collect();
        part.sent = end;
        mail.send(part.shard, Message::Replicate { job: self.number, records });
    }
}

/// The end of very many keys as one [`Deletion`], as where it was evaluated.
fn with_deletion(mut batch: Batch) -> Batch {
    let [Item::Effect(effect)] = &mut batch.items[..] else { return batch };
    let many = effect.changes.len() > MANY_KEYS;
    let ends = |change: &Change| change.record.is_tombstone() && change.previous.is_some();
    if !many || !effect.changes.iter().all(ends) {
        return batch;
    }
    let revision = effect.revision;
    let previous = effect.changes.drain(..).filter_map(|change| change.previous);
    let deleted = Arc::new(Deleted::new(previous.collect()));
    batch.items = vec![Item::Deletion(Deletion { revision, deleted })];
    batch
}
