//! Each seed's own mix: what clients ask, how bad network, disks and clocks are, and what else
//! goes wrong.

use super::super::random::Random;
use super::bugs::Bug;
use super::network::Weather;

/// What a nemesis may do, and how often: weights, 0 for never.
#[derive(Debug, Clone, Default)]
pub(super) struct Disasters {
    pub(super) crash: usize,
    pub(super) crash_all: usize,
    pub(super) pause: usize,
    pub(super) partition: usize,
    pub(super) cut_clients: usize,
    pub(super) mend: usize,
    pub(super) slow_disk: usize,
    pub(super) full_disk: usize,
    pub(super) transfer: usize,
    pub(super) change_members: usize,
    pub(super) lose_disk: usize,
    pub(super) flip_bits: usize,
    pub(super) nothing: usize,
}

impl Disasters {
    pub(super) fn weights(&self) -> [usize; 13] {
        [
            self.crash,
            self.crash_all,
            self.pause,
            self.partition,
            self.cut_clients,
            self.mend,
            self.slow_disk,
            self.full_disk,
            self.transfer,
            self.change_members,
            self.lose_disk,
            self.flip_bits,
            self.nothing,
        ]
    }
}

/// Kinds of requests.
pub(super) const KINDS: usize = 12;

#[derive(Debug, Clone)]
pub(super) struct Swarm {
    pub(super) members: usize,
    /// Further ones, that may join.
    pub(super) spares: usize,
    pub(super) cores_max: usize,
    pub(super) weather: Weather,
    pub(super) disasters: Disasters,
    /// At most so long between two disasters.
    pub(super) calm_us: usize,
    /// How long things go wrong.
    pub(super) trouble_us: u64,
    pub(super) clients: usize,
    pub(super) watchers: usize,
    /// Between an answer and the next request, at most.
    pub(super) think_us: usize,
    pub(super) patience_us: u64,
    /// What is asked: see `requests`.
    pub(super) asked: [usize; KINDS],
    pub(super) keys: usize,
    pub(super) value_bytes: usize,
    pub(super) ttl_max: usize,
    /// How long a write to a disk takes, at most; and while the disk is slow.
    pub(super) write_us: usize,
    pub(super) slow_write_us: usize,
    /// How much faster or slower than the true time clocks run, in parts per million.
    pub(super) drift_ppm: usize,
    pub(super) ring_bytes: usize,
    pub(super) checkpoint_seconds: i64,
    /// What a process does in one go.
    pub(super) burst: usize,
    pub(super) pre_vote: bool,
    pub(super) lease_reads: bool,
    /// Bounds of raft, small, so that they are met.
    pub(super) message_bytes: usize,
    pub(super) cache_bytes: usize,
    pub(super) part_bytes: usize,
    pub(super) inflight_messages: usize,
}

impl Swarm {
    /// `members`: so many, or as many as the seed draws.
    pub(super) fn draw(random: &mut Random, members: Option<usize>, bug: Option<Bug>) -> Swarm {
        let mut asked = [0; KINDS];
        for weight in &mut asked {
            *weight = [0, 1, 1, 3, 8][random.below(5)];
        }
        asked[0] = asked[0].max(3);
        let drawn = [1, 3, 3, 3, 3, 5][random.below(6)];
        let members = members.unwrap_or(drawn);
        let lease_reads = random.chance(25);
        let mut swarm = Swarm {
            members,
            spares: random.below(3),
            cores_max: random.between(1, 3),
            weather: Weather {
                lost: [0, 0, 5, 30, 120][random.below(5)],
                repeated: [0, 0, 20, 100][random.below(4)],
                slow: [0, 5, 30][random.below(3)],
                delay_us: [200, 1_000, 10_000, 60_000][random.below(4)],
                slow_us: [100_000, 1_000_000, 4_000_000][random.below(3)],
            },
            disasters: disasters(random),
            calm_us: [300_000, 1_000_000, 3_000_000, 8_000_000][random.below(4)],
            trouble_us: [10, 20, 40][random.below(3)] * 1_000_000,
            clients: random.between(1, 6),
            watchers: random.below(5),
            think_us: [1_000, 50_000, 400_000][random.below(3)],
            patience_us: [300_000, 2_000_000, 8_000_000][random.below(3)],
            asked,
            keys: [1, 2, 4, 12][random.below(4)],
            value_bytes: [8, 40, 300, 3000][random.below(4)],
            ttl_max: [2, 6, 60][random.below(3)],
            write_us: [100, 1_000, 10_000][random.below(3)],
            slow_write_us: [200_000, 2_000_000][random.below(2)],
            drift_ppm: [0, 1_000, 50_000][random.below(3)],
            ring_bytes: [1, 1_000, 100_000][random.below(3)],
            checkpoint_seconds: [1, 5, 300][random.below(3)],
            burst: [1, 8, 64][random.below(3)],
            pre_vote: random.chance(80),
            lease_reads,
            message_bytes: random.between(100, 5_000),
            cache_bytes: random.between(0, 20_000),
            part_bytes: random.between(500, 10_000),
            inflight_messages: random.between(1, 12),
        };
        if let Some(bug) = bug {
            bug.provoke(&mut swarm);
        }
        if swarm.lease_reads {
            // A lease of leadership assumes that processes run, and clocks too.
            swarm.disasters.pause = 0;
        }
        swarm
    }
}

fn disasters(random: &mut Random) -> Disasters {
    let mut weight = |most: usize| if random.chance(40) { 0 } else { 1 + random.below(most) };
    Disasters {
        crash: weight(6),
        crash_all: weight(2),
        pause: weight(4),
        partition: weight(6),
        cut_clients: weight(3),
        mend: 3,
        slow_disk: weight(3),
        full_disk: weight(2),
        transfer: weight(3),
        change_members: weight(4),
        lose_disk: weight(2),
        flip_bits: weight(2),
        nothing: 2,
    }
}
