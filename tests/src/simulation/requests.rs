//! What clients ask: drawn from a seed, shaped by its swarm.

use bytes::Bytes;
use mainstay_engine::Revision;
use mainstay_engine::message::Request;
use mainstay_engine::request::{
    Compare, CompareTarget, Comparison, DeleteRange, KeyRange, Operation, Put, RangeRequest,
    Transaction, WatchRequest,
};

use super::random::Random;
use super::swarm::Swarm;

/// Leases have few ids, so that they are used.
const LEASES: usize = 5;

/// Keys that one transaction of a bulk puts.
pub(super) const BULK_AT_ONCE: usize = 100;

/// Draws requests against a store of which this is known.
pub(super) struct Requests<'a> {
    pub(super) random: &'a mut Random,
    pub(super) swarm: &'a Swarm,
    pub(super) committed: Revision,
    pub(super) compacted: Revision,
    /// Makes values differ.
    pub(super) number: u64,
}

impl Requests<'_> {
    pub(super) fn draw(&mut self) -> Request {
        match self.random.weighted(&self.swarm.asked) {
            0 => Request::Transact(Transaction::of(self.put())),
            1 => {
                let range = KeyRange::Single(self.key());
                self.delete(range)
            }
            2 => {
                let range = self.range();
                self.delete(range)
            }
            3 => Request::Transact(self.transaction(2)),
            4 => Request::Range(self.read()),
            5 => Request::LeaseGrant {
                id: self.lease(),
                ttl: 2 + self.random.below(self.swarm.ttl_max) as i64,
                random: 1,
            },
            6 => Request::LeaseRevoke { id: self.lease() },
            7 => Request::LeaseKeepAlive { id: self.lease() },
            8 if self.random.chance(50) => Request::Leases,
            8 => Request::LeaseTimeToLive { id: self.lease(), keys: self.random.chance(70) },
            9 => Request::Compact {
                revision: self.committed - self.random.below(30) as i64,
                physical: self.random.chance(50),
            },
            _ => Request::HashKv { revision: self.old_revision() },
        }
    }

    /// A transaction that puts some keys of a bulk, from this number on.
    pub(super) fn bulk(&mut self, from: usize, to: usize) -> Request {
        let put = |number: usize| {
            Operation::Put(Put {
                key: format!("bulk/{number:05}").into(),
                value: "b".into(),
                lease: 0,
                previous: false,
                ignore_value: false,
                ignore_lease: false,
            })
        };
        let success = (from..to).map(put).collect();
        Request::Transact(Transaction { compares: vec![], success, failure: vec![] })
    }

    pub(super) fn watch(&mut self) -> WatchRequest {
        let past = self.random.chance(60);
        WatchRequest {
            range: self.range(),
            start_revision: if past { self.old_revision().max(1) } else { 0 },
            previous: self.random.chance(50),
            no_put: self.random.chance(10),
            no_delete: self.random.chance(10),
        }
    }

    fn delete(&mut self, range: KeyRange) -> Request {
        let previous = self.random.chance(50);
        let delete = DeleteRange { range, previous };
        Request::Transact(Transaction::of(Operation::DeleteRange(delete)))
    }

    fn lease(&mut self) -> i64 {
        1 + self.random.below(LEASES) as i64
    }

    fn key(&mut self) -> Bytes {
        Bytes::from(format!("k{:02}", self.random.below(self.swarm.keys)))
    }

    fn range(&mut self) -> KeyRange {
        match self.random.below(8) {
            0 => KeyRange::prefix(b"k"),
            1 if self.swarm.bulk > 0 => KeyRange::prefix(b"bulk/"),
            1 => KeyRange::prefix(b""),
            2 => KeyRange::From(self.key()),
            3 | 4 => KeyRange::Interval { start: self.key(), end: self.key() },
            _ => KeyRange::Single(self.key()),
        }
    }

    /// 0 for the newest, or one that is mostly not compacted.
    fn old_revision(&mut self) -> Revision {
        if !self.random.chance(self.swarm.old_reads) {
            return 0;
        }
        let least = (self.compacted - 2).max(1);
        let span = usize::try_from(self.committed - least).unwrap_or(0);
        let back = if self.random.chance(50) { span.min(20) } else { span };
        self.committed - self.random.below(back + 1) as i64
    }

    fn read(&mut self) -> RangeRequest {
        let mut request = RangeRequest::new(self.range());
        request.revision = self.old_revision();
        request.limit = self.random.below(4);
        request.count_only = self.random.chance(15);
        request
    }

    fn put(&mut self) -> Operation {
        let key = self.key();
        self.put_of(key)
    }

    fn put_of(&mut self, key: Bytes) -> Operation {
        self.number += 1;
        let mut value = format!("v{}-", self.number).into_bytes();
        value.resize(value.len() + self.random.below(self.swarm.value_bytes), b'.');
        Operation::Put(Put {
            key,
            value: value.into(),
            lease: if self.random.chance(15) { self.lease() } else { 0 },
            previous: self.random.chance(40),
            ignore_value: self.random.chance(3),
            ignore_lease: self.random.chance(3),
        })
    }

    fn transaction(&mut self, depth: usize) -> Transaction {
        let mut touched = Vec::new();
        self.transaction_of(depth, &mut touched)
    }

    /// No key is changed twice: doors refuse that.
    fn transaction_of(&mut self, depth: usize, touched: &mut Vec<KeyRange>) -> Transaction {
        let compares = (0..self.random.below(3)).map(|_| self.compare()).collect();
        let mut branch = |requests: &mut Self| {
            let count = requests.random.below(4);
            (0..count).filter_map(|_| requests.operation(depth, touched)).collect()
        };
        let success = branch(self);
        let failure = branch(self);
        Transaction { compares, success, failure }
    }

    fn operation(&mut self, depth: usize, touched: &mut Vec<KeyRange>) -> Option<Operation> {
        let mut touch = |range: &KeyRange| {
            let free = touched.iter().all(|other| !other.overlaps(range));
            touched.push(range.clone());
            free
        };
        match self.random.below(10) {
            0 | 1 => {
                let range = self.range();
                let previous = self.random.chance(50);
                touch(&range).then_some(Operation::DeleteRange(DeleteRange { range, previous }))
            }
            2..=4 => Some(Operation::Range(self.read())),
            5 if depth > 0 => Some(Operation::Transaction(self.transaction_of(depth - 1, touched))),
            _ => {
                let key = self.key();
                touch(&KeyRange::Single(key.clone())).then(|| self.put_of(key))
            }
        }
    }

    fn compare(&mut self) -> Compare {
        let near = self.committed - self.random.below(6) as i64;
        let comparison =
            [Comparison::Equal, Comparison::Greater, Comparison::Less, Comparison::NotEqual]
                [self.random.below(4)];
        let target = match self.random.below(5) {
            0 => CompareTarget::Version(self.random.below(4) as i64),
            1 => CompareTarget::Create(near),
            2 => CompareTarget::Value(format!("v{}", self.random.below(30)).into()),
            3 => CompareTarget::Lease(self.random.below(3) as i64),
            _ => CompareTarget::Mod(near),
        };
        Compare { range: self.range(), comparison, target }
    }
}
