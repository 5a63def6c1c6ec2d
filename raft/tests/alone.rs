//! A cluster of one: what the engine uses today.

use bytes::Bytes;
use mainstay_raft::{Config, Entry, EntryKind, HardState, Node, ProposeError, Ready, Role};

const ELECTION_TICKS: u32 = 10;

fn fresh() -> Node {
    Node::new(Config { id: 1, voters: vec![1], ..Config::default() })
}

#[test]
fn a_sole_voter_becomes_leader_after_the_election_timeout() {
    let mut node = fresh();
    for _ in 0..ELECTION_TICKS - 1 {
        node.tick();
        assert_eq!(node.role(), Role::Follower);
        assert_eq!(node.propose(Bytes::from_static(b"x")), Err(ProposeError::NotLeader));
    }
    node.tick();
    assert_eq!((node.role(), node.leader(), node.term()), (Role::Leader, 1, 1));
    let ready = node.ready();
    assert_eq!(ready.hard_state, Some(HardState { term: 1, vote: 1, commit: 0 }));
    let first = Entry { index: 1, term: 1, kind: EntryKind::Normal, data: Bytes::new() };
    assert_eq!(ready.entries, [first]);
    assert_eq!(node.ready(), Ready { commit: 0, ..Ready::default() });
}

#[test]
fn an_entry_commits_when_it_is_durable_and_not_before() {
    let mut node = fresh();
    node.campaign();
    assert_eq!(node.propose(Bytes::from_static(b"a")), Ok(2));
    assert_eq!(node.propose(Bytes::from_static(b"b")), Ok(3));
    assert_eq!(node.ready().entries.len(), 3);
    assert_eq!(node.commit(), 0);
    assert_eq!(node.persisted(1), 1);
    assert_eq!(node.persisted(3), 3);
    node.read_index(9).unwrap();
    assert_eq!(node.ready().reads[0].index, 3);
}

#[test]
fn a_restart_goes_on_behind_its_log_in_a_later_term() {
    let mut node = Node::new(Config {
        id: 1,
        voters: vec![1],
        hard_state: HardState { term: 4, vote: 1, commit: 0 },
        last_index: 17,
        last_term: 4,
        ..Config::default()
    });
    node.campaign();
    assert_eq!(node.term(), 5);
    assert_eq!(node.ready().entries[0].index, 18);
    assert_eq!(node.persisted(18), 18, "what the old log held commits with the term's first");
}

#[test]
fn writes_may_be_reported_by_number_as_well() {
    let mut node = fresh();
    node.campaign();
    let first = node.ready().write;
    node.propose(Bytes::from_static(b"a")).unwrap();
    let second = node.ready().write;
    assert_eq!((first, second), (1, 2));
    assert_eq!(node.written(first), 1);
    assert_eq!(node.written(second), 2);
}

#[test]
fn proposals_are_bounded() {
    let mut config = Config { id: 1, voters: vec![1], ..Config::default() };
    config.options.uncommitted_entries = 3;
    let mut node = Node::new(config);
    node.campaign();
    node.propose(Bytes::from_static(b"a")).unwrap();
    node.propose(Bytes::from_static(b"b")).unwrap();
    let full = ProposeError::TooManyUncommitted { entries: 3, bytes: 2 };
    assert_eq!(node.propose(Bytes::from_static(b"c")), Err(full));
    node.ready();
    node.persisted(2);
    assert_eq!(node.propose(Bytes::from_static(b"c")), Ok(4));
}

#[test]
#[should_panic(expected = "durable before it was appended")]
fn durability_is_never_invented() {
    fresh().persisted(1);
}
