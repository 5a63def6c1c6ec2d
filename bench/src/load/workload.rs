//! What a client sends: each workload makes the next request and judges its answer.

use super::grpc::Method;
use super::random::Random;
use super::template::{self, KeyShape, Template, UpdateTemplates};
use super::wire::{self, WireError};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// What became of a request that was answered without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The operation is complete.
    Done,
    /// Somebody else wrote the key first: the newest revision is known now, send it again.
    Conflict,
}

/// A client's behaviour. A client has one request in flight.
pub trait Workload {
    /// Makes the next request.
    fn next(&mut self, random: &mut Random, buffer: &mut BytesMut) -> (Method, Bytes);

    /// Makes the request again after [`Outcome::Conflict`].
    fn again(&mut self, random: &mut Random, buffer: &mut BytesMut) -> (Method, Bytes) {
        self.next(random, buffer)
    }

    /// Judges the answer.
    ///
    /// # Errors
    /// The answer is no valid message.
    fn finish(&mut self, response: &[u8]) -> Result<Outcome, WireError>;
}

/// The last known modification revision of each key, shared by all clients of a run (0: absent).
pub type Revisions = Arc<[AtomicI64]>;

/// Revisions of `key_space` keys, none known.
#[must_use]
pub fn no_revisions(key_space: u64) -> Revisions {
    (0..key_space).map(|_| AtomicI64::new(0)).collect()
}

/// Puts of random keys.
pub struct Puts {
    template: Arc<Template>,
    key_space: u64,
}

impl Puts {
    /// Puts `template` to random keys out of `key_space`.
    #[must_use]
    pub fn new(template: Arc<Template>, key_space: u64) -> Self {
        Self { template, key_space }
    }
}

impl Workload for Puts {
    fn next(&mut self, random: &mut Random, buffer: &mut BytesMut) -> (Method, Bytes) {
        let index = random.below(self.key_space);
        (Method::Put, self.template.render(index, random.bits(), 0, buffer))
    }

    fn finish(&mut self, response: &[u8]) -> Result<Outcome, WireError> {
        wire::write_answer(response).map(|_| Outcome::Done)
    }
}

/// Reads: of one random key, or of a whole prefix (the template has no key to patch then).
pub struct Ranges {
    template: Arc<Template>,
    key_space: u64,
}

impl Ranges {
    /// Sends `template` for random keys out of `key_space`.
    #[must_use]
    pub fn new(template: Arc<Template>, key_space: u64) -> Self {
        Self { template, key_space }
    }
}

impl Workload for Ranges {
    fn next(&mut self, random: &mut Random, buffer: &mut BytesMut) -> (Method, Bytes) {
        (Method::Range, self.template.render(random.below(self.key_space), 0, 0, buffer))
    }

    fn finish(&mut self, response: &[u8]) -> Result<Outcome, WireError> {
        wire::range_length(response).map(|_| Outcome::Done)
    }
}

/// How an optimistic update picks its key.
pub enum KeyChoice {
    /// Any key: clients may collide, as controllers do.
    Random {
        /// How many keys there are.
        key_space: u64,
    },
    /// Each client goes round its own keys (`first`, `first + step`, …), as kubelets do.
    Own {
        /// The next key.
        next: u64,
        /// The first key.
        first: u64,
        /// The distance to the next.
        step: u64,
        /// How many keys there are.
        key_space: u64,
    },
}

impl KeyChoice {
    fn pick(&mut self, random: &mut Random) -> u64 {
        match self {
            Self::Random { key_space } => random.below(*key_space),
            Self::Own { next, first, step, key_space } => {
                let picked = *next;
                *next = if picked + *step < *key_space { picked + *step } else { *first };
                picked
            }
        }
    }
}

/// Optimistic updates as Kubernetes makes them.
pub struct Updates {
    templates: Arc<UpdateTemplates>,
    revisions: Revisions,
    choice: KeyChoice,
    current: u64,
}

impl Updates {
    /// Updates keys picked by `choice` and tracks their revisions in `revisions`.
    #[must_use]
    pub fn new(templates: Arc<UpdateTemplates>, revisions: Revisions, choice: KeyChoice) -> Self {
        Self { templates, revisions, choice, current: 0 }
    }
}

impl Workload for Updates {
    fn next(&mut self, random: &mut Random, buffer: &mut BytesMut) -> (Method, Bytes) {
        self.current = self.choice.pick(random);
        self.again(random, buffer)
    }

    fn again(&mut self, random: &mut Random, buffer: &mut BytesMut) -> (Method, Bytes) {
        let revision = self.revisions[self.current as usize].load(Ordering::Relaxed);
        (Method::Txn, self.templates.render(self.current, random.bits(), revision, buffer))
    }

    fn finish(&mut self, response: &[u8]) -> Result<Outcome, WireError> {
        let answer = wire::write_answer(response)?;
        let known = &self.revisions[self.current as usize];
        if answer.succeeded {
            known.fetch_max(answer.revision, Ordering::Relaxed);
            return Ok(Outcome::Done);
        }
        let current = answer.current_revision.ok_or(WireError)?;
        known.store(current, Ordering::Relaxed);
        Ok(Outcome::Conflict)
    }
}

/// A value of `length` bytes that starts with a stamp, if one fits.
#[must_use]
pub fn stamped_value(length: usize, random: &mut Random) -> Vec<u8> {
    let mut value = random.text(length);
    if let Some(front) = value.get_mut(..template::STAMP_WIDTH) {
        front.copy_from_slice(template::STAMP_PLACEHOLDER);
    }
    value
}

/// Where the keys of the lease flood live: those of a Kubernetes cluster's node heartbeats.
#[must_use]
pub fn lease_shape(key_space: u64) -> KeyShape {
    KeyShape::new("/registry/leases/kube-node-lease/node-", key_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_keys_go_round_and_never_meet_those_of_another_client() {
        let mut seen = std::collections::BTreeMap::new();
        for first in 0..3u64 {
            let mut choice = KeyChoice::Own { next: first, first, step: 3, key_space: 10 };
            let mut random = Random::new(1);
            for _ in 0..40 {
                let key = choice.pick(&mut random);
                assert_eq!(*seen.entry(key).or_insert(first), first);
            }
        }
        assert_eq!(seen.len(), 10, "every key is written");
    }

    #[test]
    fn an_update_learns_the_revision_from_a_conflict_and_from_success() {
        let shape = KeyShape::new("/p/", 10);
        let templates = Arc::new(UpdateTemplates::new(&shape, b"value"));
        let revisions = no_revisions(10);
        let choice = KeyChoice::Own { next: 4, first: 4, step: 10, key_space: 10 };
        let mut updates = Updates::new(templates, revisions.clone(), choice);
        let (mut random, mut buffer) = (Random::new(1), BytesMut::new());
        updates.next(&mut random, &mut buffer);

        // TxnResponse{header{revision: 9}, responses[{range{kvs[{mod_revision: 7}]}}]}
        let conflict = [0x0a, 2, 0x18, 9, 0x1a, 6, 0x0a, 4, 0x12, 2, 0x18, 7];
        assert_eq!(updates.finish(&conflict), Ok(Outcome::Conflict));
        assert_eq!(revisions[4].load(Ordering::Relaxed), 7);
        // TxnResponse{header{revision: 12}, succeeded: true}
        assert_eq!(updates.finish(&[0x0a, 2, 0x18, 12, 0x10, 1]), Ok(Outcome::Done));
        assert_eq!(revisions[4].load(Ordering::Relaxed), 12);
        // A failed compare without the range that was asked for is no valid answer.
        assert_eq!(updates.finish(&[0x0a, 2, 0x18, 12]), Err(WireError));
    }
}
