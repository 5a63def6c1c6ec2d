//! A small, fast, seedable source of numbers (SplitMix64): good enough to spread keys, and cheap
//! enough not to be seen in a measurement.

/// A stream of pseudo-random numbers, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Starts the stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound` - 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a choice among nothing");
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// `length` printable characters, 6 bits of entropy each (a value that does not compress away).
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..length).map(|_| ALPHABET[self.below(64) as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_spreads_evenly_and_repeats_with_the_seed() {
        let mut counts = [0u32; 10];
        let mut random = Random::new(7);
        for _ in 0..100_000 {
            counts[random.below(10) as usize] += 1;
        }
        for count in counts {
            assert!((9_500..10_500).contains(&count), "{counts:?}");
        }
        assert_eq!(Random::new(7).text(32), Random::new(7).text(32));
        assert_ne!(Random::new(7).text(32), Random::new(8).text(32));
    }
}
