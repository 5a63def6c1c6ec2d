//! Mistakes that the simulation or a reader once found in the core: each has a test.

use bytes::Bytes;
use mainstay_raft::{Body, Change, Options, PeerState, Role, Transition};

use crate::cluster::Cluster;

fn plain() -> Options {
    Options { pre_vote: false, check_quorum: false, ..Options::default() }
}

fn propose(cluster: &mut Cluster, count: usize) {
    for _ in 0..count {
        cluster.node(1).propose(Bytes::from_static(b"x")).expect("leads");
    }
}

fn tick_and_settle(cluster: &mut Cluster, count: usize) {
    for _ in 0..count {
        cluster.tick(1, 1);
        cluster.settle();
    }
}

/// What was known to agree with the leader of one term was taken for agreeing with that of the next,
/// by a member that had been a candidate in between.
#[test]
fn a_candidate_forgets_what_it_shared_with_the_last_leader() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[], plain());
    cluster.node(1).campaign();
    cluster.settle();
    // 2 and 1 share entries that 3 never sees.
    cluster.isolated.insert(3);
    propose(&mut cluster, 3);
    while cluster.node(2).last_index() < 4 {
        cluster.ready(1);
        cluster.deliver_one();
    }
    cluster.ready(2);
    cluster.ready(2);
    cluster.messages.clear();
    // 2 is a candidate of term 2, and loses it to a leader without those entries.
    cluster.isolated = [1, 2, 3].into();
    cluster.node(2).campaign();
    cluster.settle();
    let body = Body::Heartbeat { round: 1, tick: 1, commit: 4 };
    let heartbeat = mainstay_raft::Message { from: 3, to: 2, term: 2, incarnation: 0, body };
    cluster.node(2).step(3, heartbeat).expect("sensible");
    assert_eq!(cluster.node(2).leader(), 3);
    assert_eq!(cluster.node(2).commit(), 1, "3 never said that these are its entries");
}

/// A follower that lost messages waited for ever when the leader had compacted what they held.
#[test]
fn lost_messages_whose_entries_are_compacted_end_in_a_snapshot() {
    let options = Options { inflight_messages: 2, message_bytes: 1, ..plain() };
    let mut cluster = Cluster::new(&[1, 2, 3], &[], options);
    cluster.node(1).campaign();
    cluster.settle();
    cluster.isolated.insert(3);
    propose(&mut cluster, 8);
    cluster.settle();
    cluster.compact(1, 9);
    cluster.isolated.clear();
    tick_and_settle(&mut cluster, 3);
    assert_eq!(cluster.node(1).peers()[&3].state, PeerState::Replicate);
    assert_eq!(cluster.node(3).commit(), 9);
}

/// Entries that the owner had read came when the peer had got further by itself.
#[test]
fn entries_that_come_too_late_are_dropped() {
    let options = Options { cache_bytes: 0, ..plain() };
    let mut cluster = Cluster::new(&[1, 2], &[], options);
    cluster.node(1).campaign();
    cluster.settle();
    propose(&mut cluster, 3);
    let ready = cluster.node(1).ready();
    cluster.node(1).written(ready.write);
    let wanted = cluster.node(1).ready().entries_wanted[0];
    assert_eq!((wanted.from, wanted.to), (2, 4));
    // An answer from before says that 2 has them all.
    let body = Body::AppendResponse { verified: 4, durable: 4 };
    let answer = mainstay_raft::Message { from: 2, to: 1, term: 1, incarnation: 0, body };
    cluster.node(1).step(2, answer).expect("sensible");
    cluster.node(1).entries_read(ready.entries);
    assert_eq!(cluster.node(1).peers()[&2].next, 5);
}

/// Reads that were lost on their way to the leader were counted as pending for ever.
#[test]
fn a_read_that_is_lost_fails_in_the_end() {
    let options = Options { pending_reads: 1, ..plain() };
    let mut cluster = Cluster::new(&[1, 2, 3], &[], options);
    cluster.node(1).campaign();
    cluster.settle();
    cluster.node(2).read_index(7).expect("a leader is known");
    cluster.ready(2);
    cluster.messages.clear();
    assert!(cluster.node(2).read_index(8).is_err(), "bounded");
    for _ in 0..20 {
        cluster.tick(2, 1);
        let body = Body::Heartbeat { round: 9, tick: 9, commit: 0 };
        let heartbeat = mainstay_raft::Message { from: 1, to: 2, term: 1, incarnation: 0, body };
        cluster.node(2).step(1, heartbeat).expect("sensible");
    }
    assert_eq!(cluster.node(2).ready().failed_reads, [7]);
    cluster.node(2).read_index(9).expect("room again");
}

/// A member that a lease relies on voted for itself when its owner told it to campaign.
#[test]
fn nobody_breaks_a_lease_by_a_campaign_of_its_own() {
    let options = Options { lease_reads: true, pre_vote: false, ..Options::default() };
    let mut cluster = Cluster::new(&[1, 2, 3], &[], options);
    cluster.node(1).campaign();
    cluster.settle();
    cluster.node(2).campaign();
    assert_eq!((cluster.node(2).role(), cluster.node(2).term()), (Role::Follower, 1));
}

/// An answer to an earlier pre-vote was counted as one to the present.
#[test]
fn old_answers_to_a_pre_vote_do_not_count() {
    let options = Options { pre_vote: true, ..plain() };
    let mut cluster = Cluster::new(&[1, 2, 3], &[], options);
    cluster.node(1).campaign();
    let granted = |term| mainstay_raft::Message {
        from: 2,
        to: 1,
        term,
        incarnation: 0,
        body: Body::VoteResponse { pre: true, granted: true },
    };
    cluster.node(1).step(2, granted(0)).expect("sensible");
    assert_eq!(cluster.node(1).role(), Role::PreCandidate);
    cluster.node(1).step(2, granted(1)).expect("sensible");
    assert_eq!(cluster.node(1).role(), Role::Candidate);
}

/// A member that joined compacted its log before the first membership that it knew; as a leader it
/// had no snapshot that anybody could use.
#[test]
fn who_joined_keeps_the_log_from_before_it_knew_its_cluster() {
    let mut cluster = Cluster::new(&[1, 2], &[3], plain());
    cluster.node(1).campaign();
    cluster.settle();
    propose(&mut cluster, 3);
    cluster.node(1).propose_change(&[Change::AddVoter(3)], Transition::Auto).expect("alone");
    cluster.settle();
    assert_eq!((cluster.node(3).commit(), cluster.node(3).membership().voters.len()), (5, 3));
    assert!(!cluster.node(3).compact(4), "it was added by entry 5");
    assert!(cluster.node(1).compact(4), "that one knew");
    assert!(cluster.node(3).compact(5));
}

/// Whoever sees the leader's connections break need not wait for an election timeout; and if the
/// leader is well, nothing comes of it.
#[test]
fn a_leader_whose_connections_broke_is_replaced_at_once() {
    for (alive, expected) in [(false, 2), (true, 1)] {
        let mut cluster = Cluster::new(&[1, 2, 3], &[], Options::default());
        cluster.node(1).campaign();
        cluster.settle();
        for id in [1, 2, 3] {
            cluster.tick(id, 1);
            cluster.settle();
        }
        if !alive {
            cluster.isolated.insert(1);
        }
        let suspicious: &[u64] = if alive { &[2] } else { &[2, 3] };
        suspicious.iter().for_each(|id| cluster.node(*id).suspect_leader());
        for _ in 0..2 {
            for id in [2, 3, 1] {
                cluster.tick(id, 1);
                cluster.settle();
            }
        }
        assert_eq!(cluster.node(2).leader(), expected, "alive: {alive}");
        assert_eq!(cluster.node(3).leader(), expected, "alive: {alive}");
    }
}

/// Leases rest on voters that wait.
#[test]
fn with_leases_nobody_suspects_the_leader() {
    let options = Options { lease_reads: true, ..Options::default() };
    let mut cluster = Cluster::new(&[1, 2, 3], &[], options);
    for _ in 0..40 {
        cluster.tick(1, 1);
        cluster.settle();
    }
    assert_eq!(cluster.node(1).role(), Role::Leader);
    cluster.tick(1, 1);
    cluster.settle();
    cluster.isolated.insert(1);
    for id in [2, 3] {
        cluster.node(id).suspect_leader();
        cluster.tick(id, 4);
    }
    cluster.settle();
    assert_eq!(cluster.node(2).leader(), 1);
}

/// A peer that took a probe before it was durable there, and whose word that it is was lost, was not
/// asked again: a leader that waited for it to commit its first entry waited for ever.
#[test]
fn a_lost_word_of_what_is_durable_is_asked_for_again() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[], plain());
    cluster.node(1).campaign();
    cluster.settle();
    let answer = |body| mainstay_raft::Message { from: 2, to: 1, term: 1, incarnation: 0, body };
    let node = cluster.node(1);
    let forgetful = Body::HeartbeatResponse { round: 0, tick: 0, verified: 0 };
    node.step(2, answer(forgetful)).expect("sensible");
    assert_eq!(node.peers()[&2].state, PeerState::Probe);
    node.propose(Bytes::from_static(b"x")).expect("leads");
    let ready = node.ready();
    node.written(ready.write);
    node.step(2, answer(Body::AppendResponse { verified: 2, durable: 1 })).expect("sensible");
    assert_eq!(node.peers()[&2].state, PeerState::Replicate);
    for round in 1..=3 {
        node.tick();
        let heard = Body::HeartbeatResponse { round, tick: round, verified: 2 };
        node.step(2, answer(heard)).expect("sensible");
    }
    let asks = |message: &mainstay_raft::Message| {
        message.to == 2 && matches!(message.body, Body::Append { prev_index: 2, .. })
    };
    assert!(node.ready().messages.iter().any(asks), "2 was asked for what it has");
}
