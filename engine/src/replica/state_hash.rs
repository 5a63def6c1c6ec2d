//! One number for everything that lives at a revision: equal states have equal ones.
//!
//! Records are taken in key order, so it depends neither on the number of cores nor on what was
//! compacted.

use xxhash_rust::xxh3::Xxh3;

use crate::record::Record;

/// The hash of the records so far.
#[derive(Default)]
pub(super) struct StateHash {
    state: Xxh3,
}

impl std::fmt::Debug for StateHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "StateHash({:x})", self.value())
    }
}

impl StateHash {
    /// Takes the next record, by key.
    pub(super) fn add(&mut self, record: &Record) {
        let numbers = [
            record.key().len() as i64,
            record.value().len() as i64,
            record.create_revision(),
            record.mod_revision(),
            record.version(),
            record.lease(),
        ];
        numbers.iter().for_each(|number| self.state.update(&number.to_le_bytes()));
        self.state.update(record.key());
        self.state.update(record.value());
    }

    pub(super) fn value(&self) -> u64 {
        self.state.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(records: &[Record]) -> u64 {
        let mut hash = StateHash::default();
        records.iter().for_each(|record| hash.add(record));
        hash.value()
    }

    #[test]
    fn every_part_of_a_record_counts() {
        let base = hash(&[Record::new(b"key", b"value", 2, 5, 3, 7)]);
        assert_eq!(base, hash(&[Record::new(b"key", b"value", 2, 5, 3, 7)]));
        for other in [
            Record::new(b"kez", b"value", 2, 5, 3, 7),
            Record::new(b"key", b"valuf", 2, 5, 3, 7),
            Record::new(b"keyv", b"alue", 2, 5, 3, 7),
            Record::new(b"key", b"value", 3, 5, 3, 7),
            Record::new(b"key", b"value", 2, 6, 3, 7),
            Record::new(b"key", b"value", 2, 5, 4, 7),
            Record::new(b"key", b"value", 2, 5, 3, 0),
        ] {
            assert_ne!(base, hash(std::slice::from_ref(&other)), "{other:?}");
        }
        assert_ne!(base, hash(&[]));
    }
}
