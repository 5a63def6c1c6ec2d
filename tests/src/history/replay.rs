//! The same history for the checker that simulations use, too: it searches for an order and knows nothing of how
//! this one was taken, so a mistake would have to be made twice.

use bytes::Bytes;

use super::{Call, Change, History, Operation, Outcome, PREFIX, PREFIX_END, Pair};
use crate::linearizability::history as checked;
use crate::linearizability::{STEPS_MAX, Verdict, check};

/// A new store, before any change.
const START_REVISION: i64 = 1;

/// # Errors
/// What stands in the way of every order, or that none was found in time.
pub(super) fn replay(history: &History) -> Result<(), String> {
    let changes = history.changes.iter().scan(Versions::default(), |versions, change| {
        Some((change.revision, versions.seen(change)))
    });
    let translated = checked::History {
        operations: history.operations.iter().map(operation).collect(),
        start_revision: START_REVISION,
        start: Vec::new(),
        seen: changes.collect(),
    };
    match check(&translated, STEPS_MAX) {
        Verdict::Linearizable => Ok(()),
        Verdict::Violation(what) => Err(format!("not linearizable: {what}")),
        Verdict::Undecided(what) => Err(format!("linearizable or not, nobody knows: {what}")),
    }
}

fn operation(operation: &Operation) -> checked::Operation {
    let outcome = match &operation.outcome {
        Outcome::Unknown(_) => checked::Outcome::Unknown,
        Outcome::Refused(_) => checked::Outcome::Refused,
        Outcome::Done { revision, changed, pairs } => checked::Outcome::Answered {
            returned: operation.returned,
            response: response(&operation.call, *revision, *changed, pairs),
        },
    };
    checked::Operation {
        client: operation.client as u64,
        invoked: operation.invoked,
        request: request(&operation.call),
        outcome,
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn one(key: &str) -> checked::Keys {
    checked::Keys::One(bytes(key))
}

fn put(key: &str, value: &str) -> checked::Action {
    checked::Action::Put { key: bytes(key), value: bytes(value), lease: 0 }
}

fn request(call: &Call) -> checked::Request {
    let read = |keys, serializable| {
        checked::Request::Read(checked::Read { serializable, ..checked::Read::of(keys) })
    };
    match call {
        Call::Get { key, serializable } => read(one(key), *serializable),
        Call::List { serializable } => {
            let (start, end) = (bytes(PREFIX), Some(bytes(PREFIX_END)));
            read(checked::Keys::Range { start, end }, *serializable)
        }
        Call::Put { key, value } => {
            checked::Request::Transact(checked::Transaction::of(put(key, value)))
        }
        Call::Delete { key } => {
            let action = checked::Action::Delete(one(key));
            checked::Request::Transact(checked::Transaction::of(action))
        }
        Call::PutTwo { keys, value } => checked::Request::Transact(checked::Transaction {
            success: keys.iter().map(|key| put(key, value)).collect(),
            ..checked::Transaction::default()
        }),
        Call::CompareAndPut { key, expected, value } => {
            let compare = checked::Compare {
                key: bytes(key),
                order: checked::Order::Equal,
                target: checked::Target::Mod(*expected),
            };
            checked::Request::Transact(checked::Transaction {
                compares: vec![compare],
                success: vec![put(key, value)],
                failure: vec![checked::Action::Get(one(key))],
            })
        }
    }
}

fn response(call: &Call, revision: i64, changed: bool, pairs: &[Pair]) -> checked::Response {
    let versions: Vec<checked::Version> = pairs.iter().map(version).collect();
    let written = || checked::Effect::Put { previous: None };
    let (succeeded, results) = match call {
        Call::Get { .. } | Call::List { .. } => {
            let count = versions.len();
            return checked::Response::Read(checked::Found { revision, versions, count });
        }
        Call::Put { .. } => (true, vec![written()]),
        Call::PutTwo { .. } => (true, vec![written(), written()]),
        Call::Delete { .. } => {
            (true, vec![checked::Effect::Deleted { count: changed.into(), previous: None }])
        }
        Call::CompareAndPut { .. } if changed => (true, vec![written()]),
        Call::CompareAndPut { .. } => (false, vec![checked::Effect::Got { versions }]),
    };
    checked::Response::Transact(checked::Done { revision, succeeded, results })
}

fn version(pair: &Pair) -> checked::Version {
    checked::Version {
        key: bytes(&pair.key),
        value: bytes(&pair.value),
        create_revision: pair.created,
        mod_revision: pair.modified,
        version: pair.version,
        lease: 0,
    }
}

/// What lives, while changes are gone through: of a change alone one does not know when its key was made.
#[derive(Default)]
struct Versions(std::collections::BTreeMap<String, (i64, i64)>);

impl Versions {
    fn seen(&mut self, change: &Change) -> checked::Seen {
        let Some(value) = &change.value else {
            self.0.remove(&change.key);
            return checked::Seen::Deleted(bytes(&change.key));
        };
        let lives = self.0.entry(change.key.clone()).or_insert((change.revision, 0));
        lives.1 += 1;
        checked::Seen::Put(version(&Pair {
            key: change.key.clone(),
            value: value.clone(),
            created: lives.0,
            modified: change.revision,
            version: lives.1,
        }))
    }
}
