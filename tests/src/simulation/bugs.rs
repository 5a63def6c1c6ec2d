//! Mistakes that can be planted at the seams of the simulation, to see that they are noticed.

/// What the store does wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// What was handed to the disk counts as durable.
    AckBeforeSync,
    /// The last frame of the log is not seen at a start.
    DropFrameAtRecovery,
    /// A changed byte of the log passes for what was written.
    ChecksumIgnored,
    /// A batch of the log is not applied at a start.
    ReplaySkipsBatch,
    /// A key is missing in a snapshot.
    SnapshotMissesKey,
    /// The first slice of a snapshot is older than the snapshot's beginning.
    SnapshotSliceOld,
    /// More of the log is released than the snapshots stand for.
    ReleaseTooMuch,
    /// Frames behind the end of the log are left where they are.
    TailNotWiped,
    /// A start takes a revision again.
    RevisionReused,
    /// A watcher is told of a revision whose events it has not seen.
    ProgressAhead,
    /// A watcher misses an event.
    EventLost,
    /// A watcher sees events again.
    EventTwice,
    /// A watcher is not woken.
    WakeLost,
    /// An older version is taken for the one that was asked for.
    WrongVersion,
    /// A range gives what it gave before.
    StaleRead,
    /// An answer is given out before it is committed.
    AnswerTooEarly,
    /// Leases run out early.
    ClockFast,
    /// A restart forgets the leases.
    LeasesForgotten,
}

impl Bug {
    pub const ALL: [Bug; 18] = [
        Bug::AckBeforeSync,
        Bug::DropFrameAtRecovery,
        Bug::ChecksumIgnored,
        Bug::ReplaySkipsBatch,
        Bug::SnapshotMissesKey,
        Bug::SnapshotSliceOld,
        Bug::ReleaseTooMuch,
        Bug::TailNotWiped,
        Bug::RevisionReused,
        Bug::ProgressAhead,
        Bug::EventLost,
        Bug::EventTwice,
        Bug::WakeLost,
        Bug::WrongVersion,
        Bug::StaleRead,
        Bug::AnswerTooEarly,
        Bug::ClockFast,
        Bug::LeasesForgotten,
    ];

    /// For the command line.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    pub fn from_name(name: &str) -> Option<Bug> {
        Bug::ALL.into_iter().find(|bug| bug.name() == name)
    }
}
