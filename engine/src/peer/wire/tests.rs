use bytes::Bytes;
use mainstay_raft::{
    Body, Entry, EntryKind, Membership, Message, RepairAnswer, Snapshot, SnapshotPart,
};

use super::*;
use crate::cluster::{ClusterStatus, MemberChange, MemberInfo, MemberUpdate};
use crate::error::StoreError;
use crate::message::{Answer, Request};
use crate::peer::{JoinAnswer, NEWEST_VERSION};
use crate::record::Record;
use crate::request::{
    Compare, CompareTarget, Comparison, DeleteRange, HashKv, KeyRange, LeaseStatus, Operation,
    OperationResponse, Past, PrefixUsage, Put, RangeRequest, RangeResponse, SortDirection,
    SortTarget, Transaction, TransactionResponse,
};

fn entry(index: u64, kind: EntryKind, data: &'static [u8]) -> Entry {
    Entry { index, term: 3, kind, data: Bytes::from_static(data) }
}

fn snapshot() -> Snapshot {
    let mut membership = Membership::of_voters(&[1, 2, u64::MAX]);
    membership.learners = vec![7];
    membership.incarnations = vec![(1, 9)];
    Snapshot { index: 5, term: 6, fingerprint: u64::MAX, membership }
}

fn bodies() -> Vec<Body> {
    let append = |entries| Body::Append { prev_index: 1, prev_term: 2, entries, commit: 3 };
    let repair = |answer| Body::RepairResponse { index: 1, entry_term: 2, answer };
    vec![
        Body::VoteRequest { pre: true, last_index: 1, last_term: 2, transfer: false },
        Body::VoteRequest { pre: false, last_index: u64::MAX, last_term: 2, transfer: true },
        Body::VoteResponse { pre: true, granted: false },
        append(Vec::new()),
        append(vec![
            entry(2, EntryKind::Normal, b""),
            entry(3, EntryKind::Normal, b"three"),
            entry(4, EntryKind::Membership, b"\x01\x02"),
            entry(5, EntryKind::Normal, b"and the last one"),
        ]),
        Body::AppendResponse { verified: 1, durable: 2 },
        Body::AppendRejected { prev_index: 1, hint_index: 2, hint_term: 3 },
        Body::Heartbeat { round: 1, tick: 2, commit: 3 },
        Body::HeartbeatResponse { round: 1, tick: 2, verified: 3 },
        Body::TimeoutNow,
        Body::StaleTerm,
        Body::ReadRequest { context: 1 },
        Body::ReadResponse { context: 1, index: 2 },
        Body::SnapshotPart(SnapshotPart {
            snapshot: snapshot(),
            offset: 1 << 40,
            data: Bytes::from_static(b"bytes of it"),
            done: true,
        }),
        Body::SnapshotResponse { snapshot: snapshot(), received: 1 << 40 },
        Body::RepairRequest { index: 1, entry_term: 2 },
        repair(RepairAnswer::Intact(entry(9, EntryKind::Normal, b"intact"))),
        repair(RepairAnswer::Absent),
        repair(RepairAnswer::Unknown),
        repair(RepairAnswer::Compacted),
    ]
}

fn ranges() -> Vec<RangeRequest> {
    let keys = [
        KeyRange::Single("a".into()),
        KeyRange::Interval { start: "a".into(), end: "b".into() },
        KeyRange::From(Bytes::new()),
    ];
    let mut ranges: Vec<_> = keys.into_iter().map(RangeRequest::new).collect();
    let targets = [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ];
    let directions =
        [SortDirection::Ascend, SortDirection::Descend, SortDirection::AscendWithinLimit];
    for target in targets {
        for direction in directions {
            ranges.push(RangeRequest {
                revision: 7,
                limit: 8,
                sort: Some((target, direction)),
                keys_only: true,
                count_only: false,
                min_mod_revision: 1,
                max_mod_revision: 2,
                min_create_revision: 3,
                max_create_revision: 4,
                serializable: true,
                ..RangeRequest::new(KeyRange::Single("k".into()))
            });
        }
    }
    ranges
}

fn records() -> Vec<Record> {
    vec![
        Record::new(b"key", b"value", 1, 2, 3, 4),
        Record::new(b"", b"", 1, 1, 1, 0),
        Record::tombstone(b"gone", 9),
    ]
}

fn found() -> RangeResponse {
    RangeResponse { revision: 9, records: records(), more: true, count: 17 }
}

fn nested(depth: usize) -> Transaction {
    let mut transaction = Transaction::default();
    for level in 0..depth {
        let key = Bytes::from(format!("key {level}"));
        let put = |value: &'static str| {
            Operation::Put(Put {
                key: key.clone(),
                value: value.into(),
                lease: level as i64,
                previous: level % 2 == 0,
                ignore_value: false,
                ignore_lease: level % 3 == 0,
            })
        };
        let delete = DeleteRange { range: KeyRange::Single(key.clone()), previous: true };
        transaction = Transaction {
            compares: compares(&key),
            success: vec![put("before"), Operation::Transaction(transaction), put("after")],
            failure: vec![Operation::DeleteRange(delete)],
        };
    }
    transaction
}

fn compares(key: &Bytes) -> Vec<Compare> {
    let targets = [
        (Comparison::Equal, CompareTarget::Version(1)),
        (Comparison::Greater, CompareTarget::Create(2)),
        (Comparison::Less, CompareTarget::Mod(3)),
        (Comparison::NotEqual, CompareTarget::Value("value".into())),
        (Comparison::Equal, CompareTarget::Lease(-4)),
    ];
    let range = || KeyRange::Single(key.clone());
    let compare = |(comparison, target)| Compare { range: range(), comparison, target };
    targets.into_iter().map(compare).collect()
}

fn requests() -> Vec<Request> {
    let urls = || vec!["http://a:1".to_owned(), String::new()];
    let past = |outcome| Operation::Past(Past { revision: 4, outcome });
    let missing = StoreError::HistoryUnreadable("segment 3".to_owned());
    let mut requests = vec![
        Request::Transact(Transaction::default()),
        Request::Transact(nested(3)),
        Request::Transact(nested(limits::NESTED_TRANSACTIONS)),
        Request::Transact(Transaction {
            success: vec![past(Ok(found())), past(Err(missing))],
            failure: ranges().into_iter().map(Operation::Range).collect(),
            ..Transaction::default()
        }),
        Request::HashKv { revision: 1 },
        Request::Usage { depth: 1, top: 2 },
        Request::Compact { revision: 1, physical: true },
        Request::LeaseGrant { id: i64::MIN, ttl: 2, random: 3 },
        Request::LeaseRevoke { id: 1 },
        Request::LeaseKeepAlive { id: 1 },
        Request::LeaseTimeToLive { id: 1, keys: true },
        Request::Leases,
        Request::Document { name: "a".into() },
        Request::Confirm,
        Request::Members { linearizable: true },
        Request::ChangeMember(MemberChange::Add { id: 1, peer_urls: urls(), is_learner: true }),
        Request::ChangeMember(MemberChange::Remove { id: 1 }),
        Request::ChangeMember(MemberChange::Promote { id: 1 }),
        Request::UpdateMember(MemberUpdate { id: 1, ..MemberUpdate::default() }),
        Request::UpdateMember(MemberUpdate {
            id: 1,
            name: Some("name".to_owned()),
            peer_urls: Some(urls()),
            client_urls: Some(Vec::new()),
        }),
        Request::MoveLeader { to: 1 },
        Request::ClusterStatus,
    ];
    for expected in [None, Some(None), Some(Some("before".into()))] {
        let (name, content) = ("name".into(), "content".into());
        requests.push(Request::PutDocument { name, content, expected });
    }
    requests.extend(ranges().into_iter().map(Request::Range));
    requests
}

fn errors() -> Vec<StoreError> {
    vec![
        StoreError::Compacted { requested: 1, compacted: 2 },
        StoreError::FutureRevision { requested: 1, current: 2 },
        StoreError::LeaseNotFound(i64::MAX),
        StoreError::LeaseExists(1),
        StoreError::TooManyLeases,
        StoreError::LeaseTtlTooLarge(1),
        StoreError::KeyNotFound,
        StoreError::TooLarge,
        StoreError::NoSpace,
        StoreError::Corrupt,
        StoreError::DocumentChanged,
        StoreError::TooManyRequests,
        StoreError::HistoryUnreadable("words".to_owned()),
        StoreError::Stopped,
        StoreError::NoLeader,
        StoreError::NotLeader,
        StoreError::LeaderChanged,
        StoreError::TimedOut,
        StoreError::TransferTimedOut,
        StoreError::MemberNotFound(u64::MAX),
        StoreError::MemberExists(1),
        StoreError::PeerUrlExists,
        StoreError::MemberNotLearner(1),
        StoreError::LearnerNotReady(1),
        StoreError::TooManyLearners,
        StoreError::NotEnoughStartedMembers,
        StoreError::UnhealthyCluster,
        StoreError::BadTransferee(1),
        StoreError::RefusedByLearner,
        StoreError::MemberRemoved,
    ]
}

fn members() -> Vec<MemberInfo> {
    let member = MemberInfo {
        id: 1,
        name: "one".to_owned(),
        peer_urls: vec!["http://a:1".to_owned()],
        client_urls: vec!["http://a:2".to_owned(), "http://a:3".to_owned()],
        is_learner: false,
    };
    vec![member, MemberInfo { id: 2, is_learner: true, ..MemberInfo::default() }]
}

fn responses(depth: usize) -> TransactionResponse {
    let mut response = TransactionResponse::default();
    for level in 0..depth {
        response = TransactionResponse {
            succeeded: level % 2 == 0,
            responses: vec![
                OperationResponse::Range(found()),
                OperationResponse::Transaction(response),
                OperationResponse::Put { previous: None },
                OperationResponse::Put { previous: Some(Record::new(b"k", b"v", 1, 1, 1, 0)) },
                OperationResponse::DeleteRange { deleted: 3, previous: records() },
            ],
            revision: level as i64,
        };
    }
    response
}

fn outcomes() -> Vec<crate::message::Outcome> {
    let mut outcomes: Vec<_> = errors().into_iter().map(Err).collect();
    let usage = PrefixUsage { prefix: b"/a/".to_vec(), keys: 1, bytes: 2 };
    let hash = HashKv { hash: u64::MAX, revision: 1, compacted_revision: 2, current_revision: 3 };
    let keys = vec!["a".into(), "b".into()];
    let status = ClusterStatus {
        member_id: 1,
        leader: 2,
        term: 3,
        last_index: 4,
        committed_index: 5,
        applied_index: 6,
        is_learner: true,
    };
    let answers = [
        Answer::Range(found()),
        Answer::Transact(responses(0)),
        Answer::Transact(responses(limits::NESTED_TRANSACTIONS)),
        Answer::HashKv(hash),
        Answer::Usage(vec![usage]),
        Answer::Revision(1),
        Answer::LeaseGranted { id: 1, ttl: 2 },
        Answer::TimeToLive(-1),
        Answer::LeaseStatus(LeaseStatus { id: 1, granted_ttl: 2, remaining_ttl: 3, keys }),
        Answer::Leases(vec![1, -2, 3]),
        Answer::Document(None),
        Answer::Document(Some("content".into())),
        Answer::Done,
        Answer::Members(members()),
        Answer::ClusterStatus(Box::new(status)),
    ];
    outcomes.extend(answers.into_iter().map(Ok));
    outcomes
}

fn messages() -> Vec<PeerMessage> {
    let raft =
        |body| PeerMessage::Raft(Message { from: 1, to: u64::MAX, term: 3, incarnation: 4, body });
    let request = |request| PeerMessage::Request { number: 77, request };
    let answer = |outcome| PeerMessage::Answer { number: 78, outcome, index: 79 };
    let raft = bodies().into_iter().map(raft);
    let requests = requests().into_iter().map(request);
    raft.chain(requests).chain(outcomes().into_iter().map(answer)).collect()
}

fn received(message: &PeerMessage) -> Received {
    encode(message, NEWEST_VERSION).expect("not too long").into_received()
}

#[test]
fn every_message_comes_back() {
    for message in messages() {
        let received = received(&message);
        assert!(received.payload.as_ptr().addr().is_multiple_of(ALIGNMENT));
        let decoded = decode(&received).expect("its own encoding");
        assert_eq!(format!("{decoded:?}"), format!("{message:?}"));
    }
}

#[test]
fn contents_are_not_copied_once_more() {
    let data = Bytes::from(vec![7; 3 * limits::FRAME_BYTES]);
    let entries = (0..3)
        .map(|index| Entry { index, term: 1, kind: EntryKind::Normal, data: data.clone() })
        .collect();
    let body = Body::Append { prev_index: 1, prev_term: 1, entries, commit: 0 };
    let message = PeerMessage::Raft(Message { from: 1, to: 2, term: 1, incarnation: 0, body });
    let encoded = encode(&message, NEWEST_VERSION).expect("not too long");
    assert_eq!(encoded.contents.get(1).as_ptr(), data.as_ptr(), "sent from where it is");
    let received = encoded.into_received();
    let PeerMessage::Raft(Message { body: Body::Append { entries, .. }, .. }) =
        decode(&received).expect("its own encoding")
    else {
        panic!("another message")
    };
    let memory = received.payload.as_ptr_range();
    for entry in entries {
        assert_eq!(entry.data, data);
        assert!(memory.contains(&entry.data.as_ptr()), "a slice of what was received");
    }
}

#[test]
fn what_is_too_deep_is_refused() {
    for (depth, good) in
        [(limits::NESTED_TRANSACTIONS, true), (limits::NESTED_TRANSACTIONS + 1, false)]
    {
        let request = Request::Transact(nested(depth));
        let message = PeerMessage::Request { number: 1, request };
        assert_eq!(decode(&received(&message)).is_ok(), good, "{depth}");
        let outcome = Ok(Answer::Transact(responses(depth)));
        let message = PeerMessage::Answer { number: 1, outcome, index: 1 };
        assert_eq!(decode(&received(&message)).is_ok(), good, "{depth}");
    }
}

#[test]
fn answers_to_those_who_join_come_back() {
    for members in [Vec::new(), members()] {
        let answer = JoinAnswer { cluster_id: 1, member_id: 2, members };
        let received = join_answer(&answer, NEWEST_VERSION).expect("short").into_received();
        assert_eq!(decode_join_answer(&received), Ok(answer));
    }
    for urls in [Vec::new(), vec!["http://a:1".to_owned(), "https://b:2".to_owned()]] {
        let received = join_question(&urls, NEWEST_VERSION).expect("short").into_received();
        assert_eq!(decode_join_question(&received), Ok(urls));
    }
    let much = vec!["x".repeat(limits::JOIN_BYTES)];
    assert!(join_question(&much, NEWEST_VERSION).is_none());
}

/// Changes bytes of every message, cuts and lengthens it: nothing panics, and what can be read can be
/// written.
#[test]
fn nonsense_is_refused_or_means_something() {
    let mut random = 88_172_645_463_325_252_u64;
    let mut below = |end: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as usize % end
    };
    let (mut refused, mut understood) = (0, 0);
    for message in messages() {
        let good = received(&message);
        if good.payload.len() > 20_000 {
            continue;
        }
        for _ in 0..60 {
            let mut bytes = good.payload.to_vec();
            for _ in 0..=below(3) {
                let place = below(bytes.len());
                match below(4) {
                    0 => bytes[place] ^= 1 << below(8),
                    1 => bytes[place] = below(256) as u8,
                    2 => bytes[place] = 0xff,
                    _ => bytes.resize(place + 1, 0),
                }
            }
            let changed = Received::new(good.kind, good.version, &bytes);
            match decode(&changed) {
                Ok(again) => {
                    let second = decode(&received(&again)).expect("its own encoding");
                    assert_eq!(format!("{again:?}"), format!("{second:?}"));
                    understood += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 500 && understood > 100, "{refused} refused, {understood} understood");
}
