//! Snapshots for peers that need what the log has no more (Raft paper, 7; dissertation, 5).
//!
//! The content is the owner's. It goes in parts, one at a time; the receiver says how many bytes it
//! has on its disk, and the sender goes on from there: after a lost message, after a restart of the
//! receiver ([`Config::partial_snapshot`]), and after a change of leaders if the new one's snapshot
//! has the same index and fingerprint. When it is complete, [`Ready::install`] asks the receiver's
//! owner to begin anew from it; no entries are taken meanwhile.
//!
//! A snapshot whose last entry is in the receiver's log is not needed, unless something before it is
//! damaged; then the entries behind it stay, as they may have been acknowledged.
//!
//! [`Config::partial_snapshot`]: crate::Config::partial_snapshot
//! [`Ready::install`]: crate::Ready::install

use bytes::Bytes;

use crate::error::StepError;
use crate::membership::History;
use crate::messages::Body;
use crate::node::Node;
use crate::progress::State;
use crate::types::{Install, Snapshot, SnapshotPart, SnapshotWanted};

/// A snapshot on its way to this member.
#[derive(Debug)]
pub(crate) struct Receiving {
    snapshot: Snapshot,
    /// Handed to the owner, and on its disk.
    pub(crate) queued: u64,
    durable: u64,
    /// Nothing follows what is queued.
    complete: bool,
    /// The owner is at it.
    installing: bool,
}

impl Receiving {
    pub(crate) fn resumed((snapshot, received): (Snapshot, u64)) -> Receiving {
        let (queued, durable) = (received, received);
        Receiving { snapshot, queued, durable, complete: false, installing: false }
    }
}

impl Node {
    pub(crate) fn begin_snapshot(&mut self, peer: u64) {
        let now = self.now;
        let Some(progress) = self.leading.peers.get_mut(&peer) else { return };
        progress.become_snapshot(now);
        self.want_part(peer);
    }

    /// Asks the owner for the part that `peer` needs next.
    fn want_part(&mut self, peer: u64) {
        let Some(progress) = self.leading.peers.get_mut(&peer) else { return };
        let State::Snapshot(transfer) = &mut progress.state else { return };
        if transfer.asked {
            return;
        }
        transfer.asked = true;
        transfer.tick = self.now;
        self.out.snapshots_wanted.push(SnapshotWanted {
            to: peer,
            snapshot: transfer.snapshot.clone(),
            offset: transfer.received,
            max_bytes: self.options.snapshot_part_bytes,
        });
    }

    /// Bytes of the snapshot of everything up to `index`, for `to`. They follow `offset` others,
    /// and `done` says that they are the last. Parts that were not asked for are dropped.
    pub fn snapshot_part(
        &mut self,
        to: u64,
        (index, fingerprint): (u64, u64),
        offset: u64,
        data: Bytes,
        done: bool,
    ) {
        let Some(progress) = self.leading.peers.get_mut(&to) else { return };
        let State::Snapshot(transfer) = &mut progress.state else { return };
        if !std::mem::take(&mut transfer.asked) {
            return;
        }
        let known = transfer.snapshot.as_ref();
        let same = |known: &&Snapshot| known.index == index && known.fingerprint == fingerprint;
        let snapshot = match known.filter(same) {
            Some(known) if offset == transfer.received => known.clone(),
            _ => {
                let term = self.log.term_at(index).filter(|_| index <= self.hard_state.commit);
                let membership = self.history.at(index).filter(|found| !found.is_empty());
                let (Some(term), Some(membership)) = (term, membership) else { return };
                if offset != 0 {
                    return;
                }
                let membership = membership.clone();
                Snapshot { index, term, fingerprint, membership }
            }
        };
        transfer.received = offset;
        transfer.snapshot = Some(snapshot.clone());
        transfer.end = done.then_some(offset + data.len() as u64);
        self.send(to, Body::SnapshotPart(SnapshotPart { snapshot, offset, data, done }));
    }

    /// There is no snapshot for `to` now; it is asked for again when the peer next shows up.
    pub fn snapshot_unavailable(&mut self, to: u64) {
        let round = self.reads.newest_round();
        let Some(progress) = self.leading.peers.get_mut(&to) else { return };
        if matches!(progress.state, State::Snapshot(_)) {
            progress.become_probe(progress.next);
            progress.state = State::Probe { sent: Some(round) };
        }
    }

    /// Sends again what was not answered for an election timeout.
    pub(crate) fn retry_snapshots(&mut self) {
        let (now, patience) = (self.now, u64::from(self.options.election_ticks));
        let peers = self.leading.peers.iter();
        let late = peers.filter(|(_, progress)| match &progress.state {
            State::Snapshot(transfer) => now - transfer.tick >= patience,
            _ => false,
        });
        let late: Vec<u64> = late.map(|(id, _)| *id).collect();
        for peer in late {
            self.want_part(peer);
        }
    }

    pub(crate) fn handle_snapshot_response(
        &mut self,
        from: u64,
        snapshot: &Snapshot,
        received: u64,
    ) {
        let now = self.now;
        let Some(progress) = self.leading.peers.get_mut(&from) else { return };
        let State::Snapshot(transfer) = &mut progress.state else { return };
        // An answer without progress is an echo; if it is more than that, a retry will find out.
        if transfer.snapshot.as_ref() != Some(snapshot) || received == transfer.received {
            return;
        }
        transfer.received = received;
        transfer.tick = now;
        if transfer.end != Some(received) {
            self.want_part(from);
        }
    }

    pub(crate) fn is_installing(&self) -> bool {
        self.receiving.as_ref().is_some_and(|receiving| receiving.installing)
    }

    /// The receiver's side.
    pub(crate) fn handle_snapshot_part(
        &mut self,
        from: u64,
        part: SnapshotPart,
    ) -> Result<(), StepError> {
        let snapshot = &part.snapshot;
        if snapshot.membership.is_empty() || snapshot.term > self.hard_state.term {
            return Err(StepError::Malformed { from });
        }
        if self.is_installing() {
            return Ok(());
        }
        if !self.needs(snapshot) {
            let index = snapshot.index.min(self.log.last_index);
            self.receiving = None;
            self.writes.forget_snapshot();
            self.commit_to(index.max(self.hard_state.commit));
            self.verified = self.verified.max(index);
            self.tell_durable();
            return Ok(());
        }
        let known = self.receiving.as_ref().is_some_and(|known| known.snapshot == *snapshot);
        if !known && part.offset == 0 {
            self.writes.forget_snapshot();
            self.receiving = Some(Receiving::resumed((snapshot.clone(), 0)));
        }
        match &mut self.receiving {
            Some(receiving) if receiving.snapshot == *snapshot => {
                if part.offset == receiving.queued && !receiving.complete {
                    receiving.queued += part.data.len() as u64;
                    receiving.complete = part.done;
                    self.out.snapshot_parts.push(part);
                } else {
                    self.tell_received();
                }
            }
            _ => {
                let snapshot = snapshot.clone();
                self.send(from, Body::SnapshotResponse { snapshot, received: 0 });
            }
        }
        Ok(())
    }

    /// Whether the log lacks something that the snapshot has.
    fn needs(&self, snapshot: &Snapshot) -> bool {
        let contained = snapshot.index <= self.hard_state.commit
            || self.log.term_at(snapshot.index) == Some(snapshot.term);
        let first_damage = self.log.damaged.first_key_value();
        let mends = first_damage.is_some_and(|(damaged, _)| *damaged <= snapshot.index);
        // The state machine never goes back, whatever is damaged.
        !contained || (mends && snapshot.index >= self.applied)
    }

    fn tell_received(&mut self) {
        let Some(receiving) = &self.receiving else { return };
        let (snapshot, received) = (receiving.snapshot.clone(), receiving.durable);
        if self.leader != 0 {
            self.send(self.leader, Body::SnapshotResponse { snapshot, received });
        }
    }

    /// So many bytes of what is being received were on the disk when a write was done.
    pub(crate) fn snapshot_bytes_written(&mut self, bytes: u64) {
        let Some(receiving) = &mut self.receiving else { return };
        let was_complete = receiving.complete && receiving.durable == receiving.queued;
        let news = bytes > receiving.durable;
        receiving.durable = receiving.durable.max(bytes);
        let complete = receiving.complete && receiving.durable == receiving.queued;
        if complete && !receiving.installing {
            receiving.installing = true;
            let snapshot = receiving.snapshot.clone();
            let keeps_tail = self.log.term_at(snapshot.index) == Some(snapshot.term);
            self.out.install = Some(Box::new(Install { snapshot, keeps_tail }));
        }
        if news || (complete && !was_complete) {
            self.tell_received();
        }
    }

    /// The state machine and the log begin at the snapshot that [`Ready::install`] named, durably.
    ///
    /// [`Ready::install`]: crate::Ready::install
    pub fn snapshot_installed(&mut self) {
        assert!(self.is_installing(), "no snapshot was to be installed");
        let Some(Receiving { snapshot, .. }) = self.receiving.take() else { return };
        self.writes.forget_snapshot();
        let (index, term) = (snapshot.index, snapshot.term);
        if self.log.term_at(index) == Some(term) {
            self.log.durable = self.log.durable.max(index);
            self.log.compact(index);
            self.history.restore(index, snapshot.membership);
            self.history.compact(index);
        } else {
            assert!(index > self.hard_state.commit, "a committed entry would be dropped");
            self.log.reset(index, term);
            self.writes.truncate(1);
            self.history = History::new(vec![(index, snapshot.membership)]);
        }
        self.note_membership();
        self.commit_to(index.max(self.hard_state.commit));
        self.applied = self.applied.max(index);
        self.verified = self.verified.max(index);
        self.repairs.forget_before(index);
        if self.leader != 0 {
            self.tell_durable();
        }
    }
}
