//! Every bound and switch of a node, with its reason.

/// At most this many members, so that counting a quorum needs no memory from the heap.
pub const MEMBERS: usize = 32;

/// Rules of time and bounds of memory. The same on all members, as far as time is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// A follower that heard nothing for this many ticks campaigns (up to twice as many, by chance).
    pub election_ticks: u32,
    /// A leader speaks up every so many ticks.
    pub heartbeat_ticks: u32,
    /// Ask before a campaign whether it could be won (dissertation, 9.6).
    pub pre_vote: bool,
    /// A leader that hears from no quorum steps down, and a follower that hears from its leader
    /// votes for nobody (dissertation, 6.2 and 4.2.3).
    pub check_quorum: bool,
    /// Serve reads without asking around while the lease holds. Off by default, because it trusts
    /// clocks; see [`crate::read_index`] for what it assumes.
    pub lease_reads: bool,
    /// How much shorter than `election_ticks` a lease is. One tick covers the graininess of ticks,
    /// the others how much faster than the leader's a voter's clock may run.
    pub lease_drift_ticks: u32,
    /// Entries per message to a peer; a bigger single entry goes alone.
    pub message_bytes: usize,
    /// Messages to one peer that wait for an answer: what pipelining needs to hide a round trip.
    pub inflight_messages: usize,
    /// The same in bytes: what a slow peer can pin in memory.
    pub inflight_bytes: usize,
    /// Recent entries kept for peers. Older ones are asked for. Unused by a member that is alone.
    pub cache_bytes: usize,
    /// Proposals that are not committed yet: beyond, the cluster is slower than its clients.
    pub uncommitted_entries: u64,
    pub uncommitted_bytes: u64,
    /// Reads that wait for a quorum, per member.
    pub pending_reads: usize,
    /// A part of a snapshot in one message.
    pub snapshot_part_bytes: usize,
    /// Damaged entries looked after at a time by requests to peers.
    pub repairs_at_once: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            check_quorum: true,
            lease_reads: false,
            lease_drift_ticks: 3,
            message_bytes: 1 << 20,
            inflight_messages: 256,
            inflight_bytes: 32 << 20,
            cache_bytes: 64 << 20,
            uncommitted_entries: 1 << 20,
            uncommitted_bytes: 4 << 30,
            pending_reads: 1 << 16,
            snapshot_part_bytes: 1 << 20,
            repairs_at_once: 16,
        }
    }
}

impl Options {
    pub(crate) fn check(&self) {
        assert!(self.heartbeat_ticks > 0 && self.heartbeat_ticks < self.election_ticks);
        assert!(self.inflight_messages > 0 && self.message_bytes > 0);
        assert!(self.inflight_bytes > 0 && self.snapshot_part_bytes > 0);
        if self.lease_reads {
            assert!(self.check_quorum, "a lease rests on voters that stick to their leader");
            assert!(self.lease_drift_ticks >= 2, "one tick is the graininess alone");
            assert!(self.lease_drift_ticks < self.election_ticks);
        }
    }
}
