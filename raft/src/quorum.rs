//! Majorities.

/// The highest index that a majority holds, given the highest index that each voter holds.
pub(crate) fn committed(match_indexes: &[u64]) -> u64 {
    assert!(!match_indexes.is_empty(), "a cluster has at least one voter");
    let mut sorted = match_indexes.to_vec();
    sorted.sort_unstable_by(|left, right| right.cmp(left));
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::committed;

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
            assert_eq!(committed(indexes), expected, "{indexes:?}");
        }
    }
}
