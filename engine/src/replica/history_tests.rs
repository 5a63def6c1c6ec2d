//! Older versions that only the log has: one core, step by step, with a log that answers as told.

use bytes::Bytes;
use mainstay_raft::{Config, HardState, Node};

use super::*;
use crate::lease::LeaseTable;
use crate::message::Outcome;
use crate::mvcc::Lookup;
use crate::request::{KeyRange, Operation, OperationResponse, Put, RangeRequest};
use crate::sequencer::Sequencer;

/// A core that forgets everything but its newest batch.
struct Single {
    replica: Replica,
    next_token: Token,
}

impl Single {
    fn new() -> Single {
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
        let hub = WatchHub::with_ring_bytes(1, 0, 1);
        let replica = Replica::new(0, 1, shared, Shard::default(), hub, Some(member), 0);
        Single { replica, next_token: 1 }
    }

    /// Asks, and does whatever can be done without the log's history.
    fn ask(&mut self, request: Request) -> (Vec<Outcome>, Vec<(u64, Vec<Lookup>)>) {
        let mut out = Output::default();
        self.replica.request(self.next_token, request, 0, &mut out);
        self.next_token += 1;
        self.go_on(&mut out);
        (outcomes(out.answers), out.lookups)
    }

    fn go_on(&mut self, out: &mut Output) {
        for _ in 0..20 {
            self.replica.pump(1, out);
            if let Some(append) = out.writes.pop() {
                self.replica.written(append.number, 0, out);
            }
            self.replica.resume(0, out);
        }
        while self.replica.compact_slice(0, out) {}
    }

    fn answer(&mut self, id: u64, found: Result<Vec<Option<Record>>, StoreError>) -> Vec<Outcome> {
        let mut out = Output::default();
        self.replica.history_found(id, found, 0, &mut out);
        self.go_on(&mut out);
        outcomes(out.answers)
    }

    /// Writes `k` at the revisions 2 to 9.
    fn with_history() -> Single {
        let mut single = Single::new();
        for round in 0..8 {
            let (answers, _) = single.ask(Request::Transact(Transaction::of(put(round))));
            assert!(matches!(answers[..], [Ok(Answer::Transact(_))]), "{answers:?}");
        }
        single
    }
}

fn outcomes(answers: Vec<(Token, Outcome)>) -> Vec<Outcome> {
    answers.into_iter().map(|(_, outcome)| outcome).collect()
}

fn put(round: u8) -> Operation {
    Operation::Put(Put {
        key: "k".into(),
        value: vec![round].into(),
        lease: 0,
        previous: false,
        ignore_value: false,
        ignore_lease: false,
    })
}

fn range_at(revision: Revision) -> RangeRequest {
    RangeRequest { revision, ..RangeRequest::new(KeyRange::prefix(b"k")) }
}

fn reading(success: Vec<Operation>, failure: Vec<Operation>) -> Request {
    Request::Transact(Transaction { compares: Vec::new(), success, failure })
}

/// What asks for one version, at which revision.
fn one_lookup(lookups: Vec<(u64, Vec<Lookup>)>, revision: Revision) -> u64 {
    let [(id, lookups)] = &lookups[..] else { panic!("{lookups:?}") };
    assert_eq!(lookups[..], [Lookup { key: "k".into(), revision }]);
    *id
}

#[test]
fn an_older_version_is_looked_up_and_answered() {
    let mut single = Single::with_history();
    let found = Record::new(b"k", b"found", 2, 4, 3, 0);
    let (answers, lookups) = single.ask(Request::Range(range_at(4)));
    assert!(answers.is_empty());
    let answers = single.answer(one_lookup(lookups, 4), Ok(vec![Some(found.clone())]));
    let [Ok(Answer::Range(response))] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((&response.records[..], response.count), (&[found.clone()][..], 1));
    assert_eq!(response.revision, 9);

    // It was created at 2, so it lived at 4 whatever it was.
    let count = RangeRequest { count_only: true, ..range_at(4) };
    let (answers, lookups) = single.ask(Request::Range(count));
    assert!(matches!(&answers[..], [Ok(Answer::Range(response))] if response.count == 1));
    assert!(lookups.is_empty());

    // In a transaction, whose own change comes afterwards.
    let (answers, lookups) =
        single.ask(reading(vec![put(99), Operation::Range(range_at(4))], Vec::new()));
    assert!(answers.is_empty());
    let answers = single.answer(one_lookup(lookups, 4), Ok(vec![Some(found.clone())]));
    let [Ok(Answer::Transact(response))] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(response.revision, 10);
    let OperationResponse::Range(range) = &response.responses[1] else { panic!("a range") };
    assert_eq!((&range.records[..], range.revision), (&[found][..], 10));
    assert!(single.replica.is_quiet());
}

#[test]
fn a_version_that_cannot_be_read_is_an_error_where_it_matters() {
    let mut single = Single::with_history();
    let unreadable = StoreError::HistoryUnreadable("0001.log at byte 4096".to_owned());
    let error = || Err(unreadable.clone());
    let (_, lookups) = single.ask(Request::Range(range_at(4)));
    let answers = single.answer(one_lookup(lookups, 4), error());
    assert!(matches!(&answers[..], [Err(told)] if *told == unreadable), "{answers:?}");

    let old = || vec![Operation::Range(range_at(4))];
    let (_, lookups) = single.ask(reading(old(), Vec::new()));
    let answers = single.answer(one_lookup(lookups, 4), error());
    assert!(matches!(&answers[..], [Err(told)] if *told == unreadable), "{answers:?}");
    // Nobody needs it in the branch that is not taken.
    let (_, lookups) = single.ask(reading(vec![put(1)], old()));
    let answers = single.answer(one_lookup(lookups, 4), error());
    assert!(matches!(&answers[..], [Ok(Answer::Transact(_))]), "{answers:?}");
    assert!(single.replica.is_quiet());
}

#[test]
fn a_compaction_overtakes_what_is_looked_up() {
    let mut single = Single::with_history();
    let (_, range) = single.ask(Request::Range(range_at(4)));
    let (_, transaction) =
        single.ask(reading(vec![Operation::Range(range_at(4)), put(1)], Vec::new()));
    let (answers, _) = single.ask(Request::Compact { revision: 7, physical: true });
    assert!(matches!(answers[..], [Ok(Answer::Revision(9))]), "{answers:?}");
    // The log may have lost it by now: whatever it says, the revision is compacted.
    let compacted = StoreError::Compacted { requested: 4, compacted: 7 };
    for lookups in [range, transaction] {
        let answers = single.answer(one_lookup(lookups, 4), Ok(vec![None]));
        assert!(matches!(&answers[..], [Err(told)] if *told == compacted), "{answers:?}");
    }
    assert_eq!(single.replica.shared.committed_revision(), 9, "nothing was put");
}

#[test]
fn what_nobody_waits_for_is_forgotten() {
    let mut single = Single::with_history();
    let (_, range) = single.ask(Request::Range(range_at(4)));
    let (_, transaction) = single.ask(reading(vec![Operation::Range(range_at(4))], Vec::new()));
    single.replica.forget(single.next_token - 1);
    single.replica.forget(single.next_token - 2);
    assert!(single.replica.is_quiet());
    for lookups in [range, transaction] {
        assert!(single.answer(one_lookup(lookups, 4), Ok(vec![None])).is_empty());
    }
}
