//! What must hold at every moment (Raft paper, figure 3), and what clients may see.

use std::collections::BTreeMap;

use mainstay_raft::Entry;

use crate::disk::State;
use crate::member::Member;

#[derive(Default)]
pub(crate) struct Checks {
    /// Who led each term.
    leaders: BTreeMap<u64, u64>,
    /// The first entry ever applied at each index, and the state after it.
    pub(crate) committed: BTreeMap<u64, (Entry, State)>,
    /// The term of the member that applied it first: only leaders of later ones have to have it.
    terms: BTreeMap<u64, u64>,
    /// The greatest index that any finished operation depends on: every operation that begins from
    /// now on has to come after it. All operations are in the order of one log, so this is what
    /// linearizability comes down to.
    pub(crate) floor: u64,
}

impl Checks {
    /// Election Safety, Leader Append-Only, Leader Completeness.
    pub(crate) fn roles(&mut self, member: &mut Member) {
        let Some(node) = &member.node else { return };
        if !member.leads() {
            member.led = None;
            return;
        }
        let (id, term, last) = (member.id, node.term(), node.last_index());
        let leader = *self.leaders.entry(term).or_insert(id);
        assert_eq!(leader, id, "Election Safety: two leaders in term {term}");
        match member.led {
            Some((led, end)) if led == term => {
                assert!(last >= end, "Leader Append-Only: {id} lost entries in term {term}");
            }
            _ => {
                // A leader may learn late that it was elected, when others lead later terms.
                let before = |index: &u64| self.terms[index] <= term;
                let entries = self.committed.values().map(|(entry, _)| entry);
                for entry in entries.filter(|entry| before(&entry.index)) {
                    complete(member, entry);
                }
            }
        }
        member.led = Some((term, last));
    }

    /// State Machine Safety. `term`: that of the member that applied it.
    pub(crate) fn applied(&mut self, entry: &Entry, state: State, who: u64, term: u64) -> bool {
        if let Some((first, digest)) = self.committed.get(&entry.index) {
            assert_eq!(first, entry, "State Machine Safety: {who} applied another entry");
            assert_eq!(*digest, state, "State Machine Safety: {who} is in another state");
            return false;
        }
        let newest = self.committed.last_key_value().map_or(0, |(index, _)| *index);
        assert_eq!(entry.index, newest + 1, "State Machine Safety: {who} left entries out");
        self.committed.insert(entry.index, (entry.clone(), state));
        self.terms.insert(entry.index, term);
        true
    }

    pub(crate) fn installed(&self, state: State, who: u64) {
        let (_, expected) = &self.committed[&state.applied];
        assert_eq!(*expected, state, "State Machine Safety: {who} installed another state");
    }

    /// A client got an answer that depends on `index`, and asked when `floor` was the floor.
    pub(crate) fn answered(&mut self, what: &str, index: u64, floor: u64) {
        let enough = if what == "read" { index >= floor } else { index > floor };
        assert!(enough, "Linearizability: a {what} at {index} began when {floor} was known");
        self.floor = self.floor.max(index);
    }
}

/// Leader Completeness: what is committed is in the log of every later leader.
pub(crate) fn complete(member: &Member, entry: &Entry) {
    let Some(node) = &member.node else { return };
    if entry.index > member.disk.base.0 {
        let (id, term) = (member.id, node.term());
        assert_eq!(
            node.term_at(entry.index),
            Some(entry.term),
            "Leader Completeness: {id} leads term {term} without entry {}",
            entry.index
        );
    }
}

/// Log Matching: where two logs have the same term at an index, they are equal up to there.
pub(crate) fn match_logs(left: &Member, right: &Member) {
    let same =
        left.view.iter().rev().find(|(index, entry)| {
            right.view.get(index).is_some_and(|other| other.term == entry.term)
        });
    let Some((end, _)) = same else { return };
    for (index, entry) in left.view.range(..=end) {
        if let Some(other) = right.view.get(index) {
            assert_eq!(entry, other, "Log Matching: {} and {}", left.id, right.id);
        }
    }
}
