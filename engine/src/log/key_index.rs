//! Where in a segment of the log each key was changed: a sorted file beside the segment.
//!
//! It is a cache. Checksums tell whether it is whole and of this very segment, and whatever is
//! wrong with it, it can be made again from the segment. The layout is in storage-format.md.

use super::frame::seed;
use crate::record::Revision;

/// The version of these files, and the only one that this program uses; it makes others anew.
pub const KEY_INDEX_VERSION: u32 = 1;

/// Bytes of the header and of each block.
pub const INDEX_BLOCK_BYTES: usize = 4096;

/// Items in a block: what its checksum leaves room for.
pub const BLOCK_ITEMS: usize = (INDEX_BLOCK_BYTES - ITEM_BYTES) / ITEM_BYTES;

const ITEM_BYTES: usize = 16;
const HEADER_BYTES: usize = 72;
const MAGIC: [u8; 4] = *b"MSKI";

/// One change of a key. The order is that of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPlace {
    /// [`placement::hash`](crate::placement::hash) of the key.
    pub hash: u64,
    /// Revisions since the segment's [`base`](Header::base).
    pub age: u32,
    /// Where the frame of the change begins, in blocks of 4 KiB.
    pub block: u32,
}

/// What a key index says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The segment's number.
    pub sequence: u64,
    /// The revision from which ages are counted: that before the segment.
    pub base: Revision,
    /// The revision after the segment.
    pub revision_after: Revision,
    /// Bytes of the segment that are indexed: all of its frames.
    pub log_end: u64,
    /// How many changes there are.
    pub entries: u64,
}

/// Why bytes are not the index that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyIndexDefect {
    #[error("it is too short")]
    Short,
    #[error("it is no key index, or one of another version")]
    Magic,
    #[error("a checksum does not match")]
    Checksum,
    #[error("it is of another state of the segment")]
    Stale,
}

impl Header {
    /// Blocks of entries, behind the header.
    pub fn blocks(&self) -> u64 {
        self.entries.div_ceil(BLOCK_ITEMS as u64)
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        (1 + self.blocks()) * INDEX_BLOCK_BYTES as u64
    }

    fn encode(&self, salt: u64) -> [u8; INDEX_BLOCK_BYTES] {
        let mut bytes = [0; INDEX_BLOCK_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&KEY_INDEX_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.revision_after.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.log_end.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.entries.to_le_bytes());
        let crc = crc(salt, self.sequence, 0, &bytes[8..HEADER_BYTES]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the first block of a file that should be of segment `sequence`.
    pub fn decode(bytes: &[u8], salt: u64, sequence: u64) -> Result<Header, KeyIndexDefect> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(KeyIndexDefect::Short)?;
        let version = u32_at(bytes, 8);
        if bytes[0..4] != MAGIC || version != KEY_INDEX_VERSION {
            return Err(KeyIndexDefect::Magic);
        }
        if crc(salt, sequence, 0, &bytes[8..]) != u32_at(bytes, 4) {
            return Err(KeyIndexDefect::Checksum);
        }
        let header = Header {
            sequence: u64_at(bytes, 16),
            base: u64_at(bytes, 24) as i64,
            revision_after: u64_at(bytes, 32) as i64,
            log_end: u64_at(bytes, 40),
            entries: u64_at(bytes, 48),
        };
        if header.sequence != sequence {
            return Err(KeyIndexDefect::Stale);
        }
        Ok(header)
    }
}

/// The bytes of the file with these entries, which are sorted.
pub fn encode(header: &Header, entries: &[KeyPlace], salt: u64) -> Vec<u8> {
    assert_eq!(header.entries, entries.len() as u64);
    assert!(entries.is_sorted());
    let mut bytes = Vec::with_capacity(header.file_bytes() as usize);
    bytes.extend_from_slice(&header.encode(salt));
    for (number, items) in entries.chunks(BLOCK_ITEMS).enumerate() {
        let start = bytes.len();
        for item in items {
            bytes.extend_from_slice(&item.hash.to_le_bytes());
            bytes.extend_from_slice(&item.age.to_le_bytes());
            bytes.extend_from_slice(&item.block.to_le_bytes());
        }
        bytes.resize(start + INDEX_BLOCK_BYTES - ITEM_BYTES, 0);
        let crc = crc(salt, header.sequence, 1 + number as u64, &bytes[start..]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.resize(start + INDEX_BLOCK_BYTES, 0);
    }
    bytes
}

/// A block of entries that was read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block(Vec<KeyPlace>);

impl Block {
    /// Reads block `number` (counted from 0, behind the header) of a file with this header.
    pub fn decode(
        bytes: &[u8],
        header: &Header,
        number: u64,
        salt: u64,
    ) -> Result<Block, KeyIndexDefect> {
        let bytes: &[u8; INDEX_BLOCK_BYTES] = bytes.first_chunk().ok_or(KeyIndexDefect::Short)?;
        let (items, trailer) = bytes.split_at(INDEX_BLOCK_BYTES - ITEM_BYTES);
        if crc(salt, header.sequence, 1 + number, items) != u32_at(trailer, 0) {
            return Err(KeyIndexDefect::Checksum);
        }
        let before = number * BLOCK_ITEMS as u64;
        let count = header.entries.saturating_sub(before).min(BLOCK_ITEMS as u64) as usize;
        let items = items.chunks_exact(ITEM_BYTES).take(count).map(|item| KeyPlace {
            hash: u64_at(item, 0),
            age: u32_at(item, 8),
            block: u32_at(item, 12),
        });
        let block = Block(items.collect());
        // A search relies on it.
        if block.0.is_empty() || !block.0.is_sorted() {
            return Err(KeyIndexDefect::Stale);
        }
        Ok(block)
    }
}

/// Finds the last entry of `hash` with an age of at most `age`, and its number. `read` gives the
/// blocks, of which it takes one or two of a file of any size: hashes are spread evenly.
pub fn find_last<E>(
    header: &Header,
    hash: u64,
    age: u32,
    mut read: impl FnMut(u64) -> Result<Block, E>,
) -> Result<Option<(u64, KeyPlace)>, E> {
    let wanted = KeyPlace { hash, age, block: u32::MAX };
    // The block that holds the entry, if there is one, is in `low..high`; or it is the last one
    // below `low`.
    let (mut low, mut high, mut step) = (0, header.blocks(), 1);
    let mut guess = ((u128::from(hash) * u128::from(high)) >> 64) as u64;
    let (mut lower_seen, mut upper_seen) = (false, false);
    let mut best = None;
    while low < high {
        let Block(items) = read(guess)?;
        let upto = items.partition_point(|item| *item <= wanted);
        if let Some(last) = upto.checked_sub(1) {
            best = Some((guess * BLOCK_ITEMS as u64 + last as u64, items[last]));
            low = guess + 1;
            lower_seen = true;
        }
        if upto < items.len() {
            high = guess;
            upper_seen = true;
            if upto > 0 {
                break;
            }
        }
        // From the guess outwards in growing steps, and by halves once there are two ends.
        guess = match (lower_seen, upper_seen) {
            (true, true) => low.midpoint(high),
            (true, false) => (guess + step).min(high.saturating_sub(1)),
            _ => guess.saturating_sub(step).max(low),
        };
        step *= 2;
    }
    Ok(best.filter(|(_, found)| found.hash == hash))
}

/// Finds the entry before the one with this number, if it has the same hash: what to look at when
/// another key turns out to have it.
pub fn find_before<E>(
    number: u64,
    hash: u64,
    read: impl FnOnce(u64) -> Result<Block, E>,
) -> Result<Option<(u64, KeyPlace)>, E> {
    let Some(number) = number.checked_sub(1) else { return Ok(None) };
    let Block(items) = read(number / BLOCK_ITEMS as u64)?;
    let item = items.get((number % BLOCK_ITEMS as u64) as usize).copied();
    Ok(item.filter(|item| item.hash == hash).map(|item| (number, item)))
}

/// Begun with the segment's seed and the block's number, so that no block passes for another.
fn crc(salt: u64, sequence: u64, block: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed(salt, sequence));
    hasher.update(&block.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::tests::Random;

    const SALT: u64 = 0x0123_4567_89ab_cdef;

    fn header(entries: usize) -> Header {
        let entries = entries as u64;
        Header { sequence: 26, base: 1000, revision_after: 3005, log_end: 40_960, entries }
    }

    /// Changes of some keys, sorted.
    fn places(random: &mut Random, keys: usize, changes: usize) -> Vec<KeyPlace> {
        let hashes: Vec<u64> = (0..keys.max(1)).map(|_| random.next()).collect();
        let mut places: Vec<KeyPlace> = (0..changes)
            .map(|change| KeyPlace {
                hash: hashes[random.below(hashes.len())],
                age: 1 + change as u32 / 3,
                block: 1 + change as u32 / 5,
            })
            .collect();
        places.sort_unstable();
        places
    }

    fn read_back(bytes: &[u8], number: u64) -> Result<Block, KeyIndexDefect> {
        let header = Header::decode(bytes, SALT, 26)?;
        let start = (1 + number) as usize * INDEX_BLOCK_BYTES;
        Block::decode(bytes.get(start..).unwrap_or_default(), &header, number, SALT)
    }

    #[test]
    fn searches_equal_a_scan() {
        for seed in 0..60 {
            let mut random = Random(seed);
            let (keys, changes) = ([1, 7, 3000][seed as usize % 3], random.below(6000));
            let places = places(&mut random, keys, changes);
            let header = header(places.len());
            let bytes = encode(&header, &places, SALT);
            assert_eq!(bytes.len() as u64, header.file_bytes());
            assert_eq!(Header::decode(&bytes, SALT, 26), Ok(header));
            let mut reads = 0;
            for _ in 0..50 {
                let hash = match places.get(random.below(places.len() + 1)) {
                    Some(place) => place.hash,
                    None => random.next(),
                };
                let age = random.below(2100) as u32;
                let read = |number| {
                    reads += 1;
                    read_back(&bytes, number)
                };
                let found = find_last(&header, hash, age, read).unwrap();
                let upto = places.partition_point(|p| (p.hash, p.age) <= (hash, age));
                let last = upto.checked_sub(1).filter(|&last| places[last].hash == hash);
                let expected = last.map(|last| (last as u64, places[last]));
                assert_eq!(found, expected, "seed {seed}");
                if let Some((number, _)) = found {
                    let before = find_before(number, hash, |block| read_back(&bytes, block));
                    let before_last = last.and_then(|last| last.checked_sub(1));
                    let expected = before_last.filter(|&last| places[last].hash == hash);
                    let expected = expected.map(|last| (last as u64, places[last]));
                    assert_eq!(before, Ok(expected), "seed {seed}");
                }
            }
            assert!(reads < 50 * 8, "seed {seed}: {reads} blocks read");
        }
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let places = places(&mut Random(1), 40, 300);
        let bytes = encode(&header(places.len()), &places, SALT);
        let intact = |bytes: &[u8]| (0..2).all(|number| read_back(bytes, number).is_ok());
        assert!(intact(&bytes));
        let last_item = 2 * INDEX_BLOCK_BYTES + 45 * ITEM_BYTES;
        let header = 0..HEADER_BYTES;
        for byte in header.chain(INDEX_BLOCK_BYTES..INDEX_BLOCK_BYTES + 40).chain([last_item - 1]) {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[byte] ^= 1 << bit;
                assert!(!intact(&damaged), "byte {byte} bit {bit}");
            }
        }
        for length in [0, HEADER_BYTES - 1, 2 * INDEX_BLOCK_BYTES, bytes.len() - 1] {
            assert!(!intact(&bytes[..length]), "{length} bytes");
        }
        // Blocks that changed places.
        let mut swapped = bytes[..INDEX_BLOCK_BYTES].to_vec();
        swapped.extend_from_slice(&bytes[2 * INDEX_BLOCK_BYTES..]);
        swapped.extend_from_slice(&bytes[INDEX_BLOCK_BYTES..2 * INDEX_BLOCK_BYTES]);
        assert!(!intact(&swapped));
        assert_eq!(Header::decode(&bytes, SALT, 27), Err(KeyIndexDefect::Checksum));
        assert_eq!(Header::decode(&bytes, SALT + 1, 26), Err(KeyIndexDefect::Checksum));
    }

    /// The file that version 1 writes, byte for byte: it must be read by every later program, or
    /// the version must change.
    #[test]
    fn version_1_is_what_it_was() {
        let golden = include_bytes!("key_index_v1.bin");
        let place = |hash, age, block| KeyPlace { hash, age, block };
        let places = [
            place(1, 1, 1),
            place(1, 3, 2),
            place(0x8000_0000_0000_0000, 2, 1),
            place(u64::MAX, 4, 9),
        ];
        assert_eq!(encode(&header(4), &places, SALT), golden);
        let found = find_last(&header(4), 1, 2, |number| read_back(golden, number));
        assert_eq!(found, Ok(Some((0, places[0]))));
    }
}
