//! The store as one map: what an operation does to it, in the plainest way.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::history::{
    Action, Compare, Done, Effect, Found, Keys, Lease, Order, Read, Request, Response, Revision,
    Target, Transaction, Version,
};

/// What lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct State {
    versions: BTreeMap<Bytes, Version>,
}

impl State {
    pub(super) fn of(versions: &[Version]) -> State {
        let entry = |version: &Version| (version.key.clone(), version.clone());
        State { versions: versions.iter().map(entry).collect() }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Version> {
        self.versions.get(key)
    }

    /// All that live of these keys, by key.
    pub(super) fn find(&self, keys: &Keys) -> Vec<Version> {
        self.in_range(keys).cloned().collect()
    }

    fn in_range<'a>(&'a self, keys: &'a Keys) -> impl Iterator<Item = &'a Version> {
        let (start, end) = match keys {
            Keys::One(key) => (key, Bound::Included(key)),
            Keys::Range { start, end } => {
                (start, end.as_ref().map_or(Bound::Unbounded, Bound::Excluded))
            }
        };
        let empty = matches!(end, Bound::Excluded(end) if end <= start);
        let range = (Bound::Included(start), if empty { Bound::Included(start) } else { end });
        self.versions.range::<Bytes, _>(range).map(|(_, version)| version).filter(move |_| !empty)
    }

    /// Does a request, `revision` being its own if it changes anything, and checks the answer to it.
    /// Gives the keys that changed.
    ///
    /// # Errors
    /// What the answer should have been.
    pub(super) fn step(
        &mut self,
        request: &Request,
        response: &Response,
        revision: Revision,
    ) -> Result<Vec<Bytes>, String> {
        match (request, response) {
            (Request::Read(read), Response::Read(found)) => {
                self.check_read(read, found).map(|()| Vec::new())
            }
            (Request::Transact(transaction), Response::Transact(done)) => {
                if self.would_change(transaction) != response.wrote() {
                    let wrote = if response.wrote() { "says" } else { "does not say" };
                    return Err(format!("the answer {wrote} that something changed"));
                }
                let (changed, expected) = self.transact(transaction, revision);
                same_done(done, &expected).map(|()| changed)
            }
            _ => Err("the answer is one to another request".to_owned()),
        }
    }

    fn would_change(&self, transaction: &Transaction) -> bool {
        let attached = |lease: Lease| self.versions.values().any(|version| version.lease == lease);
        self.branch(transaction).1.iter().any(|action| match action {
            Action::Get(_) => false,
            Action::Put { .. } => true,
            Action::Delete(keys) => self.in_range(keys).next().is_some(),
            Action::EndLease(lease) => attached(*lease),
        })
    }

    fn branch<'a>(&self, transaction: &'a Transaction) -> (bool, &'a [Action]) {
        let Transaction { compares, success, failure } = transaction;
        let holds = compares.iter().all(|compare| self.holds(compare));
        (holds, if holds { success } else { failure })
    }

    /// Checks what a read found, if this is the state that it asked for.
    ///
    /// # Errors
    /// What it should have found.
    pub(super) fn check_read(&self, read: &Read, found: &Found) -> Result<(), String> {
        let lived: Vec<&Version> = self.in_range(&read.keys).collect();
        if found.count != lived.len() {
            return Err(format!("a count of {}, and {} live: {lived:?}", found.count, lived.len()));
        }
        if read.count_only {
            return Ok(());
        }
        let limit = if read.limit == 0 { usize::MAX } else { read.limit };
        same_versions(&found.versions, &lived[..lived.len().min(limit)])
    }

    /// Does a transaction. Gives the keys that it changed, and the answer to it.
    pub(super) fn transact(
        &mut self,
        transaction: &Transaction,
        revision: Revision,
    ) -> (Vec<Bytes>, Done) {
        let (succeeded, branch) = self.branch(transaction);
        let mut changed = Vec::new();
        let results = branch.iter().map(|action| self.act(action, revision, &mut changed));
        let results = results.collect();
        (changed, Done { revision, succeeded, results })
    }

    fn act(&mut self, action: &Action, revision: Revision, changed: &mut Vec<Bytes>) -> Effect {
        match action {
            Action::Get(keys) => Effect::Got { versions: self.find(keys) },
            Action::Put { key, value, lease } => {
                changed.push(key.clone());
                let previous = self.put(key, value, *lease, revision);
                Effect::Put { previous: Some(previous) }
            }
            Action::Delete(keys) => {
                let ended = self.find(keys);
                self.end(ended, changed)
            }
            Action::EndLease(lease) => {
                let attached = |version: &&Version| version.lease == *lease;
                let ended = self.versions.values().filter(attached).cloned().collect();
                self.end(ended, changed)
            }
        }
    }

    fn end(&mut self, ended: Vec<Version>, changed: &mut Vec<Bytes>) -> Effect {
        for version in &ended {
            changed.push(version.key.clone());
            self.versions.remove(&version.key);
        }
        Effect::Deleted { count: ended.len(), previous: Some(ended) }
    }

    fn put(
        &mut self,
        key: &Bytes,
        value: &Bytes,
        lease: Lease,
        revision: Revision,
    ) -> Option<Version> {
        let before = self.versions.get(key);
        let (create_revision, version) =
            before.map_or((revision, 1), |before| (before.create_revision, before.version + 1));
        let (key, value) = (key.clone(), value.clone());
        let put = Version {
            key: key.clone(),
            value,
            create_revision,
            mod_revision: revision,
            version,
            lease,
        };
        self.versions.insert(key, put)
    }

    fn holds(&self, compare: &Compare) -> bool {
        let version = self.get(&compare.key);
        let number = |read: fn(&Version) -> i64| version.map_or(0, read);
        let found = match &compare.target {
            Target::Value(value) => match version {
                Some(version) => version.value.cmp(value),
                None => return false,
            },
            Target::Version(target) => number(|version| version.version).cmp(target),
            Target::Create(target) => number(|version| version.create_revision).cmp(target),
            Target::Mod(target) => number(|version| version.mod_revision).cmp(target),
            Target::Lease(target) => number(|version| version.lease).cmp(target),
        };
        match compare.order {
            Order::Equal => found.is_eq(),
            Order::NotEqual => found.is_ne(),
            Order::Less => found.is_lt(),
            Order::Greater => found.is_gt(),
        }
    }
}

/// Whether an answer is the one that it should be, as far as it says anything.
fn same_done(done: &Done, expected: &Done) -> Result<(), String> {
    if done.succeeded != expected.succeeded {
        return Err(format!("whether it succeeded: it should be {}", expected.succeeded));
    }
    if done.results.len() != expected.results.len() {
        return Err(format!("{} results, and not {}", done.results.len(), expected.results.len()));
    }
    for (result, expected) in done.results.iter().zip(&expected.results) {
        let same = match (result, expected) {
            (Effect::Got { versions: found }, Effect::Got { versions }) => found == versions,
            (Effect::Put { previous: found }, Effect::Put { previous }) => {
                found.is_none() || found == previous
            }
            (
                Effect::Deleted { count: found, previous: told },
                Effect::Deleted { count, previous },
            ) => found == count && (told.is_none() || told == previous),
            _ => false,
        };
        if !same {
            return Err(format!("{result:?}, and it should be {expected:?}"));
        }
    }
    Ok(())
}

fn same_versions(found: &[Version], expected: &[&Version]) -> Result<(), String> {
    if found.iter().eq(expected.iter().copied()) {
        return Ok(());
    }
    Err(format!("found {found:?}, and it should be {expected:?}"))
}
