//! What goes out of a replica, and names of who asked.

use std::collections::VecDeque;
use std::sync::Arc;

use mainstay_raft::{EntriesWanted, Install, SnapshotWanted};

use super::Heavy;
use crate::cluster::MemberInfo;
use crate::effect::SharedBatch;
use crate::message::{Message, Outcome, Token};
use crate::mvcc::Lookup;
use crate::peer::PeerMessage;
use crate::sequencer::LogWrite;
use crate::shard;
use crate::watch::WatcherId;

/// What has to happen outside of a replica, in this order.
#[derive(Debug, Default)]
pub struct Output {
    /// Committed: to every other core, before `messages`, which may tell of it. The cores need not
    /// be woken for it unless they are interested.
    pub commits: Vec<SharedBatch>,
    /// To other cores, in order.
    pub messages: Vec<(usize, Message)>,
    pub answers: Vec<(Token, Outcome)>,
    /// To the log, in order.
    pub writes: Vec<LogWrite>,
    /// To other members. They need not wait for the writes.
    pub peer: Vec<(u64, PeerMessage)>,
    pub watchers: Vec<WatcherId>,
    /// There is something to pack into a batch: call [`Replica::pump`](super::Replica::pump) soon.
    pub pump: bool,
    /// Work was left for later: call [`Replica::resume`](super::Replica::resume) soon.
    pub resume: bool,
    /// To be looked up in the log, for [`Replica::history_found`](super::Replica::history_found);
    /// by number.
    pub lookups: Vec<(u64, Vec<Lookup>)>,
    /// To be run on some other thread; the result goes to
    /// [`Replica::evaluated`](super::Replica::evaluated).
    pub heavy: Vec<Heavy>,
    /// There is work that no one waits for in this turn: call
    /// [`Replica::work_slice`](super::Replica::work_slice) until it says that there is no more.
    pub work: bool,
    /// There is history to forget: call [`Replica::compact_slice`](super::Replica::compact_slice)
    /// until it says there is not.
    pub compact: bool,
    /// To be read from the log, for [`Replica::entries_read`](super::Replica::entries_read) or
    /// [`Replica::entries_compacted`](super::Replica::entries_compacted).
    pub entries_wanted: Vec<EntriesWanted>,
    /// Of snapshots, for [`Replica::snapshot_part`](super::Replica::snapshot_part) or
    /// [`Replica::snapshot_unavailable`](super::Replica::snapshot_unavailable).
    pub snapshots_wanted: Vec<SnapshotWanted>,
    /// A snapshot is complete, to begin anew from, for
    /// [`Replica::snapshot_installed`](super::Replica::snapshot_installed).
    pub install: Option<Box<Install>>,
    /// Who is a member now, when that or what is known of them has changed.
    pub members: Option<Arc<[MemberInfo]>>,
}

/// Where core 0's part puts messages: those to its own core wait until it has finished what it is
/// at.
pub(super) struct Mail<'a> {
    pub(super) own: &'a mut VecDeque<Message>,
    pub(super) out: &'a mut Output,
}

impl Mail<'_> {
    pub(super) fn send(&mut self, to: usize, message: Message) {
        if to == 0 {
            self.own.push_back(message);
        } else {
            self.out.messages.push((to, message));
        }
    }
}

/// Names a request from any core: who asked, and its token there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub core: usize,
    pub token: Token,
}

impl Ticket {
    /// Tokens count from 1 at each start: 2^56 of them last for centuries.
    const TOKEN_BITS: u32 = 56;

    /// In the tokens of what another member asked.
    pub(super) const REMOTE: Token = 1 << (Self::TOKEN_BITS - 1);

    pub(super) fn pack(self) -> shard::RequestId {
        assert!(self.token < 1 << Self::TOKEN_BITS);
        (self.core as u64) << Self::TOKEN_BITS | self.token
    }

    pub(super) fn unpack(id: shard::RequestId) -> Ticket {
        let core = (id >> Self::TOKEN_BITS) as usize;
        Ticket { core, token: id & ((1 << Self::TOKEN_BITS) - 1) }
    }
}

const _: () = assert!(crate::limits::CORES <= 1 << (u64::BITS - Ticket::TOKEN_BITS));
