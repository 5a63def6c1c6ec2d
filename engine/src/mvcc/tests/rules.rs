//! etcd's rules, one test each.

use bytes::Bytes;

use super::{nothing_evicted, range_at as range_of_mvcc, with_past};
use crate::error::StoreError;
use crate::mvcc::{Evaluation, Mvcc, Seen, evaluate};
use crate::record::{LeaseId, Record, Revision};
use crate::request::*;

/// A store with a=va at revision 2, b=vb at 3, c=vc at 4, b=again at 5; all committed.
struct Fixture {
    mvcc: Mvcc,
    committed: Revision,
    revision: Revision,
}

fn fixture() -> Fixture {
    let mut fixture = Fixture { mvcc: Mvcc::default(), committed: 1, revision: 1 };
    for (key, value) in [("a", "va"), ("b", "vb"), ("c", "vc"), ("b", "again")] {
        fixture.run(vec![put(key, value)]);
    }
    fixture.committed = fixture.revision;
    fixture
}

impl Fixture {
    fn evaluate(&mut self, transaction: &Transaction) -> Evaluation {
        let next = self.revision + 1;
        let mut taken = 0;
        let take = || {
            taken += 1;
            next
        };
        let (committed, compacted) = (self.committed, self.mvcc.compacted_revision());
        let transaction = with_past(transaction, committed, compacted, |request| {
            range_of_mvcc(&self.mvcc, &request.range, request.revision, nothing_evicted)
        });
        let evaluation = evaluate(&self.mvcc, committed, take, &transaction);
        assert_eq!(taken > 0, !evaluation.changes.is_empty());
        self.revision += taken;
        for change in &evaluation.changes {
            self.mvcc.install(change.record.clone());
        }
        evaluation
    }

    fn run(&mut self, success: Vec<Operation>) -> TransactionResponse {
        let transaction = Transaction { success, ..Transaction::default() };
        self.evaluate(&transaction).result.expect("the operations are fine")
    }

    fn refuse(&mut self, success: Vec<Operation>) -> StoreError {
        let transaction = Transaction { success, ..Transaction::default() };
        let (revision, usage) = (self.revision, self.mvcc.usage());
        let evaluation = self.evaluate(&transaction);
        assert_eq!((self.revision, self.mvcc.usage()), (revision, usage), "nothing may change");
        evaluation.result.expect_err("the operations are refused")
    }
}

fn single(key: &str) -> KeyRange {
    KeyRange::Single(Bytes::copy_from_slice(key.as_bytes()))
}

fn interval(start: &'static str, end: &'static str) -> KeyRange {
    KeyRange::Interval { start: start.into(), end: end.into() }
}

fn a_put(key: &str, value: &str) -> Put {
    Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease: 0,
        previous: false,
        ignore_value: false,
        ignore_lease: false,
    }
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put(a_put(key, value))
}

fn put_with_lease(key: &str, lease: LeaseId) -> Operation {
    Operation::Put(Put { lease, ..a_put(key, "v") })
}

fn delete(range: KeyRange) -> Operation {
    Operation::DeleteRange(DeleteRange { range, previous: true })
}

fn range(range: KeyRange) -> Operation {
    Operation::Range(RangeRequest::new(range))
}

fn range_at(key: &str, revision: Revision) -> Operation {
    Operation::Range(RangeRequest { revision, ..RangeRequest::new(single(key)) })
}

fn compare(range: KeyRange, comparison: Comparison, target: CompareTarget) -> Compare {
    Compare { range, comparison, target }
}

fn value_at(mvcc: &Mvcc, key: &[u8], revision: Revision) -> Vec<u8> {
    match mvcc.get_at(key, revision) {
        Seen::Live(record) => record.value().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn values(records: &[Record]) -> Vec<(&str, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).expect("the tests write text");
    records.iter().map(|record| (text(record.key()), text(record.value()))).collect()
}

fn range_of(response: &OperationResponse) -> &RangeResponse {
    match response {
        OperationResponse::Range(range) => range,
        other => panic!("not a range: {other:?}"),
    }
}

#[test]
fn compares() {
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    use Comparison::{Equal, Greater, Less, NotEqual};
    let everything = KeyRange::From(Bytes::new());
    for (range, comparison, target, expected) in [
        (single("a"), Equal, Version(1), true),
        (single("b"), Equal, Version(2), true),
        (single("b"), Greater, Version(1), true),
        (single("b"), Less, Version(2), false),
        (single("b"), Less, Version(3), true),
        (single("b"), NotEqual, Version(2), false),
        (single("b"), Equal, Create(3), true),
        (single("b"), Equal, Mod(5), true),
        (single("a"), Equal, Lease(0), true),
        (single("a"), Greater, Lease(0), false),
        (single("a"), Equal, Value("va".into()), true),
        (single("a"), Greater, Value("v".into()), true),
        (single("a"), Less, Value("v".into()), false),
        // A key that does not exist is 0 everywhere, and its value compares with nothing.
        (single("x"), Equal, Version(0), true),
        (single("x"), Equal, Create(0), true),
        (single("x"), Equal, Mod(0), true),
        (single("x"), Equal, Lease(0), true),
        (single("x"), Less, Mod(1), true),
        (single("x"), Equal, Value("".into()), false),
        (single("x"), NotEqual, Value("v".into()), false),
        // A range: every key must hold; one without keys is a key that does not exist.
        (everything.clone(), Greater, Version(0), true),
        (everything, Equal, Version(1), false),
        (interval("x", "z"), Equal, Version(0), true),
        (interval("x", "z"), Equal, Version(5), false),
        (interval("x", "z"), Equal, Value("".into()), false),
        (interval("c", "a"), Equal, Version(0), true),
    ] {
        let compares = vec![compare(range, comparison, target)];
        let transaction = Transaction { compares, ..Transaction::default() };
        let result = fixture().evaluate(&transaction).result.expect("compares do not fail");
        assert_eq!(result.succeeded, expected, "{transaction:?}");
    }
}

#[test]
fn a_transaction_takes_one_revision() {
    let mut store = fixture();
    let response = store.run(vec![put("m1", "x"), put("m2", "x"), delete(single("a"))]);
    assert_eq!((response.revision, store.revision), (6, 6));
    for key in ["m1", "m2"] {
        let record = store.mvcc.newest(key.as_bytes()).expect("it was put");
        assert_eq!((record.create_revision(), record.mod_revision(), record.version()), (6, 6, 1));
    }
}

#[test]
fn no_change_takes_no_revision() {
    let empty = Transaction::default();
    for operations in [
        vec![],
        vec![delete(single("x"))],
        vec![delete(interval("x", "z"))],
        vec![delete(interval("c", "a"))],
        vec![range(single("a"))],
        vec![Operation::Transaction(empty)],
    ] {
        let mut store = fixture();
        let response = store.run(operations);
        assert_eq!((response.revision, store.revision), (5, 5));
    }
}

#[test]
fn overwriting_counts_versions_and_deleting_ends_them() {
    let mut store = fixture();
    let facts = |store: &Fixture| {
        let record = store.mvcc.newest(b"a").expect("it exists");
        (record.create_revision(), record.mod_revision(), record.version())
    };
    store.run(vec![put("a", "1")]);
    store.run(vec![put("a", "2")]);
    assert_eq!(facts(&store), (2, 7, 3));
    store.run(vec![delete(single("a"))]);
    store.run(vec![put("a", "3")]);
    assert_eq!(facts(&store), (9, 9, 1));
}

#[test]
fn a_put_after_a_delete_in_the_same_transaction_starts_at_version_1() {
    let mut store = fixture();
    let response = store.run(vec![
        delete(single("b")),
        Operation::Put(Put { previous: true, ..a_put("b", "new") }),
        range(single("b")),
    ]);
    assert_eq!(response.responses[1], OperationResponse::Put { previous: None });
    let record = &range_of(&response.responses[2]).records[0];
    assert_eq!((record.create_revision(), record.version()), (6, 1));
    assert_eq!(value_at(&store.mvcc, b"b", 5), b"again");
    assert_eq!(value_at(&store.mvcc, b"b", 6), b"new");
}

#[test]
fn operations_see_the_ones_before() {
    let mut store = fixture();
    let response = store.run(vec![
        range(single("a")),
        put("bb", "x"),
        range(KeyRange::From(Bytes::new())),
        delete(interval("a", "bb")),
        range(KeyRange::From(Bytes::new())),
        delete(interval("a", "bb")),
    ]);
    // What was read before the first change is answered at the revision before.
    let first = range_of(&response.responses[0]);
    assert_eq!((first.revision, values(&first.records)), (5, vec![("a", "va")]));
    let second = range_of(&response.responses[2]);
    assert_eq!((second.revision, second.count), (6, 4));
    assert_eq!(values(&second.records), [("a", "va"), ("b", "again"), ("bb", "x"), ("c", "vc")]);
    let third = range_of(&response.responses[4]);
    assert_eq!(values(&third.records), [("bb", "x"), ("c", "vc")]);
    let OperationResponse::DeleteRange { deleted, previous } = &response.responses[3] else {
        panic!("{response:?}")
    };
    assert_eq!((*deleted, values(previous)), (2, vec![("a", "va"), ("b", "again")]));
    let nothing = OperationResponse::DeleteRange { deleted: 0, previous: vec![] };
    assert_eq!(response.responses[5], nothing);
}

#[test]
fn nested_compares_are_evaluated_before_any_operation() {
    let mut store = fixture();
    let nested = Transaction {
        compares: vec![compare(single("n"), Comparison::Equal, CompareTarget::Version(0))],
        success: vec![put("hit", "x")],
        failure: vec![put("miss", "x")],
    };
    let response = store.run(vec![put("n", "x"), Operation::Transaction(nested)]);
    let OperationResponse::Transaction(nested) = &response.responses[1] else {
        panic!("{response:?}")
    };
    assert!(nested.succeeded);
    assert!(store.mvcc.newest(b"hit").is_some() && store.mvcc.newest(b"miss").is_none());
    assert_eq!((response.revision, nested.revision), (6, 6));
}

#[test]
fn a_branch_not_taken_is_not_checked() {
    let mut store = fixture();
    let transaction = Transaction {
        compares: vec![compare(single("a"), Comparison::Equal, CompareTarget::Version(9))],
        success: vec![put_with_lease("x", 1), range_at("a", 999)],
        failure: vec![],
    };
    let response = store.evaluate(&transaction).result.expect("the failure branch is empty");
    assert_eq!(response, TransactionResponse { succeeded: false, responses: vec![], revision: 5 });
}

#[test]
fn what_is_refused_changes_nothing() {
    let ignore_value = |key| Operation::Put(Put { ignore_value: true, ..a_put(key, "") });
    let ignore_lease = |key| Operation::Put(Put { ignore_lease: true, ..a_put(key, "x") });
    let nested = Transaction::of(put_with_lease("x", 3));
    let compacted = StoreError::Compacted { requested: 2, compacted: 3 };
    let future = StoreError::FutureRevision { requested: 6, current: 5 };
    for (operation, expected) in [
        (put_with_lease("x", 1), StoreError::LeaseNotFound(1)),
        (ignore_value("x"), StoreError::KeyNotFound),
        (ignore_lease("x"), StoreError::KeyNotFound),
        (range_at("a", 2), compacted),
        (range_at("a", 6), future),
        (Operation::Transaction(nested), StoreError::LeaseNotFound(3)),
    ] {
        let mut store = fixture();
        store.mvcc.compact(3);
        let error = store.refuse(vec![put("n", "x"), delete(single("a")), operation]);
        assert_eq!(error, expected);
    }
}

#[test]
fn ignore_value_and_ignore_lease_keep_what_is_there() {
    let mut store = fixture();
    store.run(vec![put_with_lease("k", 8)]);
    store.run(vec![Operation::Put(Put { ignore_lease: true, ..a_put("k", "w") })]);
    let record = store.mvcc.newest(b"k").expect("it was put");
    assert_eq!((record.value(), record.lease(), record.version()), (&b"w"[..], 8, 2));
    store.run(vec![Operation::Put(Put { ignore_value: true, lease: 6, ..a_put("k", "") })]);
    let record = store.mvcc.newest(b"k").expect("it was put");
    assert_eq!((record.value(), record.lease(), record.version()), (&b"w"[..], 6, 3));
    // A put that does not say so detaches the key from its lease.
    store.run(vec![put("k", "z")]);
    assert_eq!(store.mvcc.newest(b"k").map(Record::lease), Some(0));
    // Whether the key is there is a matter of the operations before, too.
    let keep = Operation::Put(Put { ignore_value: true, ..a_put("k", "") });
    assert_eq!(store.refuse(vec![delete(single("k")), keep.clone()]), StoreError::KeyNotFound);
    store.run(vec![delete(single("k")), put("k", "again"), keep]);
    assert_eq!(store.mvcc.newest(b"k").map(Record::value), Some(&b"again"[..]));
}

#[test]
fn previous_is_what_the_operation_found() {
    let mut store = fixture();
    let ask = |key| Operation::Put(Put { previous: true, ..a_put(key, "z") });
    for (operation, expected) in
        [(ask("b"), Some("again")), (ask("x"), None), (put("a", "z"), None)]
    {
        let response = store.run(vec![operation]);
        let OperationResponse::Put { previous } = &response.responses[0] else {
            panic!("{response:?}")
        };
        let value = previous.as_ref().map(|record| record.value());
        assert_eq!(value, expected.map(str::as_bytes));
    }
}

#[test]
fn ranges_filter_then_sort_then_limit() {
    use SortDirection::{Ascend, AscendWithinLimit, Descend};
    use SortTarget::{Create, Key, Mod, Value, Version};
    let all = || RangeRequest::new(KeyRange::From(Bytes::new()));
    let sorted = |target, direction| RangeRequest { sort: Some((target, direction)), ..all() };
    for (request, keys, more) in [
        (all(), "abc", false),
        (RangeRequest { limit: 2, ..all() }, "ab", true),
        (RangeRequest { limit: 3, ..all() }, "abc", false),
        (RangeRequest { revision: 4, ..all() }, "abc", false),
        (RangeRequest { revision: 2, ..all() }, "a", false),
        (RangeRequest { revision: -5, ..all() }, "abc", false),
        (RangeRequest { count_only: true, limit: 1, ..all() }, "", false),
        (RangeRequest { min_mod_revision: 4, limit: 1, ..all() }, "b", true),
        (RangeRequest { max_mod_revision: 4, ..all() }, "ac", false),
        (RangeRequest { min_create_revision: 3, ..all() }, "bc", false),
        (RangeRequest { max_create_revision: 3, ..all() }, "ab", false),
        (sorted(Key, Descend), "cba", false),
        (RangeRequest { limit: 1, ..sorted(Key, Descend) }, "c", true),
        (sorted(Mod, Ascend), "acb", false),
        (sorted(Mod, Descend), "bca", false),
        (sorted(Version, Ascend), "acb", false),
        (sorted(Create, Descend), "cba", false),
        (sorted(Value, Ascend), "bac", false),
        (sorted(Value, AscendWithinLimit), "bac", false),
        (RangeRequest { limit: 1, ..sorted(Create, Descend) }, "c", true),
        (RangeRequest { limit: 1, ..sorted(Mod, AscendWithinLimit) }, "a", true),
        // Of the first two by key, the one that comes first by value.
        (RangeRequest { limit: 1, ..sorted(Value, AscendWithinLimit) }, "b", true),
        (RangeRequest { limit: 1, max_mod_revision: 4, ..sorted(Key, Descend) }, "c", true),
    ] {
        let mut store = fixture();
        let response = store.run(vec![Operation::Range(request.clone())]);
        let answer = range_of(&response.responses[0]);
        let found: String =
            answer.records.iter().map(|record| char::from(record.key()[0])).collect();
        assert_eq!((&found[..], answer.more), (keys, more), "{request:?}");
        let count = if request.revision == 2 { 1 } else { 3 };
        assert_eq!((answer.count, answer.revision), (count, 5), "{request:?}");
    }
}

#[test]
fn an_answer_waits_for_what_it_has_seen() {
    // d is put at 6, a deleted at 7, b put at 8; none of it is committed.
    let prepare = || {
        let mut store = fixture();
        store.run(vec![put("d", "x")]);
        store.run(vec![delete(single("a"))]);
        store.run(vec![put("b", "x")]);
        store
    };
    let compare_version = |key| Transaction {
        compares: vec![compare(single(key), Comparison::Equal, CompareTarget::Version(1))],
        ..Transaction::default()
    };
    let of = Transaction::of;
    let keep = Operation::Put(Put { ignore_value: true, ..a_put("a", "") });
    for (transaction, visible_at, revision) in [
        (of(range(single("c"))), 4, Some(5)),
        (of(range(single("d"))), 6, Some(6)),
        (of(range(single("x"))), 0, Some(5)),
        (compare_version("d"), 6, Some(6)),
        // A deletion that is not committed is seen, too.
        (of(range(single("a"))), 7, Some(7)),
        (of(range(interval("a", "b"))), 7, Some(7)),
        (of(delete(interval("a", "b"))), 7, Some(7)),
        (compare_version("a"), 7, Some(7)),
        (of(keep), 7, None),
        (of(range_at("d", 5)), 0, Some(5)),
        (of(put("c", "y")), 9, Some(9)),
    ] {
        let evaluation = prepare().evaluate(&transaction);
        assert_eq!(evaluation.visible_at, visible_at, "{transaction:?}");
        let answered = evaluation.result.ok().map(|response| response.revision);
        assert_eq!(answered, revision, "{transaction:?}");
    }
}

#[test]
fn a_change_carries_the_version_before_the_transaction() {
    let mut store = fixture();
    let success = vec![put("b", "1"), put("b", "2"), delete(single("b")), put("n", "x")];
    let evaluation = store.evaluate(&Transaction { success, ..Transaction::default() });
    let before: Vec<_> = evaluation
        .changes
        .iter()
        .map(|change| change.previous.as_ref().map(|record| record.value()))
        .collect();
    assert_eq!(before, [Some(&b"again"[..]), Some(b"again"), Some(b"again"), None]);
}

#[test]
fn compaction_keeps_what_its_revision_sees() {
    let mut store = fixture();
    store.run(vec![delete(single("a"))]);
    store.run(vec![put("b", "third")]);
    store.committed = store.revision;
    store.mvcc.compact(5);
    assert!(store.mvcc.compact_slice(100));
    assert_eq!(value_at(&store.mvcc, b"b", 5), b"again");
    assert_eq!(value_at(&store.mvcc, b"a", 5), b"va");
    // b's first version went; a, its tombstone, b twice and c are left.
    assert_eq!(store.mvcc.usage().versions, 5);
    store.mvcc.compact(6);
    assert!(store.mvcc.compact_slice(100));
    assert_eq!(store.mvcc.newest_or_tombstone(b"a"), None);
    store.mvcc.compact(7);
    assert!(!store.mvcc.compact_slice(0) && store.mvcc.compact_slice(1));
    assert_eq!(store.mvcc.usage().versions, 2);
    let history = |revision| store.mvcc.check_revision(revision, store.committed);
    assert_eq!(history(7), Ok(()));
    assert_eq!(history(6), Err(StoreError::Compacted { requested: 6, compacted: 7 }));
    assert_eq!(history(8), Err(StoreError::FutureRevision { requested: 8, current: 7 }));
    let compaction = |revision| store.mvcc.check_compaction(revision, 8);
    assert_eq!(compaction(7), Err(StoreError::Compacted { requested: 7, compacted: 7 }));
    assert_eq!(compaction(-1), Err(StoreError::Compacted { requested: -1, compacted: 7 }));
    assert_eq!(compaction(8), Ok(()));
    assert_eq!(compaction(9), Err(StoreError::FutureRevision { requested: 9, current: 8 }));
}

#[test]
fn what_is_evicted_is_looked_up() {
    let mut store = fixture();
    store.run(vec![delete(single("a"))]);
    store.run(vec![put("a", "new")]);
    store.committed = store.revision;
    store.mvcc.settle(4);
    store.mvcc.evict(7);
    assert_eq!(store.mvcc.floor(), 4, "what is not settled may be rolled back");
    store.mvcc.settle(7);
    store.mvcc.evict(5);
    assert!(store.mvcc.evict_slice(1));
    let evicted = |upto, lived| Seen::Evicted { upto, lived };
    // b was overwritten at 5, below or at the floor; a was deleted above.
    for (key, revision, expected) in
        [("b", 4, evicted(3, true)), ("b", 2, evicted(2, false)), ("x", 2, Seen::Nothing)]
    {
        assert_eq!(store.mvcc.get_at(key.as_bytes(), revision), expected, "{key} at {revision}");
    }
    assert!(matches!(store.mvcc.get_at(b"a", 5), Seen::Live(record) if record.value() == b"va"));
    store.mvcc.evict(7);
    assert!(!store.mvcc.evict_slice(1) && store.mvcc.evict_slice(9));
    for (key, revision, expected) in
        [("a", 6, evicted(6, false)), ("a", 5, evicted(5, false)), ("c", 3, Seen::Nothing)]
    {
        assert_eq!(store.mvcc.get_at(key.as_bytes(), revision), expected, "{key} at {revision}");
    }
    assert_eq!(store.mvcc.usage().versions, 3);
    store.run(vec![put("c", "2")]);
    store.run(vec![put("c", "3")]);
    store.mvcc.settle(9);
    store.mvcc.evict(9);
    assert!(store.mvcc.evict_slice(9));
    // It was created at 4, so it lived at 8 whatever it was then.
    assert_eq!(store.mvcc.get_at(b"c", 8), evicted(8, true));
    assert_eq!(store.mvcc.count_chunk(&single("c"), 8, None, 1).count, 1);
}

#[test]
fn a_key_that_comes_and_goes_leaves_nothing_but_its_tombstone() {
    let mut store = fixture();
    for round in 0..1000 {
        store.run(vec![put("k", "v")]);
        store.run(vec![delete(single("k"))]);
        store.mvcc.settle(store.revision);
        if round % 2 == 0 {
            store.mvcc.evict(store.revision - 1);
            store.mvcc.evict_slice(100);
        }
    }
    store.mvcc.evict(store.revision);
    assert!(store.mvcc.evict_slice(100));
    assert_eq!(store.mvcc.usage().versions, 4);
    assert_eq!(store.mvcc.tombstones.len(), 1);
    store.mvcc.compact(store.revision);
    assert!(store.mvcc.compact_slice(1) && store.mvcc.newest_or_tombstone(b"k").is_none());
}
