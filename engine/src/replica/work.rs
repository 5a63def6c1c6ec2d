//! A core's part in requests that touch many keys or many cores: holding, collecting, ending, and
//! other work of which each turn does a slice.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::collect::Collecting;
use super::heavy::HeavyDone;
use super::{Mail, Output, Replica, Ticket, owner};
use crate::effect::Deleted;
use crate::message::{Gather, Message};
use crate::record::LeaseId;
use crate::request::Transaction;
use crate::shard::{self, Resumed};

/// Keys in the ranges of a transaction that one turn of a core may look at.
const LARGE_KEYS: usize = if cfg!(test) { 4 } else { 512 };

/// Keys that one slice collects for the coordinator.
const COLLECT_KEYS: usize = if cfg!(test) { 2 } else { 512 };

/// Keys that one slice marks as ended, and records that one slice drops: each about 100
/// microseconds' worth.
const END_KEYS: usize = if cfg!(test) { 1 } else { 128 };

const DROP_RECORDS: usize = 1024;

/// Keys that one slice looks at for versions to evict.
const EVICTIONS_AT_ONCE: usize = 512;

impl Replica {
    /// A large transaction was evaluated.
    pub fn evaluated(&mut self, done: HeavyDone, now_ms: u64, out: &mut Output) {
        let member = self.member.as_mut().expect("only core 0 coordinates");
        let mut mail = Mail { own: &mut self.own, out };
        member.evaluated(done, &self.shared, &mut mail);
        self.resume(now_ms, out);
    }

    /// Does a slice of what takes long: collecting and ending very many keys. Gives whether there
    /// is more.
    pub fn work_slice(&mut self, now_ms: u64, out: &mut Output) -> bool {
        if let Some(collecting) = self.collecting.pop_front() {
            self.collect(collecting, out);
        }
        if self.shard.is_ending() {
            self.end_slice(out);
        }
        let mut leading = false;
        if let Some(member) = &mut self.member {
            let mut mail = Mail { own: &mut self.own, out };
            leading = member.work_slice(now_ms, &self.shared, &mut mail);
        }
        let kept = self.dropping_records.len().saturating_sub(DROP_RECORDS);
        self.dropping_records.truncate(kept);
        if kept == 0 {
            let last = self.dropping.pop().and_then(Arc::into_inner);
            self.dropping_records = last.map(Deleted::into_records).unwrap_or_default();
        }
        let evicted = self.shard.evict(self.hub.ring_begins_after(), EVICTIONS_AT_ONCE);
        self.resume(now_ms, out);
        let dropping = !self.dropping.is_empty() || !self.dropping_records.is_empty();
        !self.collecting.is_empty() || self.shard.is_ending() || dropping || leading || !evicted
    }

    fn end_slice(&mut self, out: &mut Output) {
        let completed = self.shard.end_slice(END_KEYS);
        self.note_usage();
        if let Some(token) = completed {
            self.release(token, out);
            self.finish_stepping_down(out);
            // What this ended may be older than a compaction.
            out.compact = true;
        }
    }

    /// Holds back whoever would change what the coordinator asks for. Gives whether that is so
    /// already, or has to wait for others who hold it.
    pub(super) fn hold(&mut self, gather: &Gather) -> bool {
        let token = gather.job;
        if !gather.hold {
            return true;
        }
        if gather.leases.is_empty() {
            return self.shard.freeze(token, gather.ranges.clone(), gather.attaching.clone());
        }
        self.ending_freezes.insert(token, gather.leases.len());
        self.ending_leases.extend(gather.leases.iter().map(|&lease| (lease, token)));
        self.shard.freeze_leases(token, &gather.leases)
    }

    /// Tells all cores what this one holds, for the quota.
    pub(super) fn note_usage(&self) {
        let live_bytes = self.shard.mvcc().usage().live_bytes as u64;
        self.shared.facts()[self.core].live_bytes.store(live_bytes, Ordering::Relaxed);
    }

    /// Gives the coordinator what it asks for, once all of it is collected.
    pub(super) fn collect(&mut self, mut collecting: Collecting, out: &mut Output) {
        let committed = self.shared.committed_revision();
        if collecting.slice(&self.shard, committed, COLLECT_KEYS) {
            let job = collecting.job();
            let gathered = collecting.gathered();
            self.send(0, Message::Gathered { job, gathered }, out);
        } else {
            self.collecting.push_back(collecting);
            out.work = true;
        }
    }

    pub(super) fn release(&mut self, token: shard::Token, out: &mut Output) {
        let committed = self.shared.committed_revision();
        let shared = Arc::clone(&self.shared);
        let resumed = self.shard.release(token, committed, &mut || shared.take_revision());
        for resumed in resumed {
            match resumed {
                Resumed::Request { request, outcome } => {
                    self.finish(Ticket::unpack(request), outcome, out);
                }
                Resumed::Frozen(token) => {
                    let gather = self.waiting_gathers.remove(&token).expect("it waited for this");
                    self.collect(Collecting::new(gather), out);
                }
            }
        }
    }

    pub(super) fn lease_ended(&mut self, lease: LeaseId, out: &mut Output) {
        let Some(token) = self.ending_leases.remove(&lease) else { return };
        let open = self.ending_freezes.get_mut(&token).expect("it holds this lease back");
        *open -= 1;
        if *open == 0 {
            self.ending_freezes.remove(&token);
            self.release(token, out);
        }
    }

    /// Whether a transaction may look at more keys than this core has time for in one turn.
    pub(super) fn is_large(&self, transaction: &Transaction) -> bool {
        let mut large = false;
        owner::visit_ranges(transaction, &mut |range| {
            large |= self.shard.mvcc().is_larger_than(range, LARGE_KEYS);
        });
        large
    }
}
