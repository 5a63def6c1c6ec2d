//! A disk that stands still: whatever is asked, what waits for it is bounded.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_raft::{Config, HardState, Node};

use super::*;
use crate::lease::LeaseTable;
use crate::limits;
use crate::message::Outcome;
use crate::request::{DeleteRange, KeyRange, Operation, Put};
use crate::sequencer::Sequencer;

/// One core whose log never says that anything is durable.
struct Stalled {
    replica: Replica,
    next_token: Token,
    answers: Vec<Outcome>,
}

impl Stalled {
    fn new() -> Stalled {
        let shared = Arc::new(Shared::new(1, 1, 0, 0));
        let node = Node::new(Config {
            id: 1,
            voters: vec![1],
            hard_state: HardState::default(),
            last_index: 0,
            last_term: 0,
            ..Config::default()
        });
        let sequencer = Sequencer::new(node, 1, |_| Bytes::from_static(b"batch"));
        let mut member = Member::new(1, sequencer, LeaseTable::default(), BTreeMap::new(), 0);
        member.start(0);
        let hub = WatchHub::new(1, 0);
        let replica = Replica::new(0, 1, shared, Shard::default(), hub, Some(member), 0);
        Stalled { replica, next_token: 1, answers: Vec::new() }
    }

    /// Asks, and lets everything happen that can.
    fn ask(&mut self, request: Request) {
        let mut out = Output::default();
        self.replica.request(self.next_token, request, 0, &mut out);
        self.next_token += 1;
        while std::mem::take(&mut out.resume) {
            self.replica.resume(0, &mut out);
        }
        self.replica.pump(4, &mut out);
        assert!(out.heavy.is_empty());
        self.answers.extend(out.answers.into_iter().map(|(_, outcome)| outcome));
    }

    /// The disk does all that it was given.
    fn go_on(&mut self, now_ms: u64) {
        let mut out = Output::default();
        for _ in 0..4 {
            self.replica.pump(4, &mut out);
            let last = self.member().sequencer().node().last_index();
            self.replica.persisted(last, now_ms, &mut out);
            while std::mem::take(&mut out.resume) {
                self.replica.resume(now_ms, &mut out);
            }
        }
        self.answers.extend(out.answers.into_iter().map(|(_, outcome)| outcome));
    }

    fn pass_time(&mut self, now_ms: u64) {
        let mut out = Output::default();
        self.replica.tick(now_ms, &mut out);
        while self.replica.work_slice(now_ms, &mut out) {}
        while std::mem::take(&mut out.resume) {
            self.replica.resume(now_ms, &mut out);
        }
    }

    fn member(&self) -> &Member {
        self.replica.member().expect("the only core leads")
    }

    fn refused(&self) -> usize {
        let refused = |outcome: &&Outcome| matches!(outcome, Err(StoreError::TooManyRequests));
        self.answers.iter().filter(refused).count()
    }

    /// Requests that have no answer.
    fn waiting(&self) -> usize {
        self.next_token as usize - 1 - self.answers.len()
    }
}

fn put(key: &str, lease: i64, bytes: usize) -> Operation {
    Operation::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: vec![0; bytes].into(),
        lease,
        previous: false,
        ignore_value: false,
        ignore_lease: false,
    })
}

#[test]
fn what_waits_for_the_disk_is_bounded() {
    const ASKED: usize = 150_000;
    type Make = fn(usize) -> Request;
    let cases: [(&str, Make, usize); 6] = [
        (
            "grants",
            |number| Request::LeaseGrant { id: number as i64 + 1, ttl: 60, random: 1 },
            limits::CONTROLS,
        ),
        (
            "documents",
            |number| Request::PutDocument {
                name: Bytes::from(format!("document {number}")),
                content: Bytes::from_static(&[0; 10_000]),
                expected: None,
            },
            limits::CONTROL_BYTES / 10_000 + 1,
        ),
        (
            "puts",
            |number| Request::Transact(Transaction::of(put(&format!("{number}"), 0, 10))),
            limits::UNCOMMITTED_REVISIONS as usize + 1,
        ),
        (
            "large puts",
            |number| Request::Transact(Transaction::of(put(&format!("{number}"), 0, 100_000))),
            limits::UNCOMMITTED_BYTES / 100_000 + 1,
        ),
        (
            "deletions of what is not committed",
            |number| {
                let delete = |key: String| DeleteRange {
                    range: KeyRange::Single(Bytes::from(key)),
                    previous: false,
                };
                let operation = match number {
                    0 => put("key", 0, 10),
                    1 => Operation::DeleteRange(delete("key".to_owned())),
                    // It finds a tombstone that is not committed: so its answer has to wait.
                    _ => Operation::DeleteRange(delete("key".to_owned())),
                };
                Request::Transact(Transaction::of(operation))
            },
            limits::HIDDEN_ANSWERS,
        ),
        ("the newest of a key", |_| Request::Compact { revision: 1, physical: false }, 1),
    ];
    for (name, make, most) in cases {
        let mut store = Stalled::new();
        for number in 0..ASKED {
            store.ask(make(number));
        }
        assert!(store.waiting() <= most, "{name}: {} wait", store.waiting());
        assert!(store.waiting() > 0, "{name}: the disk does stand still");
        if most > 1 {
            assert_eq!(store.waiting() + store.refused(), ASKED, "{name}");
        }
        assert!(store.member().sequencer().in_flight() <= 4, "{name}");
    }
}

#[test]
fn leases_that_run_out_wait_for_the_disk_in_the_heap() {
    let mut store = Stalled::new();
    for id in 1..=3000 {
        store.ask(Request::LeaseGrant { id, ttl: 2, random: 1 });
    }
    // They are granted, and then the disk stands still.
    store.go_on(0);
    assert_eq!(store.answers.len(), 3000);
    for seconds in 3..1000 {
        store.pass_time(seconds * 1000);
    }
    assert_eq!(store.member().lease_count(), 3000, "nothing has ended");
    assert!(store.member().waiting() <= 3 * 256, "{} wait", store.member().waiting());
    // The disk goes on: all of them end, one bunch after the other.
    for seconds in 1000..1100 {
        store.pass_time(seconds * 1000);
        store.go_on(seconds * 1000);
    }
    assert_eq!(store.member().lease_count(), 0);
}

#[test]
fn over_the_quota_only_what_frees_is_let_through() {
    let mut store = Stalled::new();
    store.replica.shared().set_quota_bytes(1000);
    let everything =
        || Operation::DeleteRange(DeleteRange { range: KeyRange::prefix(b""), previous: false });
    for round in 0..3 {
        for number in 0..10 {
            store.ask(Request::Transact(Transaction::of(put(&format!("{number}"), 0, 300))));
        }
        // Three puts leave 903 bytes: the fourth is let in, as it was below before it.
        let refused = |outcome: &&Outcome| matches!(outcome, Err(StoreError::NoSpace));
        assert_eq!(store.answers.iter().filter(refused).count(), 6 * (round + 1));
        assert!(store.replica.shared().no_space());
        store.ask(Request::LeaseGrant { id: 7, ttl: 60, random: 1 });
        assert!(matches!(store.answers.pop(), Some(Err(StoreError::NoSpace))));
        let (name, content) = ("alarm".into(), Bytes::new());
        store.ask(Request::PutDocument { name, content, expected: None });
        let mixed = vec![everything(), put("a", 0, 1)];
        let mixed = Transaction { success: mixed, ..Transaction::default() };
        store.ask(Request::Transact(mixed));
        assert!(matches!(store.answers.pop(), Some(Err(StoreError::NoSpace))), "it may add");
        store.ask(Request::Transact(Transaction::of(everything())));
        assert!(!store.replica.shared().no_space(), "room again");
    }
    store.replica.shared().set_quota_bytes(0);
    for number in 0..10 {
        store.ask(Request::Transact(Transaction::of(put(&format!("{number}"), 0, 300))));
    }
    assert!(!store.replica.shared().no_space(), "no quota, no limit");
}
