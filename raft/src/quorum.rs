//! Majorities, and two of them at a time (Raft paper, 5.3 and 6).

use crate::membership::Membership;
use crate::options::MEMBERS;

/// How an election stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tally {
    Won,
    Lost,
    Open,
}

/// The greatest number that a majority of `voters` has reached, given what each has reached.
/// Nobody is no obstacle: an empty set has reached everything.
fn majority_reached(voters: &[u64], reached: impl Fn(u64) -> u64) -> u64 {
    if voters.is_empty() {
        return u64::MAX;
    }
    let mut numbers = [0; MEMBERS];
    let numbers = &mut numbers[..voters.len()];
    for (number, voter) in numbers.iter_mut().zip(voters) {
        *number = reached(*voter);
    }
    numbers.sort_unstable_by(|left, right| right.cmp(left));
    numbers[numbers.len() / 2]
}

/// The greatest number that a quorum has reached: of both sets while members change.
pub(crate) fn reached(membership: &Membership, reached: impl Fn(u64) -> u64) -> u64 {
    let incoming = majority_reached(&membership.voters, &reached);
    incoming.min(majority_reached(&membership.outgoing, &reached))
}

fn majority_tally(voters: &[u64], vote: impl Fn(u64) -> Option<bool>) -> Tally {
    let needed = voters.len() / 2 + 1;
    let yes = voters.iter().filter(|voter| vote(**voter) == Some(true)).count();
    let no = voters.iter().filter(|voter| vote(**voter) == Some(false)).count();
    if voters.is_empty() || yes >= needed {
        Tally::Won
    } else if voters.len() - no < needed {
        Tally::Lost
    } else {
        Tally::Open
    }
}

/// How an election stands, given who answered what.
pub(crate) fn tally(membership: &Membership, vote: impl Fn(u64) -> Option<bool>) -> Tally {
    match (majority_tally(&membership.voters, &vote), majority_tally(&membership.outgoing, &vote)) {
        (Tally::Won, Tally::Won) => Tally::Won,
        (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
        _ => Tally::Open,
    }
}

/// Whether those for whom `is_member` holds are a quorum.
pub(crate) fn holds(membership: &Membership, is_member: impl Fn(u64) -> bool) -> bool {
    tally(membership, |id| Some(is_member(id))) == Tally::Won
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joint(voters: &[u64], outgoing: &[u64]) -> Membership {
        Membership { voters: voters.to_vec(), outgoing: outgoing.to_vec(), ..Membership::default() }
    }

    #[test]
    fn the_majority_decides() {
        for (indexes, expected) in [
            (&[7][..], 7),
            (&[3, 7], 3),
            (&[3, 7, 5], 5),
            (&[0, 0, 9], 0),
            (&[9, 9, 0], 9),
            (&[1, 2, 3, 4], 2),
            (&[1, 2, 3, 4, 5], 3),
        ] {
            let voters: Vec<u64> = (0..indexes.len() as u64).collect();
            let membership = joint(&voters, &[]);
            assert_eq!(reached(&membership, |id| indexes[id as usize]), expected, "{indexes:?}");
        }
    }

    #[test]
    fn two_sets_have_to_agree() {
        // What each member, from 1 on, has reached.
        for (voters, outgoing, indexes, expected) in [
            (&[1, 2, 3][..], &[3, 4, 5][..], [9, 9, 1, 1, 1], 1),
            (&[1, 2, 3], &[3, 4, 5], [9, 9, 1, 7, 8], 7),
            (&[1], &[1, 2], [5, 0, 0, 0, 0], 0),
            (&[1, 2], &[1], [5, 4, 0, 0, 0], 4),
            (&[4, 5], &[1, 2, 3], [6, 6, 6, 0, 9], 0),
        ] {
            let membership = joint(voters, outgoing);
            let found = reached(&membership, |id| indexes[id as usize - 1]);
            assert_eq!(found, expected, "{voters:?} {outgoing:?} {indexes:?}");
        }
    }

    #[test]
    fn votes_are_counted_in_each_set() {
        let (yes, no, open) = (Some(true), Some(false), None);
        for (voters, outgoing, votes, expected) in [
            (&[1, 2, 3][..], &[][..], [yes, open, open], Tally::Open),
            (&[1, 2, 3], &[], [yes, yes, open], Tally::Won),
            (&[1, 2, 3], &[], [yes, no, no], Tally::Lost),
            (&[1, 2], &[], [yes, no, open], Tally::Lost),
            (&[1, 2], &[2, 3], [yes, yes, no], Tally::Lost),
            (&[1, 2], &[2, 3], [yes, yes, open], Tally::Open),
            (&[1, 2], &[2, 3], [yes, yes, yes], Tally::Won),
        ] {
            let found = tally(&joint(voters, outgoing), |id| votes[id as usize - 1]);
            assert_eq!(found, expected, "{voters:?} {outgoing:?} {votes:?}");
        }
    }

    #[test]
    fn what_counts_equals_what_a_naive_count_says() {
        for seed in 0..2_000_u64 {
            let mut random = crate::random::Random::new(seed);
            let size = 1 + random.below(7) as usize;
            let indexes: Vec<u64> = (0..size).map(|_| u64::from(random.below(5))).collect();
            let voters: Vec<u64> = (0..size as u64).collect();
            let naive = (0..=5)
                .rev()
                .find(|index| indexes.iter().filter(|reached| *reached >= index).count() * 2 > size)
                .expect("all have reached 0");
            let found = reached(&joint(&voters, &[]), |id| indexes[id as usize]);
            assert_eq!(found, naive, "seed {seed}: {indexes:?}");
        }
    }
}
