//! What clients ask, drawn from a seed and shaped by its swarm.

use bytes::Bytes;
use mainstay_engine::message::Request as Asked;

use super::super::random::Random;
use super::swarm::Swarm;
use super::translate::to_engine;
use crate::linearizability::history::{
    Action, Compare, Keys, Order, Read, Request, Revision, Target, Transaction,
};

/// Ids of leases that are spoken of at a time. Old ones are never granted again, so that it is known
/// which of them may end when.
const LEASES: i64 = 4;

/// What a client wants.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// Part of the history that has to be linearizable; with what was there before, or without.
    Plain { request: Request, previous: bool },
    /// Everything else.
    Other(Asked),
}

impl Wish {
    pub(super) fn asked(&self) -> Asked {
        match self {
            Wish::Plain { request, previous } => to_engine(request, *previous),
            Wish::Other(asked) => asked.clone(),
        }
    }
}

/// Draws wishes of clients who know this.
pub(super) struct Wishes<'a> {
    pub(super) random: &'a mut Random,
    pub(super) swarm: &'a Swarm,
    pub(super) committed: Revision,
    pub(super) compacted: Revision,
    /// Makes values differ.
    pub(super) number: u64,
    /// The newest id of a lease that anybody asked for.
    pub(super) newest_lease: &'a mut i64,
}

impl Wishes<'_> {
    pub(super) fn draw(&mut self) -> Wish {
        match self.random.weighted(&self.swarm.asked) {
            0 => self.transact(|wishes| Transaction::of(wishes.put())),
            1 => self.transact(|wishes| Transaction::of(Action::Delete(Keys::One(wishes.key())))),
            2 => self.transact(|wishes| Transaction::of(Action::Delete(wishes.keys()))),
            3 => self.transact(Wishes::compare_and_put),
            4 => self.transact(Wishes::many),
            5 => {
                let read = Read::of(Keys::One(self.key()));
                self.read(read)
            }
            6 => {
                let read = Read { limit: self.random.below(3), ..Read::of(self.keys()) };
                self.read(read)
            }
            7 => {
                let revision = self.old_revision();
                let read = Read { revision, ..Read::of(self.keys()) };
                self.read(read)
            }
            8 => self.lease(),
            9 => Wish::Other(Asked::LeaseKeepAlive { id: self.lease_id() }),
            10 => Wish::Other(Asked::Compact {
                revision: (self.committed - self.random.below(20) as i64).max(1),
                physical: self.random.chance(30),
            }),
            _ => Wish::Other(Asked::HashKv { revision: self.old_revision() }),
        }
    }

    pub(super) fn keys(&mut self) -> Keys {
        match self.random.below(4) {
            0 => Keys::all(),
            1 => Keys::Range { start: self.key(), end: Some(self.key()) },
            2 => Keys::Range { start: self.key(), end: None },
            _ => Keys::One(self.key()),
        }
    }

    /// 0 for the newest, or one that is mostly not compacted.
    pub(super) fn old_revision(&mut self) -> Revision {
        let span = usize::try_from(self.committed - self.compacted).unwrap_or(0);
        (self.committed - self.random.below(span.min(30) + 1) as i64).max(1)
    }

    fn transact(&mut self, make: impl FnOnce(&mut Self) -> Transaction) -> Wish {
        let request = Request::Transact(make(self));
        Wish::Plain { request, previous: self.random.chance(50) }
    }

    fn read(&mut self, read: Read) -> Wish {
        let serializable = self.random.chance(25);
        let count_only = self.random.chance(10);
        let request = Request::Read(Read { serializable, count_only, ..read });
        Wish::Plain { request, previous: false }
    }

    fn lease(&mut self) -> Wish {
        Wish::Other(match self.random.below(6) {
            0 => Asked::LeaseRevoke { id: self.lease_id() },
            1 => Asked::LeaseTimeToLive { id: self.lease_id(), keys: false },
            _ => {
                *self.newest_lease += 1;
                let ttl = 1 + self.random.below(self.swarm.ttl_max) as i64;
                Asked::LeaseGrant { id: *self.newest_lease, ttl, random: 1 }
            }
        })
    }

    fn lease_id(&mut self) -> i64 {
        (*self.newest_lease - self.random.below(LEASES as usize) as i64).max(1)
    }

    pub(super) fn key(&mut self) -> Bytes {
        Bytes::from(format!("k{:02}", self.random.below(self.swarm.keys)))
    }

    fn put(&mut self) -> Action {
        let key = self.key();
        self.put_of(key)
    }

    fn put_of(&mut self, key: Bytes) -> Action {
        self.number += 1;
        let mut value = format!("v{}-", self.number).into_bytes();
        value.resize(value.len() + self.random.below(self.swarm.value_bytes), b'.');
        let attached = *self.newest_lease > 0 && self.random.chance(20);
        let lease = if attached { self.lease_id() } else { 0 };
        Action::Put { key, value: value.into(), lease }
    }

    fn compare_and_put(&mut self) -> Transaction {
        let key = self.key();
        let compares = vec![self.compare(key.clone())];
        let success = vec![self.put_of(key.clone())];
        let failure = vec![Action::Get(Keys::One(key))];
        Transaction { compares, success, failure }
    }

    /// Several keys; none of them is changed twice.
    fn many(&mut self) -> Transaction {
        let compares = (0..self.random.below(3)).map(|_| {
            let key = self.key();
            self.compare(key)
        });
        let compares = compares.collect();
        let success = self.branch();
        let failure = self.branch();
        Transaction { compares, success, failure }
    }

    fn branch(&mut self) -> Vec<Action> {
        let mut changed: Vec<Bytes> = Vec::new();
        let mut actions = Vec::new();
        for _ in 0..self.random.below(4) {
            let key = self.key();
            match self.random.below(6) {
                0 | 1 => actions.push(Action::Get(self.keys())),
                _ if changed.contains(&key) => {}
                2 => {
                    changed.push(key.clone());
                    actions.push(Action::Delete(Keys::One(key)));
                }
                _ => {
                    changed.push(key.clone());
                    actions.push(self.put_of(key));
                }
            }
        }
        actions
    }

    fn compare(&mut self, key: Bytes) -> Compare {
        let orders = [Order::Equal, Order::Equal, Order::NotEqual, Order::Less, Order::Greater];
        let near = self.committed - self.random.below(4) as i64;
        let target = match self.random.below(5) {
            0 => Target::Version(self.random.below(4) as i64),
            1 => Target::Create(near),
            2 => Target::Value(Bytes::from(format!("v{}-", self.number))),
            3 => Target::Lease(0),
            _ => Target::Mod(near),
        };
        Compare { key, order: orders[self.random.below(5)], target }
    }
}
