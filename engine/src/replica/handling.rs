//! What a core does when another one says something.

use super::collect::Collecting;
use super::reads::SLICE_STEPS;
use super::{Mail, Output, Replica, Ticket};
use crate::error::StoreError;
use crate::message::{Answer, Message, Slice};

impl Replica {
    pub(super) fn handle(&mut self, from: usize, message: Message, now_ms: u64, out: &mut Output) {
        match message {
            Message::Evaluate { token, transaction, reign } => {
                let ticket = Ticket { core: from, token };
                if reign > self.reign {
                    self.take_lead(reign);
                }
                if reign == self.reign {
                    self.evaluate(ticket, transaction, out);
                } else {
                    self.refuse(ticket, StoreError::LeaderChanged, out);
                }
            }
            Message::Evaluated { token, outcome, due }
            | Message::Forwarded { token, outcome, due } => {
                self.settle(token, outcome, due, out);
            }
            Message::Replicate { job, records } => self.replicate(job, records, out),
            Message::TakeLead { reign } => self.take_lead(reign),
            Message::StepDown { reign } => self.step_down(reign, out),
            Message::Confirmed { number, result } => self.confirmed(number, result, out),
            Message::Replace(replacement) => self.replace(*replacement, out),
            Message::Committed(batch) => self.committed(&batch, out),
            Message::ReadSlice { token, slice } => {
                let Slice { range, revision, after, max_keys } = slice;
                let mvcc = self.shard.mvcc();
                let result = self.readable(revision).map(|()| {
                    let mut chunk = mvcc.range_chunk(&range, revision, after.as_deref(), max_keys);
                    if self.shard.is_ending() {
                        chunk.retain(|record| self.shard.lives(record, revision));
                    }
                    chunk
                });
                self.send(from, Message::SliceRead { token, result }, out);
            }
            Message::SliceRead { token, result } => {
                self.advance_read(token, out, |read| Ok(read.slice_read(from, result?)));
            }
            Message::Count { token, range, revision, resume_from } => {
                let result = self.readable(revision).map(|()| {
                    let from = resume_from.as_deref();
                    self.shard.count_chunk(&range, revision, from, SLICE_STEPS)
                });
                self.send(from, Message::Counted { token, result }, out);
            }
            Message::Counted { token, result } => {
                self.advance_read(token, out, |read| Ok(read.slice_counted(from, result?)));
            }
            Message::TakeSlice { token, part } => {
                let slice = self.snapshot_slice(part);
                self.send(from, Message::SliceTaken { token, slice }, out);
            }
            Message::SliceTaken { token, slice } => {
                self.answer(token, Ok(Answer::SnapshotSlice(slice)), out);
            }
            Message::Gather(gather) => {
                if self.hold(&gather) {
                    self.collect(Collecting::new(gather), out);
                } else {
                    self.waiting_gathers.insert(gather.job, gather);
                }
            }
            Message::Install { job, changes } => {
                for change in changes {
                    self.shard.install(change.record);
                }
                self.note_usage();
                // Leases are held until their revocation is applied here.
                if !self.ending_freezes.contains_key(&job) {
                    self.release(job, out);
                }
                self.send(from, Message::Installed { job }, out);
            }
            Message::End { job, ended } => {
                self.shard.begin_ending(job, ended.revision, ended.ranges);
                out.work = true;
                self.send(from, Message::Installed { job }, out);
            }
            Message::Forward { .. }
            | Message::Effect { .. }
            | Message::Confirm { .. }
            | Message::Replicated { .. }
            | Message::SteppedDown { .. }
            | Message::Gathered { .. }
            | Message::Installed { .. }
            | Message::CompactionDone { .. } => {
                let member = self.member.as_mut().expect("only sent to core 0");
                let mut mail = Mail { own: &mut self.own, out };
                member.receive(from, message, now_ms, &self.shared, &mut mail);
            }
        }
    }
}
