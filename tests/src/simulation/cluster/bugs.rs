//! Mistakes that are planted around the members of a cluster: what a member would not check, a message
//! is made to pass; what it would forget, its disk forgets; what it would show, it is made to show. The
//! simulation has to notice each.

use super::swarm::{Disasters, Swarm};

/// What goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A write counts as durable as soon as it was handed to the disk.
    AckBeforeSync,
    /// A member answers linearizable reads from what it has.
    StaleRead,
    /// A core takes it for confirmed that its member still leads.
    ConfirmSkipped,
    /// A member votes for whoever asks, and its vote is not on the disk.
    VoteTwice,
    /// An entry that replaces another one does not reach the disk.
    TruncationLost,
    /// A changed byte of the log passes for what was written.
    ChecksumIgnored,
    /// A watcher is told of a revision whose events it has not seen.
    ProgressAhead,
    /// A watcher misses an event.
    EventLost,
    /// A watcher sees an event again.
    EventTwice,
    /// A shard of a leader that was deposed keeps what was not committed.
    RollbackSkipped,
    /// A leader's answer is shown before what it depends on is committed.
    AnswerTooEarly,
    /// A follower takes for committed what it has.
    UncommittedApplied,
    /// A follower's shard misses a change.
    ChangeNotReplicated,
    /// A forwarded request is done twice.
    ForwardedTwice,
    /// A new leader goes on with the time that a lease had left long ago.
    LeaseNotExtended,
    /// A start forgets the leases.
    LeasesForgotten,
    /// A member that lost its disk comes back as if nothing had happened.
    ComesBackAsItself,
    /// A batch of the log is not applied at a start.
    ReplaySkipsBatch,
}

impl Bug {
    pub const ALL: [Bug; 18] = [
        Bug::AckBeforeSync,
        Bug::StaleRead,
        Bug::ConfirmSkipped,
        Bug::VoteTwice,
        Bug::TruncationLost,
        Bug::ChecksumIgnored,
        Bug::ProgressAhead,
        Bug::EventLost,
        Bug::EventTwice,
        Bug::RollbackSkipped,
        Bug::AnswerTooEarly,
        Bug::UncommittedApplied,
        Bug::ChangeNotReplicated,
        Bug::ForwardedTwice,
        Bug::LeaseNotExtended,
        Bug::LeasesForgotten,
        Bug::ComesBackAsItself,
        Bug::ReplaySkipsBatch,
    ];

    /// As on a command line: `ack-before-sync`.
    pub fn name(self) -> String {
        let mut name = String::new();
        for (place, letter) in format!("{self:?}").char_indices() {
            if letter.is_uppercase() && place > 0 {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    pub fn from_name(name: &str) -> Option<Bug> {
        Bug::ALL.into_iter().find(|bug| bug.name() == name)
    }

    /// Some mistakes show only when several things come together: the swarm is made so that they
    /// do.
    pub(super) fn provoke(self, swarm: &mut Swarm) {
        // A member that is alone makes few of these mistakes.
        swarm.members = swarm.members.max(3);
        let disasters = &mut swarm.disasters;
        disasters.mend = 3;
        disasters.nothing = 1;
        match self {
            Bug::AckBeforeSync | Bug::TruncationLost => {
                disasters.crash_all = 4;
                disasters.crash = 4;
                disasters.partition = 8;
                swarm.calm_us = 300_000;
                swarm.think_us = 1_000;
                swarm.write_us = 10_000;
            }
            Bug::VoteTwice => {
                *disasters = Disasters { crash: 8, mend: 2, partition: 2, ..Disasters::default() };
                let weather = &mut swarm.weather;
                (weather.lost, weather.repeated, weather.slow) = (0, 0, 100);
                (weather.delay_us, weather.slow_us) = (100_000, 1_000_000);
                swarm.calm_us = 300_000;
                swarm.trouble_us = 40_000_000;
                swarm.think_us = 50_000;
                swarm.write_us = 1_000;
                swarm.pre_vote = false;
            }
            Bug::StaleRead | Bug::ConfirmSkipped | Bug::RollbackSkipped | Bug::AnswerTooEarly => {
                disasters.partition = 8;
                disasters.pause = 3;
                disasters.cut_clients = 0;
                swarm.calm_us = 1_000_000;
                swarm.cores_max = 3;
                swarm.clients = 6;
                swarm.keys = swarm.keys.min(4);
                swarm.asked[5] = 8;
                swarm.lease_reads = false;
            }
            Bug::LeaseNotExtended | Bug::LeasesForgotten => {
                disasters.crash = 5;
                disasters.transfer = 5;
                swarm.asked[8] = 8;
                swarm.asked[9] = 12;
                swarm.ttl_max = 6;
                swarm.checkpoint_seconds = 300;
            }
            Bug::ChecksumIgnored | Bug::ReplaySkipsBatch => {
                disasters.crash = 6;
            }
            Bug::ComesBackAsItself => {
                disasters.lose_disk = 6;
                disasters.crash = 4;
                disasters.partition = 4;
            }
            Bug::ProgressAhead | Bug::EventLost | Bug::EventTwice => {
                swarm.watchers = swarm.watchers.max(3);
            }
            Bug::ForwardedTwice | Bug::ChangeNotReplicated | Bug::UncommittedApplied => {
                disasters.partition = 3;
                disasters.crash = 3;
            }
        }
    }
}
