//! Messages between members: raft's, of which any may be lost, and requests that one hands on to the
//! leader, each of which is answered once or known to be broken off.

use std::collections::BTreeMap;

use mainstay_engine::StoreError;
use mainstay_engine::peer::PeerMessage;
use mainstay_raft::{Body, Message};

use super::Bug;
use super::network::End;
use super::world::{Event, Life, World};

/// How long until a broken connection is noticed, at most.
const NOTICED_US: usize = 3_000_000;

/// Requests on their way, or waiting for an answer: by asker, its life, and number.
#[derive(Default)]
pub(super) struct Forwards(BTreeMap<(u64, u32, u64), u64>);

impl World {
    /// Carries a message to another member.
    pub(super) fn send(&mut self, from: Life, to: u64, message: PeerMessage) {
        let way = (End::Member(from.member), End::Member(to));
        match message {
            PeerMessage::Raft(message) => {
                let message = self.plant_in_message(message);
                let delays = self.network.send(way, &mut self.random, &mut self.faults);
                for delay_us in delays {
                    let message = Box::new(PeerMessage::Raft(message.clone()));
                    self.at(delay_us, Event::Deliver { from, to, message });
                }
            }
            PeerMessage::Request { number, .. } => {
                self.forwards.0.insert((from.member, from.life, number), to);
                let (out, back) = (way, (way.1, way.0));
                if self.network.is_cut(out.0, out.1) || self.network.is_cut(back.0, back.1) {
                    return self.break_off(from, number, false);
                }
                let delay_us = self.network.delay_us(&mut self.random, &mut self.faults);
                if self.bug == Some(Bug::ForwardedTwice) && self.random.chance(10) {
                    let twice = Box::new(message.clone());
                    self.at(delay_us + 5_000, Event::Deliver { from, to, message: twice });
                }
                self.at(delay_us, Event::Deliver { from, to, message: Box::new(message) });
            }
            PeerMessage::Answer { .. } => {
                let delay_us = self.network.delay_us(&mut self.random, &mut self.faults);
                self.at(delay_us, Event::Deliver { from, to, message: Box::new(message) });
            }
        }
    }

    fn break_off(&mut self, from: Life, number: u64, was_sent: bool) {
        let delay_us = 1 + self.random.below(NOTICED_US) as u64;
        self.faults.connections_broken += 1;
        self.at(delay_us, Event::Broken { from, number, was_sent });
    }

    /// A message arrives, if somebody is there.
    pub(super) fn deliver(&mut self, from: Life, to: u64, message: PeerMessage) {
        let way = (End::Member(from.member), End::Member(to));
        let cut = self.network.is_cut(way.0, way.1);
        let up = self.cores(to).is_some();
        match &message {
            PeerMessage::Raft(_) if cut || !up => return,
            PeerMessage::Raft(_) => {}
            PeerMessage::Request { number, .. } => {
                if cut || !up {
                    return self.break_off(from, *number, true);
                }
                if !self.is_up(from.member, from.life) {
                    return;
                }
            }
            PeerMessage::Answer { number, .. } => {
                // It goes to whoever asked, if that is still alive and its connection too.
                let life = self.members[&to].life;
                let asked = (to, life, *number);
                if self.forwards.0.get(&asked) != Some(&from.member) {
                    return;
                }
                if cut || !up {
                    return self.break_off(Life { member: to, life }, *number, true);
                }
                self.forwards.0.remove(&asked);
            }
        }
        self.drive(to, 0, |replica, now_ms, out| {
            replica.peer_message(from.member, message, now_ms, out);
        });
    }

    /// A member learns that a request which it handed on will not be answered.
    pub(super) fn broken(&mut self, from: Life, number: u64, was_sent: bool) {
        let known = self.forwards.0.remove(&(from.member, from.life, number));
        let Some(to) = known.filter(|_| self.is_up(from.member, from.life)) else { return };
        let error = if was_sent { StoreError::LeaderChanged } else { StoreError::NoLeader };
        let message = PeerMessage::Answer { number, outcome: Err(error), index: 0 };
        self.drive(from.member, 0, |replica, now_ms, out| {
            replica.peer_message(to, message, now_ms, out);
        });
    }

    /// All connections of a member break: it is gone, or cut off.
    pub(super) fn break_connections(&mut self, member: u64) {
        let forwards = self.forwards.0.iter();
        let theirs = forwards.filter(|((from, ..), to)| **to == member || *from == member);
        let theirs: Vec<(u64, u32, u64)> = theirs.map(|(key, _)| *key).collect();
        for (from, life, number) in theirs {
            self.break_off(Life { member: from, life }, number, true);
        }
    }

    fn plant_in_message(&mut self, mut message: Message) -> Message {
        if self.bug == Some(Bug::UncommittedApplied)
            && let Body::Append { entries, commit, .. } = &mut message.body
            && let Some(last) = entries.last()
        {
            *commit = last.index.max(*commit);
        }
        if self.bug == Some(Bug::VoteTwice)
            && let Body::VoteResponse { pre: false, granted } = &mut message.body
        {
            *granted = true;
        }
        message
    }
}
