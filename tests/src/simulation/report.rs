//! What simulations did, in numbers.

use std::ops::AddAssign;

/// Faults that were injected, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    pub crashes: usize,
    /// Starts with another number of cores than before.
    pub resized: usize,
    /// Writes in flight at a crash that did not reach the disk, or in part, or in whole.
    pub lost: usize,
    pub torn: usize,
    pub late: usize,
    pub slow: usize,
    pub full: usize,
    pub clock_jumps: usize,
    /// Requests that nobody waited for any more.
    pub abandoned: usize,
    /// Damage that has to be noticed: bits of the log, bits of a snapshot, a frame elsewhere.
    pub log_bits: usize,
    pub snapshot_bits: usize,
    pub misdirected: usize,
}

/// What was done and checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    pub histories: usize,
    pub steps: usize,
    pub simulated_ms: u64,
    pub operations: usize,
    pub answers: usize,
    pub transactions: usize,
    pub old_reads: usize,
    pub looked_up: usize,
    pub events: usize,
    pub hashes: usize,
    pub leases_ended: usize,
    pub deletions: usize,
    pub compactions: usize,
    pub snapshots: usize,
    pub starts: usize,
    pub released: usize,
    pub faults: Faults,
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Faults) {
        self.crashes += other.crashes;
        self.resized += other.resized;
        self.lost += other.lost;
        self.torn += other.torn;
        self.late += other.late;
        self.slow += other.slow;
        self.full += other.full;
        self.clock_jumps += other.clock_jumps;
        self.abandoned += other.abandoned;
        self.log_bits += other.log_bits;
        self.snapshot_bits += other.snapshot_bits;
        self.misdirected += other.misdirected;
    }
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Report) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.simulated_ms += other.simulated_ms;
        self.operations += other.operations;
        self.answers += other.answers;
        self.transactions += other.transactions;
        self.old_reads += other.old_reads;
        self.looked_up += other.looked_up;
        self.events += other.events;
        self.hashes += other.hashes;
        self.leases_ended += other.leases_ended;
        self.deletions += other.deletions;
        self.compactions += other.compactions;
        self.snapshots += other.snapshots;
        self.starts += other.starts;
        self.released += other.released;
        self.faults += other.faults;
    }
}

impl Report {
    /// Lines of a table: what, and how many.
    pub fn rows(&self) -> Vec<(&'static str, usize)> {
        let faults = &self.faults;
        vec![
            ("histories checked", self.histories),
            ("steps", self.steps),
            ("simulated hours", (self.simulated_ms / 3_600_000) as usize),
            ("operations", self.operations),
            ("answers checked", self.answers),
            ("  transactions evaluated again", self.transactions),
            ("  reads at older revisions", self.old_reads),
            ("  hashes compared", self.hashes),
            ("versions looked up on the disk", self.looked_up),
            ("watch events checked", self.events),
            ("leases ended", self.leases_ended),
            ("deletions of very many keys", self.deletions),
            ("compactions", self.compactions),
            ("snapshots completed", self.snapshots),
            ("segments released", self.released),
            ("starts", self.starts),
            ("fault: crashes", faults.crashes),
            ("fault: other number of cores", faults.resized),
            ("fault: writes lost", faults.lost),
            ("fault: writes torn", faults.torn),
            ("fault: writes done, not reported", faults.late),
            ("fault: slow disk", faults.slow),
            ("fault: full disk", faults.full),
            ("fault: clock jumps", faults.clock_jumps),
            ("fault: requests abandoned", faults.abandoned),
            ("fault: bits of the log flipped", faults.log_bits),
            ("fault: bits of a snapshot flipped", faults.snapshot_bits),
            ("fault: frames misdirected", faults.misdirected),
        ]
    }
}
