//! Which core owns a key.

use xxhash_rust::xxh3::xxh3_64;

/// The hash that places a key, and that the owner's index reuses.
pub fn hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The owner of a key with this [`hash`] among `shards`.
///
/// The whole key is hashed, so one hot prefix (a million node Leases) spreads over all cores.
/// Nothing on disk depends on it: the number of shards may differ at every start.
pub fn shard_of(hash: u64, shards: usize) -> usize {
    assert!(shards > 0);
    // The high half of a wide product: no division, no bias to speak of.
    ((u128::from(hash) * shards as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_keys_spread_evenly() {
        for shards in 1..=7 {
            let mut counts = vec![0usize; shards];
            for node in 0..10_000 {
                let key = format!("/registry/leases/kube-node-lease/node-{node}");
                counts[shard_of(hash(key.as_bytes()), shards)] += 1;
            }
            let fair = 10_000 / shards;
            assert!(counts.iter().all(|&count| count > fair * 8 / 10), "{counts:?}");
        }
    }
}
