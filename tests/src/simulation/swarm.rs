//! Each seed's own mix of operations and faults: a history in which everything happens a little
//! finds less than many in which some things happen a lot and others never.

use super::random::Random;

/// What happens how often. Weights are relative to each other within their group.
#[derive(Debug, Clone)]
pub(super) struct Swarm {
    pub(super) requests: usize,
    pub(super) cores_max: usize,
    pub(super) keys: usize,
    pub(super) value_bytes: usize,
    /// Keys that are put at the beginning, to be deleted in one go.
    pub(super) bulk: usize,
    pub(super) ring_bytes: usize,
    pub(super) segment_bytes: u64,
    pub(super) checkpoint_seconds: i64,
    pub(super) ttl_max: usize,
    /// What is asked: see `requests`.
    pub(super) asked: [usize; KINDS],
    /// Steps between two requests, at most.
    pub(super) pace: usize,
    /// How often the disk has its turn.
    pub(super) disk_speed: usize,
    /// Of 10,000 steps.
    pub(super) crashes: usize,
    pub(super) clock_jumps: usize,
    pub(super) disk_changes: usize,
    pub(super) snapshots: usize,
    /// Of 100 requests.
    pub(super) abandoned: usize,
    pub(super) watchers: usize,
    /// Percent of reads.
    pub(super) old_reads: usize,
}

/// Kinds of requests.
pub(super) const KINDS: usize = 11;

impl Swarm {
    pub(super) fn draw(random: &mut Random, requests: usize) -> Swarm {
        let mut asked = [0; KINDS];
        for weight in &mut asked {
            *weight = [0, 1, 1, 3, 8][random.below(5)];
        }
        // Without a write nothing happens.
        asked[0] = asked[0].max(3);
        let often = |random: &mut Random, most: usize| {
            if random.chance(30) { 0 } else { 1 + random.below(most) }
        };
        Swarm {
            requests,
            cores_max: random.between(1, 4),
            keys: [2, 5, 12, 40][random.below(4)],
            value_bytes: [8, 40, 300, 6000][random.below(4)],
            bulk: if random.chance(12) { random.between(520, 1700) } else { 0 },
            ring_bytes: [1, 1_000, 4_000, 100_000][random.below(4)],
            segment_bytes: [4, 8, 16, 64][random.below(4)] * 4096,
            checkpoint_seconds: [1, 5, 60, 300][random.below(4)],
            ttl_max: [4, 30, 1000][random.below(3)],
            asked,
            pace: [2, 8, 12, 40][random.below(4)],
            disk_speed: [2, 6, 14][random.below(3)],
            crashes: often(random, 60),
            clock_jumps: often(random, 40),
            disk_changes: often(random, 60),
            snapshots: often(random, 200),
            abandoned: often(random, 4),
            watchers: random.below(6),
            old_reads: [0, 20, 60][random.below(3)],
        }
    }
}
