//! Mistakes that an owner, a network or a core could make. The simulation has to notice each.
//!
//! They are made around the core, so that there is no door for them in it: what the core would
//! forget, its disk forgets; what it would not check, a message is made to pass.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Votes twice in a term: the vote is not on the disk.
    ForgetsVote,
    /// Acknowledges what is not on the disk yet.
    AcknowledgesBeforeWriting,
    /// A leader answers reads from what it has, without asking whether it still leads.
    ReadsWithoutAsking,
    /// A read is answered before everything up to its index is applied.
    ReadsBeforeApplying,
    /// Counts copies of entries of older terms (Raft paper, figure 8).
    CommitsOlderTermByCounting,
    /// An entry in the place of another one does not replace it on the disk.
    ForgetsTruncation,
    /// A member that lost its disk comes back as if nothing had happened.
    ComesBackEmptyAsItself,
    /// A damaged entry is taken for the end of the log.
    TakesDamageForTheEnd,
    /// Votes for candidates whose log lacks entries.
    VotesForAnyLog,
    /// Appends behind an entry that is another one than the leader's.
    AppendsBehindAnything,
    /// Clocks run faster and slower than leases assume.
    LeasesWithWildClocks,
    /// A restart forgets who was added and removed.
    ForgetsMembership,
    /// A snapshot moves the log, and the state machine stays where it was.
    InstallsLogWithoutState,
    /// Applies what is written, committed or not.
    AppliesUncommitted,
}

impl Bug {
    pub(crate) const ALL: [Bug; 14] = [
        Bug::ForgetsVote,
        Bug::AcknowledgesBeforeWriting,
        Bug::ReadsWithoutAsking,
        Bug::ReadsBeforeApplying,
        Bug::CommitsOlderTermByCounting,
        Bug::ForgetsTruncation,
        Bug::ComesBackEmptyAsItself,
        Bug::TakesDamageForTheEnd,
        Bug::VotesForAnyLog,
        Bug::AppendsBehindAnything,
        Bug::LeasesWithWildClocks,
        Bug::ForgetsMembership,
        Bug::InstallsLogWithoutState,
        Bug::AppliesUncommitted,
    ];
}
