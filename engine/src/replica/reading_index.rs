//! Core 0's part in linearizable reads: it asks raft, for all cores, up to which entry everything has
//! to be applied here.

use std::collections::{BTreeMap, HashMap};

use mainstay_raft::{Node, ReadError};

use super::Mail;
use crate::error::StoreError;
use crate::message::Message;

/// A core's round.
#[derive(Debug, Clone, Copy)]
struct Asker {
    core: usize,
    number: u64,
    deadline_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct ReadingIndex {
    /// Asked of raft, by context.
    asked: HashMap<u64, Asker>,
    next_context: u64,
    /// There was no leader, or another one came: to be asked again.
    again: Vec<Asker>,
    /// Confirmed for those who have applied this index.
    confirmed: BTreeMap<u64, Vec<Asker>>,
}

fn reply(asker: Asker, result: Result<(), StoreError>, mail: &mut Mail<'_>) {
    mail.send(asker.core, Message::Confirmed { number: asker.number, result });
}

impl ReadingIndex {
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.again.is_empty() && self.confirmed.is_empty()
    }

    /// A core asks.
    pub(super) fn ask(
        &mut self,
        (core, number): (usize, u64),
        deadline_ms: u64,
        node: &mut Node,
        mail: &mut Mail<'_>,
    ) {
        self.ask_raft(Asker { core, number, deadline_ms }, node, mail);
    }

    fn ask_raft(&mut self, asker: Asker, node: &mut Node, mail: &mut Mail<'_>) {
        self.next_context += 1;
        match node.read_index(self.next_context) {
            Ok(()) => {
                self.asked.insert(self.next_context, asker);
            }
            Err(ReadError::NoLeader) => self.again.push(asker),
            Err(ReadError::TooMany { .. }) => reply(asker, Err(StoreError::TooManyRequests), mail),
        }
    }

    /// Raft tells an index.
    pub(super) fn found(&mut self, context: u64, index: u64) {
        if let Some(asker) = self.asked.remove(&context) {
            self.confirmed.entry(index).or_default().push(asker);
        }
    }

    /// Raft gives up.
    pub(super) fn failed(&mut self, context: u64) {
        self.again.extend(self.asked.remove(&context));
    }

    /// Everything up to `index` is applied.
    pub(super) fn applied(&mut self, index: u64, mail: &mut Mail<'_>) {
        while let Some(first) = self.confirmed.first_entry()
            && *first.key() <= index
        {
            first.remove().into_iter().for_each(|asker| reply(asker, Ok(()), mail));
        }
    }

    /// Asks again where it failed, if there is somebody to ask. Gives whether raft was asked.
    pub(super) fn retry(&mut self, node: &mut Node, mail: &mut Mail<'_>) -> bool {
        if node.leader() == 0 || self.again.is_empty() {
            return false;
        }
        for asker in std::mem::take(&mut self.again) {
            self.ask_raft(asker, node, mail);
        }
        true
    }

    /// Nobody waits longer than this.
    pub(super) fn expire(&mut self, now_ms: u64, mail: &mut Mail<'_>) {
        let late = |asker: &Asker| asker.deadline_ms <= now_ms;
        let mut expired: Vec<Asker> = self.again.extract_if(.., |asker| late(asker)).collect();
        expired.extend(self.asked.extract_if(|_, asker| late(asker)).map(|(_, asker)| asker));
        for askers in self.confirmed.values_mut() {
            expired.extend(askers.extract_if(.., |asker| late(asker)));
        }
        expired.into_iter().for_each(|asker| reply(asker, Err(StoreError::TimedOut), mail));
    }
}
