//! What the paper and the dissertation demand, by section.

use bytes::Bytes;
use mainstay_raft::{
    Body, Change, ChangeError, Config, Entry, EntryKind, HardState, Membership, Message, Node,
    Options, PeerState, ProposeError, ReadError, Role, StepError, TransferError, Transition,
};

use crate::cluster::Cluster;

fn plain() -> Options {
    Options { pre_vote: false, check_quorum: false, ..Options::default() }
}

/// Three voters, of which 1 leads in term 1, with its first entry committed everywhere.
fn led_by_1(options: Options) -> Cluster {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4, 5], options);
    cluster.node(1).campaign();
    cluster.settle();
    assert_eq!(cluster.node(1).role(), Role::Leader);
    cluster
}

fn data(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { index, term, kind: EntryKind::Normal, data: data("x") }
}

fn message(from: u64, to: u64, term: u64, body: Body) -> Message {
    Message { from, to, term, incarnation: 0, body }
}

fn append(prev: (u64, u64), entries: Vec<Entry>, commit: u64) -> Body {
    let (prev_index, prev_term) = prev;
    Body::Append { prev_index, prev_term, entries, commit }
}

/// A follower among three whose durable log has these terms.
fn follower(terms: &[u64], commit: u64) -> Node {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (index, term) in (1..).zip(terms) {
        if runs.last().is_none_or(|run| run.1 != *term) {
            runs.push((index, *term));
        }
    }
    let last_term = terms.last().copied().unwrap_or(0);
    Node::new(Config {
        id: 1,
        voters: vec![1, 2, 3],
        hard_state: HardState { term: last_term, vote: 0, commit },
        last_index: terms.len() as u64,
        last_term,
        terms: runs,
        options: plain(),
        ..Config::default()
    })
}

/// What a node answers to a message once everything is written.
fn answers(node: &mut Node, message: Message) -> Vec<Message> {
    node.step(message.from, message).expect("sensible");
    let mut messages = Vec::new();
    for _ in 0..3 {
        let ready = node.ready();
        messages.extend(ready.messages);
        if ready.write != 0 {
            node.written(ready.write);
        }
    }
    messages
}

#[test]
fn s5_1_a_greater_term_is_followed_by_everybody() {
    for role in [Role::Follower, Role::Candidate, Role::Leader] {
        let mut cluster = led_by_1(plain());
        let id = if role == Role::Leader { 1 } else { 2 };
        if role == Role::Candidate {
            cluster.node(2).campaign();
        }
        assert_eq!(cluster.node(id).role(), role);
        let heartbeat = Body::Heartbeat { round: 1, tick: 1, commit: 0 };
        cluster.node(id).step(3, message(3, id, 9, heartbeat)).unwrap();
        let node = cluster.node(id);
        assert_eq!((node.role(), node.term(), node.leader()), (Role::Follower, 9, 3), "{role:?}");
    }
}

#[test]
fn s5_1_an_old_term_is_answered_with_the_new_one() {
    let mut node = follower(&[1, 4], 0);
    let old = message(2, 1, 3, append((1, 1), vec![entry(2, 3)], 0));
    let answer = &answers(&mut node, old)[0];
    assert_eq!((answer.term, &answer.body), (4, &Body::StaleTerm));
    assert_eq!(node.last_index(), 2);
}

#[test]
fn s5_2_a_vote_is_given_once_in_a_term_also_across_a_restart() {
    let ask = |from| {
        let body = Body::VoteRequest { pre: false, last_index: 9, last_term: 9, transfer: false };
        message(from, 1, 9, body)
    };
    let granted = Body::VoteResponse { pre: false, granted: true };
    let refused = Body::VoteResponse { pre: false, granted: false };
    let mut node = follower(&[1], 0);
    assert_eq!(answers(&mut node, ask(2))[0].body, granted);
    assert_eq!(answers(&mut node, ask(3))[0].body, refused);
    assert_eq!(answers(&mut node, ask(2))[0].body, granted, "its answer may have been lost");
    let mut again = Node::new(Config {
        id: 1,
        voters: vec![1, 2, 3],
        hard_state: HardState { term: 9, vote: 2, commit: 0 },
        options: plain(),
        ..Config::default()
    });
    assert_eq!(answers(&mut again, ask(3))[0].body, refused);
}

#[test]
fn s5_2_a_vote_is_not_told_before_it_is_durable() {
    let mut node = follower(&[1], 0);
    let body = Body::VoteRequest { pre: false, last_index: 9, last_term: 9, transfer: false };
    node.step(2, message(2, 1, 9, body)).unwrap();
    let ready = node.ready();
    assert_eq!(ready.hard_state, Some(HardState { term: 9, vote: 2, commit: 0 }));
    assert!(ready.messages.is_empty());
    node.written(ready.write);
    assert_eq!(node.ready().messages.len(), 1);
}

#[test]
fn s5_2_timeouts_differ_and_stay_within_their_bounds() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let options = plain();
        let ticks = u64::from(options.election_ticks);
        let mut node =
            Node::new(Config { id: 1, voters: vec![1, 2], seed, options, ..Config::default() });
        let waited = (1..).find(|_| {
            node.tick();
            node.role() != Role::Follower
        });
        let waited = waited.expect("sometime");
        assert!((ticks..2 * ticks).contains(&waited), "seed {seed}: {waited}");
        seen.insert(waited);
    }
    assert_eq!(seen.len(), 10, "every length is possible");
}

#[test]
fn s5_2_a_split_vote_ends_in_another_election() {
    let mut cluster = Cluster::new(&[1, 2], &[], plain());
    cluster.node(1).campaign();
    cluster.node(2).campaign();
    cluster.settle();
    assert_ne!(cluster.node(1).role(), Role::Leader);
    assert_ne!(cluster.node(2).role(), Role::Leader);
    for _ in 0..200 {
        cluster.tick(1, 1);
        cluster.tick(2, 1);
        cluster.settle();
    }
    let leaders = [1, 2].map(|id| cluster.node(id).role() == Role::Leader);
    assert_ne!(leaders[0], leaders[1]);
}

#[test]
fn s5_3_a_follower_takes_what_fits_and_replaces_what_differs() {
    // Log, what comes after which entry, log afterwards. `None`: refused, with this hint.
    for (log, prev, entries, expected) in [
        (&[1][..], (1, 1), &[(2, 2)][..], Ok(&[1, 2][..])),
        (&[1, 1, 1], (1, 1), &[(2, 2)], Ok(&[1, 2])),
        (&[1, 1, 1], (1, 1), &[(2, 1)], Ok(&[1, 1, 1])),
        (&[1, 1, 2, 2], (2, 1), &[(3, 3), (4, 3)], Ok(&[1, 1, 3, 3])),
        (&[1], (2, 2), &[(3, 2)], Err((1, 1))),
        (&[1, 2, 2, 2], (4, 3), &[(5, 3)], Err((4, 2))),
        (&[1, 4, 4, 4], (4, 3), &[(5, 5)], Err((1, 1))),
    ] {
        let mut node = follower(log, 0);
        let entries = entries.iter().map(|(index, term)| entry(*index, *term)).collect();
        let answer = answers(&mut node, message(2, 1, 9, append(prev, entries, 0)));
        let now: Vec<u64> =
            (1..=node.last_index()).map(|index| node.term_at(index).unwrap()).collect();
        match expected {
            Ok(expected) => assert_eq!(now, expected, "{log:?} {prev:?}"),
            Err((hint_index, hint_term)) => {
                let hint = Body::AppendRejected { prev_index: prev.0, hint_index, hint_term };
                assert_eq!(answer[0].body, hint, "{log:?} {prev:?}");
                assert_eq!(now, log);
            }
        }
    }
}

#[test]
fn s5_3_figure_7_every_log_becomes_the_leaders() {
    let leader: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    for other in [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6][..],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
        &[],
    ] {
        let mut cluster = Cluster::new(&[1, 2, 3], &[], plain());
        for (id, terms) in [(1, leader), (2, other), (3, leader)] {
            let disk = &mut cluster.member(id).disk;
            disk.log = (1..).zip(terms).map(|(index, term)| (index, entry(index, *term))).collect();
            disk.hard_state.term = 8;
            cluster.start(id);
        }
        cluster.node(1).campaign();
        cluster.settle();
        cluster.node(1).propose(data("new")).unwrap();
        cluster.settle();
        assert_eq!(cluster.node(1).role(), Role::Leader);
        let leaders = cluster.member(1).disk.log.clone();
        assert_eq!(cluster.member(2).disk.log, leaders, "{other:?}");
        assert_eq!(cluster.node(2).commit(), 12);
        // Whole terms are skipped: no more rejections than the logs have terms (end of 5.3).
        assert!(cluster.told.matches("rejected").count() <= 6, "{}", cluster.told);
    }
}

#[test]
fn s5_4_1_votes_go_to_logs_that_are_as_good() {
    for (log, last_index, last_term, expected) in [
        (&[1][..], 1, 1, true),
        (&[1], 2, 1, true),
        (&[1, 1], 1, 1, false),
        (&[1, 1], 1, 2, true),
        (&[1, 2], 9, 1, false),
        (&[1, 2], 2, 2, true),
    ] {
        for pre in [false, true] {
            let mut node = follower(log, 0);
            let body = Body::VoteRequest { pre, last_index, last_term, transfer: false };
            let answer = answers(&mut node, message(2, 1, 7, body));
            let body = Body::VoteResponse { pre, granted: expected };
            assert_eq!(answer[0].body, body, "{log:?} {last_index}@{last_term}");
        }
    }
}

#[test]
fn s5_4_2_entries_of_older_terms_commit_behind_one_of_the_leaders_own() {
    let mut cluster = led_by_1(plain());
    cluster.isolated.insert(1);
    cluster.node(1).propose(data("old")).unwrap();
    cluster.settle();
    // 1 leads again, in a later term; the old entry reaches 2, the new term's does not yet.
    cluster.isolated.clear();
    cluster.options.message_bytes = 1;
    cluster.options.inflight_messages = 1;
    cluster.crash(1);
    cluster.start(1);
    cluster.node(1).campaign();
    while cluster.node(1).peers().values().all(|peer| peer.matched < 2) {
        let ids = [1, 2, 3];
        ids.iter().for_each(|id| {
            cluster.ready(*id);
        });
        cluster.deliver_one();
    }
    assert_eq!(cluster.node(1).commit(), 0, "held by a majority, and not committed");
    cluster.settle();
    assert_eq!(cluster.node(1).commit(), 3);
}

#[test]
#[should_panic(expected = "a committed entry would be replaced")]
fn s5_4_3_a_committed_entry_is_never_replaced() {
    let mut node = follower(&[1, 1, 1], 3);
    let prev_is_committed = append((1, 1), vec![entry(2, 2)], 0);
    node.step(2, message(2, 1, 9, prev_is_committed)).unwrap();
}

#[test]
#[should_panic(expected = "Election Safety")]
fn s5_2_there_is_one_leader_in_a_term() {
    let mut cluster = led_by_1(plain());
    let heartbeat = Body::Heartbeat { round: 1, tick: 1, commit: 0 };
    cluster.node(1).step(2, message(2, 1, 1, heartbeat)).unwrap();
}

#[test]
fn s6_two_sets_of_voters_have_to_agree() {
    let mut cluster = led_by_1(plain());
    let changes = [Change::Remove(2), Change::Remove(3), Change::AddVoter(4), Change::AddVoter(5)];
    cluster.node(1).propose_change(&changes, Transition::JointUntilLeft).unwrap();
    cluster.settle();
    let joint = cluster.node(1).membership().clone();
    assert_eq!((joint.voters, joint.outgoing), (vec![1, 4, 5], vec![1, 2, 3]));
    // A majority of the new ones alone commits nothing, nor one of the old ones alone.
    for gone in [[2, 3], [4, 5]] {
        let commit = cluster.node(1).commit();
        cluster.isolated.extend(gone);
        cluster.node(1).propose(data("a")).unwrap();
        cluster.settle();
        assert_eq!(cluster.node(1).commit(), commit, "without {gone:?}");
        cluster.isolated.clear();
        for _ in 0..3 {
            cluster.tick(1, 1);
            cluster.settle();
        }
        assert_eq!(cluster.node(1).commit(), commit + 1);
    }
}

#[test]
fn s7_a_snapshot_takes_the_place_of_compacted_entries() {
    let mut cluster = led_by_1(plain());
    cluster.isolated.insert(3);
    for _ in 0..5 {
        cluster.node(1).propose(data("a")).unwrap();
        cluster.settle();
    }
    cluster.compact(1, 6);
    cluster.isolated.clear();
    for _ in 0..2 {
        cluster.tick(1, 1);
        cluster.settle();
    }
    assert_eq!(cluster.node(3).commit(), 6);
    assert_eq!(cluster.member(3).disk.base, (6, 1));
    assert_eq!(cluster.node(1).peers()[&3].state, PeerState::Replicate);
}

#[test]
fn dissertation_4_2_1_a_learner_that_lags_is_not_promoted() {
    let mut cluster = led_by_1(plain());
    cluster.isolated.insert(4);
    cluster.node(1).propose_change(&[Change::AddLearner(4)], Transition::Auto).unwrap();
    cluster.settle();
    let promote = [Change::Promote(4)];
    let refused = cluster.node(1).propose_change(&promote, Transition::Auto);
    assert_eq!(refused, Err(ChangeError::NotCaughtUp { id: 4, behind: 2 }));
    assert_eq!(cluster.node(1).commit(), 2, "a learner holds nothing up");
}

#[test]
fn dissertation_4_2_2_the_removed_may_be_needed_until_it_is_certain() {
    // 1 removes itself from two, and stops before 2 has heard of that. 2 can't win without 1, whose
    // log is longer: so 1 has to campaign, although it is no member according to that log.
    let mut cluster = Cluster::new(&[1, 2], &[], plain());
    cluster.node(1).campaign();
    cluster.settle();
    cluster.isolated.insert(2);
    cluster.node(1).propose_change(&[Change::Remove(1)], Transition::Auto).unwrap();
    cluster.settle();
    cluster.isolated.clear();
    cluster.crash(1);
    cluster.start(1);
    cluster.node(2).campaign();
    cluster.settle();
    assert_ne!(cluster.node(2).role(), Role::Leader);
    for _ in 0..60 {
        cluster.tick(1, 1);
        cluster.tick(2, 1);
        cluster.settle();
    }
    assert_eq!(cluster.node(2).role(), Role::Leader);
    assert_eq!(cluster.node(2).membership(), &Membership::of_voters(&[2]));
}

#[test]
fn dissertation_4_2_3_the_removed_disturb_nobody() {
    let mut cluster = led_by_1(Options::default());
    cluster.isolated.insert(3);
    cluster.node(1).propose_change(&[Change::Remove(3)], Transition::Auto).unwrap();
    cluster.settle();
    cluster.tick(1, 1);
    cluster.settle();
    cluster.isolated.clear();
    // 3 never heard of its removal.
    for _ in 0..100 {
        cluster.tick(3, 1);
        cluster.tick(1, 1);
        cluster.settle();
    }
    assert_eq!((cluster.node(1).role(), cluster.node(1).term()), (Role::Leader, 1));
}

#[test]
fn dissertation_6_4_a_read_needs_an_entry_of_the_term_and_a_quorum() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[], plain());
    assert_eq!(cluster.node(1).read_index(1), Err(ReadError::NoLeader));
    cluster.node(1).campaign();
    while cluster.node(1).role() != Role::Leader {
        [1, 2, 3].iter().for_each(|id| {
            cluster.ready(*id);
        });
        cluster.deliver_one();
    }
    cluster.node(1).read_index(2).unwrap();
    cluster.ready(1);
    assert!(!cluster.told.contains("reads"), "nothing of this term is committed");
    cluster.settle();
    assert!(cluster.told.contains("1 reads 2 at 1"), "{}", cluster.told);
}

#[test]
fn dissertation_6_4_1_no_election_within_a_lease() {
    let options = Options { lease_reads: true, ..Options::default() };
    let mut cluster = led_by_1(options);
    cluster.tick(1, 1);
    cluster.settle();
    // 2 has just heard from 1; 3 has not for long. Neither a vote of 2 nor its own campaign helps.
    cluster.isolated.insert(1);
    cluster.tick(3, 25);
    cluster.node(2).campaign();
    cluster.settle();
    assert!([2, 3].iter().all(|id| cluster.node(*id).term() == 1));
    // Nor does a restart: it can't know what it promised.
    cluster.crash(2);
    cluster.start(2);
    cluster.tick(3, 25);
    cluster.settle();
    assert!([2, 3].iter().all(|id| cluster.node(*id).term() == 1));
    cluster.tick(2, 10);
    cluster.tick(3, 25);
    cluster.settle();
    assert!(cluster.node(3).term() > 1, "after the lease there is");
}

#[test]
fn what_makes_no_sense_is_dropped_and_hurts_nobody() {
    let mut cluster = led_by_1(plain());
    let huge = u64::MAX;
    let membership = Entry { kind: EntryKind::Membership, ..entry(2, 2) };
    for (from, message, expected) in [
        (2, message(2, 3, 1, Body::TimeoutNow), Err(StepError::WrongRecipient { to: 3 })),
        (
            3,
            message(2, 1, 1, Body::TimeoutNow),
            Err(StepError::WrongSender { from: 3, claimed: 2 }),
        ),
        (
            1,
            message(1, 1, 1, Body::TimeoutNow),
            Err(StepError::WrongSender { from: 1, claimed: 1 }),
        ),
        (2, message(2, 1, huge, Body::StaleTerm), Err(StepError::Malformed { from: 2 })),
        (
            2,
            message(2, 1, 2, append((huge, 2), vec![entry(1, 1)], huge)),
            Err(StepError::Malformed { from: 2 }),
        ),
        (
            2,
            message(2, 1, 2, append((1, 1), vec![entry(2, 2), entry(4, 2)], huge)),
            Err(StepError::Malformed { from: 2 }),
        ),
        (
            2,
            message(2, 1, 2, append((1, 1), vec![membership], huge)),
            Err(StepError::Malformed { from: 2 }),
        ),
        (2, message(2, 1, 2, append((huge, 2), Vec::new(), huge)), Ok(())),
        (2, message(2, 1, 2, Body::RepairRequest { index: huge, entry_term: huge }), Ok(())),
        (2, message(2, 1, 2, Body::ReadResponse { context: 1, index: huge }), Ok(())),
    ] {
        let text = format!("{message:?}");
        assert_eq!(cluster.node(1).step(from, message), expected, "{text}");
    }
    cluster.node(1).campaign();
    cluster.settle();
    assert_eq!(cluster.node(1).role(), Role::Leader);
    for body in [
        Body::AppendResponse { verified: huge, durable: huge },
        Body::AppendResponse { verified: 0, durable: 1 },
        Body::AppendRejected { prev_index: huge, hint_index: huge, hint_term: huge },
        Body::HeartbeatResponse { round: huge, tick: huge, verified: huge },
        Body::RepairRequest { index: 0, entry_term: 0 },
        Body::ReadRequest { context: huge },
    ] {
        let term = cluster.node(1).term();
        cluster.node(1).step(2, message(2, 1, term, body)).unwrap();
        cluster.settle();
        assert_eq!(cluster.node(1).commit(), cluster.node(1).last_index());
    }
}

#[test]
fn what_only_a_leader_can_do_is_refused_by_others() {
    let mut cluster = led_by_1(plain());
    let node = cluster.node(2);
    assert_eq!(node.leader(), 1, "whom to ask instead");
    assert_eq!(node.propose(data("a")), Err(ProposeError::NotLeader));
    assert_eq!(node.transfer_leader(3), Err(TransferError::NotLeader));
    let change = node.propose_change(&[Change::Remove(3)], Transition::Auto);
    assert_eq!(change, Err(ChangeError::Propose(ProposeError::NotLeader)));
}

#[test]
fn a_membership_survives_its_encoding() {
    let membership = Membership {
        voters: vec![1, 3],
        outgoing: vec![1, 2],
        learners: vec![7],
        learners_next: vec![2],
        returning: vec![7],
        incarnations: vec![(7, 12)],
        auto_leave: true,
    };
    let bytes = membership.encode();
    assert_eq!(Membership::decode(&bytes), Some(membership));
    for end in 0..bytes.len() {
        assert_eq!(Membership::decode(&bytes[..end]), None, "cut at {end}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert_eq!(Membership::decode(&longer), None);
}
