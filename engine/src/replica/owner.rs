//! Which cores a request concerns.

use crate::placement;
use crate::request::{KeyRange, Operation, Transaction};

/// The owners of a transaction's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// One core can evaluate it alone.
    One(usize),
    Many,
}

pub(super) fn of_key(key: &[u8], cores: usize) -> usize {
    placement::shard_of(placement::hash(key), cores)
}

/// The core that can evaluate `transaction` alone; core 0 for one that names no key.
pub(super) fn of_transaction(transaction: &Transaction, cores: usize) -> Owner {
    if cores == 1 {
        return Owner::One(0);
    }
    let mut owner = None;
    let mut one = true;
    visit_ranges(transaction, &mut |range| {
        let KeyRange::Single(key) = range else {
            one = false;
            return;
        };
        let core = of_key(key, cores);
        one &= *owner.get_or_insert(core) == core;
    });
    if one { Owner::One(owner.unwrap_or(0)) } else { Owner::Many }
}

/// Every set of keys that a transaction looks at or changes, both branches.
pub(super) fn visit_ranges(transaction: &Transaction, visit: &mut dyn FnMut(&KeyRange)) {
    for compare in &transaction.compares {
        visit(&compare.range);
    }
    for operation in transaction.success.iter().chain(&transaction.failure) {
        match operation {
            Operation::Range(request) => visit(&request.range),
            Operation::Past(_) => {}
            Operation::Put(put) => visit(&KeyRange::Single(put.key.clone())),
            Operation::DeleteRange(delete) => visit(&delete.range),
            Operation::Transaction(nested) => visit_ranges(nested, visit),
        }
    }
}

/// Whether a transaction could change anything.
pub(super) fn writes(transaction: &Transaction) -> bool {
    transaction.success.iter().chain(&transaction.failure).any(|operation| match operation {
        Operation::Range(_) | Operation::Past(_) => false,
        Operation::Put(_) | Operation::DeleteRange(_) => true,
        Operation::Transaction(nested) => writes(nested),
    })
}

/// Whether a transaction could add to the store: all that writes but deletes.
pub(super) fn adds(transaction: &Transaction) -> bool {
    transaction.success.iter().chain(&transaction.failure).any(|operation| match operation {
        Operation::Range(_) | Operation::Past(_) | Operation::DeleteRange(_) => false,
        Operation::Put(_) => true,
        Operation::Transaction(nested) => adds(nested),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{DeleteRange, RangeRequest};

    fn single(key: &'static str) -> Operation {
        Operation::DeleteRange(DeleteRange { range: KeyRange::Single(key.into()), previous: false })
    }

    #[test]
    fn one_key_has_one_owner_and_a_range_has_many() {
        let one = Transaction::of(single("a"));
        assert_eq!(of_transaction(&one, 4), Owner::One(of_key(b"a", 4)));
        let twice = Transaction { success: vec![single("a"), single("a")], ..one.clone() };
        assert_eq!(of_transaction(&twice, 4), Owner::One(of_key(b"a", 4)));
        let range = Operation::Range(RangeRequest::new(KeyRange::prefix(b"a")));
        assert!(!adds(&one) && writes(&one));
        assert_eq!(of_transaction(&Transaction::of(range.clone()), 4), Owner::Many);
        assert_eq!(of_transaction(&Transaction::of(range), 1), Owner::One(0));
        let nested = Transaction::of(Operation::Transaction(twice));
        assert_eq!(of_transaction(&nested, 4), Owner::One(of_key(b"a", 4)));
        assert_eq!(of_transaction(&Transaction::default(), 4), Owner::One(0));
    }

    #[test]
    fn keys_of_two_owners_need_coordination() {
        let other = ["b", "c", "d", "e", "f", "g"]
            .into_iter()
            .find(|key| of_key(key.as_bytes(), 2) != of_key(b"a", 2))
            .expect("some key of the other core");
        let success = vec![single("a"), single(other)];
        let transaction = Transaction { success, ..Transaction::default() };
        assert_eq!(of_transaction(&transaction, 2), Owner::Many);
        assert!(writes(&transaction));
    }
}
