//! Beginning and ceasing to lead. While this member leads, its cores evaluate requests ahead of their
//! commit; when it ceases to, all of them undo what is not committed before anything else goes on.

use super::{Output, Replica, Ticket};
use crate::error::StoreError;
use crate::message::{Message, Reign};
use crate::shard::RequestId;

impl Replica {
    /// Whether requests are evaluated here.
    pub(super) fn leads(&self) -> bool {
        !self.reign.is_multiple_of(2)
    }

    /// Requests are evaluated on this core from now on. Another core may have heard of it first.
    pub(super) fn take_lead(&mut self, reign: Reign) {
        assert!(!reign.is_multiple_of(2) && reign >= self.reign, "{reign} after {}", self.reign);
        assert!(self.stepping_down.is_none(), "the reign before has ended everywhere");
        self.reign = reign;
    }

    /// Undoes what is not committed.
    pub(super) fn step_down(&mut self, reign: Reign, out: &mut Output) {
        assert!(reign.is_multiple_of(2) && reign > self.reign, "{reign} after {}", self.reign);
        self.reign = reign;
        self.fail_hidden(out);
        self.fail_unconfirmed(out);
        let committed = self.shared.committed_revision();
        let deferred: Vec<RequestId> = self.shard.rollback(committed);
        for request in deferred {
            self.refuse(Ticket::unpack(request), StoreError::LeaderChanged, out);
        }
        for (_, ticket, _) in std::mem::take(&mut self.unknown_lease) {
            self.refuse(ticket, StoreError::LeaderChanged, out);
        }
        self.ending_leases.clear();
        self.ending_freezes.clear();
        self.waiting_gathers.clear();
        self.collecting.clear();
        self.note_usage();
        self.stepping_down = Some(reign);
        out.work = true;
        self.finish_stepping_down(out);
    }

    /// A deletion that is committed has to be complete before others change the same keys: nothing
    /// is frozen any more.
    pub(super) fn finish_stepping_down(&mut self, out: &mut Output) {
        if !self.shard.is_ending()
            && let Some(reign) = self.stepping_down.take()
        {
            self.send(0, Message::SteppedDown { reign }, out);
        }
    }

    /// What another leader's entry does here. Gives nothing but what lived before.
    pub(super) fn replicate(
        &mut self,
        job: u64,
        records: Vec<crate::record::Record>,
        out: &mut Output,
    ) {
        assert!(!self.leads() && self.stepping_down.is_none(), "nobody else changes anything");
        let previous = records.into_iter().map(|record| self.shard.install(record)).collect();
        self.note_usage();
        self.send(0, Message::Replicated { job, previous }, out);
    }
}
