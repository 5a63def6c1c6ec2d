//! One member's state: what it knows, what it has promised, what it wants done.

use bytes::Bytes;

use crate::quorum;
use crate::types::{Config, Entry, HardState, Message, ProposeError, Ready, Role};

/// Ticks without a leader before a member campaigns.
const ELECTION_TICKS: u32 = 10;

/// A member of a cluster.
///
/// A sole voter wins its own election at once. Elections and replication among several voters are
/// not built yet, and [`Node::new`] refuses to pretend otherwise.
#[derive(Debug)]
pub struct Node {
    id: u64,
    role: Role,
    hard_state: HardState,
    /// The newest entry, durable or not.
    last_index: u64,
    last_term: u64,
    /// The newest durable entry of each voter. One voter: this member.
    match_indexes: Vec<u64>,
    ticks_without_leader: u32,
    /// Collected until the owner takes it.
    changed_hard_state: bool,
    unsent_entries: Vec<Entry>,
}

impl Node {
    /// A member that starts, or starts again, with what its log holds.
    pub fn new(config: Config) -> Node {
        assert!(config.id != 0, "0 means nobody");
        assert_eq!(config.voters, [config.id], "one voter: this member");
        assert!(config.hard_state.commit <= config.last_index);
        assert!(config.last_term <= config.hard_state.term);
        Node {
            id: config.id,
            role: Role::Follower,
            hard_state: config.hard_state,
            last_index: config.last_index,
            last_term: config.last_term,
            match_indexes: vec![config.last_index],
            ticks_without_leader: 0,
            changed_hard_state: false,
            unsent_entries: Vec::new(),
        }
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn term(&self) -> u64 {
        self.hard_state.term
    }

    /// The leader as far as this member knows; 0 for none.
    pub fn leader(&self) -> u64 {
        if self.role == Role::Leader { self.id } else { 0 }
    }

    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    pub fn commit(&self) -> u64 {
        self.hard_state.commit
    }

    /// A unit of time passed; how long it is, is the owner's business.
    pub fn tick(&mut self) {
        if self.role == Role::Leader {
            return;
        }
        self.ticks_without_leader += 1;
        if self.ticks_without_leader >= ELECTION_TICKS {
            self.campaign();
        }
    }

    /// Stands for election now. A sole voter has won with its own vote.
    pub fn campaign(&mut self) {
        assert_eq!(self.role, Role::Follower);
        self.ticks_without_leader = 0;
        self.hard_state.term += 1;
        self.hard_state.vote = self.id;
        self.changed_hard_state = true;
        self.role = Role::Leader;
        // Entries of former terms commit only behind one of this term (Raft paper, 5.4.2).
        self.append(Bytes::new());
    }

    /// A message from another member.
    pub fn step(&mut self, message: Message) {
        assert_eq!(message.to, self.id);
        if message.term > self.hard_state.term {
            self.hard_state.term = message.term;
            self.hard_state.vote = 0;
            self.changed_hard_state = true;
            self.role = Role::Follower;
        }
    }

    /// Appends `data` to the log, to be committed. Gives its index.
    pub fn propose(&mut self, data: Bytes) -> Result<u64, ProposeError> {
        if self.role != Role::Leader {
            return Err(ProposeError::NotLeader);
        }
        assert!(!data.is_empty(), "empty entries are raft's own");
        self.append(data);
        Ok(self.last_index)
    }

    fn append(&mut self, data: Bytes) {
        let entry = Entry { index: self.last_index + 1, term: self.hard_state.term, data };
        self.last_index = entry.index;
        self.last_term = entry.term;
        self.unsent_entries.push(entry);
    }

    /// The index that a linearizable read has to wait for: a sole voter is always its own quorum.
    pub fn read_index(&self) -> Result<u64, ProposeError> {
        match self.role {
            Role::Leader => Ok(self.hard_state.commit),
            Role::Follower => Err(ProposeError::NotLeader),
        }
    }

    /// Takes what is to be done now.
    pub fn ready(&mut self) -> Ready {
        Ready {
            hard_state: std::mem::take(&mut self.changed_hard_state).then_some(self.hard_state),
            entries: std::mem::take(&mut self.unsent_entries),
            commit: self.hard_state.commit,
        }
    }

    /// This member's log is durable up to `index`. Gives the commit index, which may have moved.
    pub fn persisted(&mut self, index: u64) -> u64 {
        assert!(index <= self.last_index, "durable before it was appended");
        assert!(index >= self.match_indexes[0], "the durable log never shrinks under one leader");
        self.match_indexes[0] = index;
        let committed = quorum::committed(&self.match_indexes);
        // Only an entry of the current term commits by counting (Raft paper, 5.4.2). With one
        // voter the term's first entry is the oldest that can still be open.
        if self.role == Role::Leader && committed > self.hard_state.commit {
            self.hard_state.commit = committed;
        }
        self.hard_state.commit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Node {
        Node::new(Config {
            id: 1,
            voters: vec![1],
            hard_state: HardState::default(),
            last_index: 0,
            last_term: 0,
        })
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
        assert_eq!(ready.entries, [Entry { index: 1, term: 1, data: Bytes::new() }]);
        assert_eq!(node.ready(), Ready { commit: 0, ..Ready::default() });
    }

    #[test]
    fn an_entry_commits_when_it_is_durable_and_not_before() {
        let mut node = fresh();
        node.campaign();
        assert_eq!(node.propose(Bytes::from_static(b"a")), Ok(2));
        assert_eq!(node.propose(Bytes::from_static(b"b")), Ok(3));
        assert_eq!(node.commit(), 0);
        assert_eq!(node.persisted(1), 1);
        assert_eq!(node.persisted(3), 3);
        assert_eq!(node.read_index(), Ok(3));
    }

    #[test]
    fn a_restart_goes_on_behind_its_log_in_a_later_term() {
        let mut node = Node::new(Config {
            id: 1,
            voters: vec![1],
            hard_state: HardState { term: 4, vote: 1, commit: 0 },
            last_index: 17,
            last_term: 4,
        });
        node.campaign();
        assert_eq!(node.term(), 5);
        assert_eq!(node.ready().entries[0].index, 18);
        assert_eq!(
            node.persisted(18),
            18,
            "what the old log held commits with the new term's first"
        );
    }

    #[test]
    fn a_later_term_ends_leadership() {
        let mut node = fresh();
        node.campaign();
        node.step(Message { from: 2, to: 1, term: 9 });
        assert_eq!((node.role(), node.term()), (Role::Follower, 9));
    }

    #[test]
    #[should_panic(expected = "durable before it was appended")]
    fn durability_is_never_invented() {
        fresh().persisted(1);
    }
}
