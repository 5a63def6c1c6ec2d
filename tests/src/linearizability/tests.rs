//! Histories of a store that does what it should pass; each kind of mistake is found.

use bytes::Bytes;

use super::history::{
    Action, Compare, Done, Effect, Found, History, Keys, Operation, Order, Outcome, Read, Request,
    Response, Revision, Seen, Target, Transaction, Version,
};
use super::state::State;
use super::{STEPS_MAX, Verdict, check};
use crate::simulation::random::Random;

const KEYS: usize = 4;

/// A store of our own that does one thing after the other, and its clients.
struct Store {
    random: Random,
    state: State,
    /// By revision.
    states: Vec<State>,
    now: u64,
    history: History,
    /// What watchers may see.
    changes: Vec<(Revision, Seen)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    StaleRead,
    /// As before, but with the newest revision in its header.
    ForgedRead,
    LostWrite,
    SameRevision,
    /// A write whose client was not answered is seen, and gone later.
    SeenAndGone,
    /// A write whose client was not answered is done twice.
    DoneTwice,
    RefusedAndDone,
    /// A transaction answers as if its compare had held.
    CompareIgnored,
    RevisionSkipped,
}

impl Store {
    fn new(seed: u64) -> Store {
        let state = State::default();
        Store {
            random: Random::new(seed),
            states: vec![State::default(), state.clone()],
            state,
            now: 0,
            history: History { start_revision: 1, ..History::default() },
            changes: Vec::new(),
        }
    }

    fn revision(&self) -> Revision {
        self.states.len() as Revision - 1
    }

    fn key(&mut self) -> Bytes {
        Bytes::from(format!("k{}", self.random.below(KEYS)))
    }

    fn keys(&mut self) -> Keys {
        match self.random.below(3) {
            0 => Keys::all(),
            1 => Keys::Range { start: self.key(), end: Some(self.key()) },
            _ => Keys::One(self.key()),
        }
    }

    fn put(&mut self) -> Action {
        // Few values, so that searches have something to choose from.
        let value = Bytes::from(format!("v{}", self.random.below(6)));
        Action::Put { key: self.key(), value, lease: self.random.below(3) as i64 }
    }

    fn compare(&mut self) -> Compare {
        let order = [Order::Equal, Order::NotEqual, Order::Less, Order::Greater];
        let number = self.random.below(6) as i64;
        let target = match self.random.below(4) {
            0 => Target::Value(Bytes::from(format!("v{number}"))),
            1 => Target::Version(number),
            2 => Target::Create(self.revision() - number),
            _ => Target::Mod(self.revision() - number),
        };
        Compare { key: self.key(), order: order[self.random.below(4)], target }
    }

    fn request(&mut self) -> Request {
        match self.random.below(10) {
            0..4 => Request::Transact(Transaction::of(self.put())),
            4 => Request::Transact(Transaction::of(Action::Delete(self.keys()))),
            5 => {
                let lease = 1 + self.random.below(2) as i64;
                Request::Transact(Transaction::of(Action::EndLease(lease)))
            }
            6 | 7 => {
                let compares = vec![self.compare()];
                let success = vec![self.put(), Action::Get(self.keys())];
                let failure = vec![Action::Get(self.keys())];
                Request::Transact(Transaction { compares, success, failure })
            }
            _ => {
                let mut read = Read::of(self.keys());
                if self.random.chance(20) {
                    read.revision = 1 + self.random.below(self.revision() as usize) as i64;
                }
                read.serializable = self.random.chance(20);
                Request::Read(read)
            }
        }
    }

    /// Does it now. Gives the answer.
    fn act(&mut self, request: &Request) -> Response {
        match request {
            Request::Read(read) => {
                let at = if read.revision > 0 { read.revision } else { self.revision() };
                let versions = self.states[at as usize].find(&read.keys);
                let (revision, count) = (self.revision(), versions.len());
                Response::Read(Found { revision, versions, count })
            }
            Request::Transact(transaction) => {
                let next = self.revision() + 1;
                let (changed, mut done) = self.state.transact(transaction, next);
                if changed.is_empty() {
                    done.revision -= 1;
                } else {
                    self.states.push(self.state.clone());
                    for key in changed {
                        let seen = match self.state.get(&key) {
                            Some(version) => Seen::Put(version.clone()),
                            None => Seen::Deleted(key),
                        };
                        self.changes.push((next, seen));
                    }
                }
                Response::Transact(done)
            }
        }
    }

    /// Nothing was done at the newest revision, after all.
    fn undo(&mut self) {
        self.states.pop();
        self.state = self.states.last().expect("the first state stays").clone();
    }

    fn note(&mut self, invoked: u64, request: Request, outcome: Outcome) {
        let client = self.random.below(5) as u64;
        self.history.operations.push(Operation { client, invoked, request, outcome });
    }

    fn answered(&self, response: Response) -> Outcome {
        Outcome::Answered { returned: self.now + 1, response }
    }

    /// One client asks and is answered; others asked before and are answered later.
    fn step(&mut self) {
        let request = self.request();
        self.now += 5;
        let invoked = self.now - self.random.below(30).min(self.now as usize) as u64;
        if self.random.chance(10) {
            if self.random.chance(60) {
                self.act(&request);
            }
            return self.note(invoked, request, Outcome::Unknown);
        }
        if self.random.chance(3) {
            return self.note(invoked, request, Outcome::Refused);
        }
        let response = self.act(&request);
        let returned = self.now + self.random.below(30) as u64;
        self.note(invoked, request, Outcome::Answered { returned, response });
    }

    /// A quiet moment: everything before is answered, and nothing after has begun.
    fn pause(&mut self) {
        self.now += 100;
    }

    fn put_now(&mut self, value: &str) -> (Request, Response) {
        let (key, value) = (Bytes::from("k0"), Bytes::from(value.to_owned()));
        let request = Request::Transact(Transaction::of(Action::Put { key, value, lease: 0 }));
        let response = self.act(&request);
        (request, response)
    }

    fn read_all(&mut self) {
        let request = Request::Read(Read::of(Keys::all()));
        let response = self.act(&request);
        let outcome = self.answered(response);
        self.note(self.now, request, outcome);
    }

    fn plant(&mut self, mistake: Mistake) {
        self.pause();
        let (request, response) = self.put_now("one");
        let outcome = self.answered(response.clone());
        let invoked = self.now;
        match mistake {
            Mistake::None => self.note(invoked, request, outcome),
            Mistake::StaleRead | Mistake::ForgedRead => {
                self.note(invoked, request, outcome);
                self.pause();
                let before = self.revision() - 1;
                let versions = self.states[before as usize].find(&Keys::all());
                let forged = mistake == Mistake::ForgedRead;
                let (revision, count) = (before + i64::from(forged), versions.len());
                let found = Response::Read(Found { revision, versions, count });
                let outcome = self.answered(found);
                self.note(self.now, Request::Read(Read::of(Keys::all())), outcome);
            }
            Mistake::LostWrite => {
                self.note(invoked, request, outcome);
                self.undo();
            }
            Mistake::SameRevision => {
                self.note(invoked, request, outcome);
                self.undo();
                let (request, response) = self.put_now("two");
                let outcome = self.answered(response);
                self.note(invoked, request, outcome);
            }
            Mistake::SeenAndGone => {
                self.note(invoked, request, Outcome::Unknown);
                self.read_all();
                self.undo();
            }
            Mistake::DoneTwice => {
                self.note(invoked, request.clone(), Outcome::Unknown);
                self.read_all();
                self.pause();
                self.act(&request);
            }
            Mistake::RefusedAndDone => self.note(invoked, request, Outcome::Refused),
            Mistake::CompareIgnored => {
                self.note(invoked, request, outcome);
                self.pause();
                let target = Target::Value(Bytes::from("another"));
                let compare = Compare { key: "k0".into(), order: Order::Equal, target };
                let (_, response) = self.put_now("two");
                let success = vec![Action::Put { key: "k0".into(), value: "two".into(), lease: 0 }];
                let transaction =
                    Transaction { compares: vec![compare], success, failure: Vec::new() };
                let outcome = self.answered(response);
                self.note(self.now, Request::Transact(transaction), outcome);
            }
            Mistake::RevisionSkipped => {
                self.note(invoked, request, outcome);
                self.states.push(self.state.clone());
            }
        }
        self.pause();
        self.read_all();
    }
}

fn history(seed: u64, mistake: Mistake, seen: bool) -> History {
    let mut store = Store::new(seed);
    for _ in 0..20 {
        store.step();
    }
    store.plant(mistake);
    for _ in 0..20 {
        store.step();
    }
    store.pause();
    store.read_all();
    if seen {
        store.history.seen = store.changes.clone();
    }
    store.history
}

#[test]
fn what_a_right_store_does_is_linearizable() {
    for seed in 0..300 {
        for seen in [false, true] {
            let verdict = check(&history(seed, Mistake::None, seen), STEPS_MAX);
            assert_eq!(verdict, Verdict::Linearizable, "seed {seed}, watched: {seen}");
        }
    }
}

#[test]
fn every_kind_of_mistake_is_found() {
    let certain = [
        Mistake::StaleRead,
        Mistake::ForgedRead,
        Mistake::LostWrite,
        Mistake::SameRevision,
        Mistake::CompareIgnored,
    ];
    // Another operation without an answer may explain these, as far as clients can know.
    let mostly = [
        (Mistake::SeenAndGone, 90),
        (Mistake::DoneTwice, 90),
        (Mistake::RefusedAndDone, 90),
        (Mistake::RevisionSkipped, 50),
    ];
    let found = |mistake| {
        let verdicts = (0..100).map(|seed| check(&history(seed, mistake, false), STEPS_MAX));
        verdicts.filter(|verdict| matches!(verdict, Verdict::Violation(_))).count()
    };
    for mistake in certain {
        assert_eq!(found(mistake), 100, "{mistake:?}");
    }
    for (mistake, least) in mostly {
        let found = found(mistake);
        println!("{mistake:?}: in {found} of 100 histories");
        assert!(found >= least, "{mistake:?}: found {found} times");
    }
}

#[test]
fn a_search_is_given_up_when_it_takes_too_long() {
    let put = |key: usize, outcome| {
        let (key, value) = (Bytes::from(format!("k{key}")), Bytes::from("v"));
        let request = Request::Transact(Transaction::of(Action::Put { key, value, lease: 0 }));
        Operation { client: 1, invoked: 0, request, outcome }
    };
    let mut history = History { start_revision: 1, ..History::default() };
    history.operations.extend((0..20).map(|key| put(key, Outcome::Unknown)));
    let results = vec![Effect::Put { previous: Some(None) }];
    let done = Done { revision: 22, succeeded: true, results };
    let response = Response::Transact(done);
    // One of the twenty wrote this key already, so the answer is wrong; any order of them has to be
    // tried to know that.
    history.operations.push(put(7, Outcome::Answered { returned: 9, response }));
    assert!(matches!(check(&history, 2_000), Verdict::Undecided(_)));
    history.operations.truncate(20);
    assert_eq!(check(&history, 2_000), Verdict::Linearizable);
}

#[test]
fn what_watchers_saw_decides_what_answers_leave_open() {
    let put = |value: &str, outcome| {
        let (key, value) = (Bytes::from("k"), Bytes::from(value.to_owned()));
        let request = Request::Transact(Transaction::of(Action::Put { key, value, lease: 0 }));
        Operation { client: 1, invoked: 0, request, outcome }
    };
    let version = |value: &str, mod_revision, version| Version {
        key: "k".into(),
        value: Bytes::from(value.to_owned()),
        create_revision: 2,
        mod_revision,
        version,
        lease: 0,
    };
    for (seen, right) in [
        (vec![(2, version("a", 2, 1)), (3, version("b", 3, 2))], true),
        (vec![(2, version("b", 2, 1)), (3, version("a", 3, 2))], true),
        (vec![(3, version("a", 3, 2))], true),
        (vec![(2, version("a", 2, 1)), (3, version("a", 3, 2))], false),
        (vec![(2, version("a", 2, 1)), (3, version("b", 3, 1))], false),
        (vec![(2, version("a", 2, 1)), (4, version("b", 4, 2))], false),
    ] {
        let history = History {
            operations: vec![put("a", Outcome::Unknown), put("b", Outcome::Unknown)],
            start_revision: 1,
            start: Vec::new(),
            seen: seen.iter().map(|(at, version)| (*at, Seen::Put(version.clone()))).collect(),
        };
        let verdict = check(&history, STEPS_MAX);
        assert_eq!(verdict == Verdict::Linearizable, right, "{seen:?}: {verdict:?}");
    }
}
