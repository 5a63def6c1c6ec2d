//! Bytes made of other bytes, the same each time for the same seed.

/// A small generator of numbers that look random (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // Zero would stay zero; and seeds that follow each other should not look alike.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 11) % end as u64) as usize
    }
}

/// Longer inputs find nothing that these don't, and take longer.
const MOST_BYTES: usize = 4096;

/// Bytes that mean something in many formats.
const TELLING: [u8; 20] = [
    0, 1, 2, 4, 7, 8, 0x7f, 0x80, 0xfe, 0xff, b'"', b'{', b'}', b'[', b']', b':', b',', b'\n',
    b'-', b'\\',
];

/// One of the corpus with a few changes.
pub fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        change(&mut bytes, corpus, random);
    }
    bytes.truncate(MOST_BYTES);
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let length = random.below(16.min(bytes.len() - at) + 1);
    match random.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = TELLING[random.below(TELLING.len())],
        2 => bytes.insert(at, TELLING[random.below(TELLING.len())]),
        3 => drop(bytes.drain(at..at + length)),
        4 => {
            let part = bytes[at..at + length].to_vec();
            for _ in 0..=random.below(20) {
                bytes.splice(at..at, part.iter().copied());
            }
        }
        5 => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            let to = from + random.below(other.len() - from + 1);
            bytes.splice(at..at + length, other[from..to].iter().copied());
        }
        6 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1 + random.below(3) as u8),
        _ => bytes.truncate(at),
    }
}
