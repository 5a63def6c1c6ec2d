//! Clients: each asks one thing after the other, of the member that answered last, and writes down what
//! it was told.

use mainstay_engine::StoreError;
use mainstay_engine::message::{Answer, Outcome as Told, Request as Asked};
use mainstay_engine::request::HashKv;

use super::network::End;
use super::requests::{Wish, Wishes};
use super::translate;
use super::world::{Asker, Event, World};
use crate::linearizability::history::{Action, Operation, Outcome, Request, Transaction};

/// What a client waits for.
struct Open {
    number: u64,
    wish: Wish,
    asked_us: u64,
    /// Its place in the history, if it is part of that.
    place: Option<usize>,
}

pub(super) struct Client {
    /// The member that it asks.
    member: u64,
    open: Option<Open>,
    /// It was answered, and not refused.
    is_served: bool,
}

impl Client {
    pub(super) fn new(member: u64) -> Client {
        Client { member, open: None, is_served: false }
    }

    /// Whether it was answered since it began.
    pub(super) fn is_served(&self) -> bool {
        self.is_served
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn go_to(&mut self, member: u64) {
        self.member = member;
    }
}

impl World {
    /// A client thinks of something to ask.
    pub(super) fn think(&mut self, client: usize) {
        // In the end nothing new is asked.
        if self.healing || self.clients[client].open.is_some() {
            return;
        }
        if self.random.chance(8) {
            self.choose_member(client);
        }
        let wish = self.wishes().draw();
        self.wish(client, wish);
    }

    /// A client asks the member that it knows.
    pub(super) fn wish(&mut self, client: usize, wish: Wish) {
        self.next_number += 1;
        let number = self.next_number;
        let place = match &wish {
            Wish::Plain { request, .. } => Some(self.note(client, request.clone())),
            Wish::Other(_) => None,
        };
        if let Wish::Other(Asked::LeaseRevoke { id }) = &wish {
            self.truth.revokes.entry(*id).or_insert(self.now_us);
        }
        self.clients[client].open = Some(Open { number, wish, asked_us: self.now_us, place });
        let member = self.clients[client].member;
        let way = (End::Clients, End::Member(member));
        for delay_us in self.network.send(way, &mut self.random, &mut self.faults) {
            self.at(delay_us, Event::Ask { member, client, number });
        }
        self.at(self.swarm.patience_us, Event::Impatient { client, number });
    }

    fn note(&mut self, client: usize, request: Request) -> usize {
        let (client, invoked) = (client as u64 + 1, self.now_us);
        let outcome = Outcome::Unknown;
        self.history.operations.push(Operation { client, invoked, request, outcome });
        self.history.operations.len() - 1
    }

    pub(super) fn wishes(&mut self) -> Wishes<'_> {
        self.next_value += 100;
        Wishes {
            random: &mut self.random,
            swarm: &self.swarm,
            committed: self.truth.model.revision,
            compacted: self.truth.model.compacted,
            number: self.next_value,
            newest_lease: &mut self.newest_lease,
        }
    }

    fn choose_member(&mut self, client: usize) {
        let reachable = self.operators_members();
        self.clients[client].member = reachable[self.random.below(reachable.len())];
    }

    /// A request reaches a member.
    pub(super) fn asked(&mut self, member: u64, client: usize, number: u64) {
        let Some(open) = self.clients.get(client).and_then(|client| client.open.as_ref()) else {
            return;
        };
        if open.number != number {
            return;
        }
        let mut asked = open.wish.asked();
        let plain = matches!(open.wish, Wish::Plain { .. });
        let Some(cores) = self.cores(member) else {
            // Nobody listens: the client is told so by its own machine.
            return self.hang_up(client, number);
        };
        if let Asked::Range(range) = &mut asked {
            range.serializable |= self.bug == Some(super::Bug::StaleRead);
            let follower = self.members[&member].leads() != Some(true);
            self.report.read_at_followers += usize::from(follower && plain);
        }
        let core = self.random.below(cores);
        self.ask(member, core, asked, Asker::Client { client, number });
    }

    /// A member answered a client.
    pub(super) fn answered_by(&mut self, member: u64, asker: (usize, u64), told: Told) {
        let (client, number) = asker;
        let way = (End::Member(member), End::Clients);
        if let Some(delay_us) =
            self.network.send(way, &mut self.random, &mut self.faults).into_iter().next()
        {
            self.at(delay_us, Event::Answered { client, number, told: Box::new(told) });
        }
    }

    fn waits(&self, client: usize, number: u64) -> bool {
        let open = self.clients.get(client).and_then(|client| client.open.as_ref());
        open.is_some_and(|open| open.number == number)
    }

    /// A client's connection broke with a request on it.
    pub(super) fn hang_up(&mut self, client: usize, number: u64) {
        if self.waits(client, number) && self.random.chance(70) {
            self.clients[client].open = None;
            self.choose_member(client);
            self.think_later(client);
        }
    }

    pub(super) fn impatient(&mut self, client: usize, number: u64) {
        if self.waits(client, number) {
            self.faults.impatient += 1;
            self.clients[client].open = None;
            self.choose_member(client);
            self.think_later(client);
        }
    }

    fn think_later(&mut self, client: usize) {
        let delay_us = 1 + self.random.below(self.swarm.think_us) as u64;
        self.at(delay_us, Event::Think { client });
    }

    /// An answer reaches a client.
    pub(super) fn answered(&mut self, client: usize, number: u64, told: Told) {
        if !self.waits(client, number) {
            return;
        }
        let open = self.clients[client].open.take();
        let Some(Open { wish, asked_us, place, .. }) = open else { return };
        let failed = told.is_err();
        self.clients[client].is_served |= !failed;
        match (wish, told) {
            (Wish::Plain { request, previous }, Ok(answer)) => {
                let response = translate::response(&answer, previous)
                    .unwrap_or_else(|| panic!("{answer:?} to {request:?}"));
                let returned = self.now_us;
                let place = place.expect("it is part of the history");
                self.history.operations[place].outcome = Outcome::Answered { returned, response };
            }
            (Wish::Plain { request, .. }, Err(error)) => {
                assert!(explained(&error), "{request:?} is refused: {error}");
                if nothing_was_done(&error) {
                    let place = place.expect("it is part of the history");
                    self.history.operations[place].outcome = Outcome::Refused;
                }
            }
            (Wish::Other(asked), Ok(answer)) => self.check_other(&asked, answer, asked_us),
            (Wish::Other(asked), Err(error)) => {
                assert!(explained(&error), "{asked:?} is refused: {error}");
            }
        }
        // Whoever could not help is left alone for a while.
        if failed && self.random.chance(60) {
            self.choose_member(client);
        }
        self.think_later(client);
    }

    fn check_other(&mut self, asked: &Asked, answer: Answer, asked_us: u64) {
        match (asked, answer) {
            (Asked::LeaseGrant { id, ttl, .. }, Answer::LeaseGranted { id: got, ttl: granted }) => {
                // No lease is shorter than what an election may take.
                assert!(*id == got && *ttl <= granted, "lease {id} of {ttl} s has {granted} s");
                assert!(self.truth.model.leases_ever.contains(id), "granted, and not committed");
            }
            (Asked::LeaseKeepAlive { id }, Answer::TimeToLive(ttl)) => {
                self.truth.renewed(*id, asked_us, ttl, self.swarm.drift_ppm as u64);
            }
            (Asked::LeaseTimeToLive { id, .. }, Answer::LeaseStatus(status)) => {
                assert_eq!(status.id, *id);
                // A new leader adds what its election may have taken.
                assert!(status.remaining_ttl <= status.granted_ttl + 2, "{status:?}");
            }
            (Asked::LeaseRevoke { .. } | Asked::Compact { .. }, Answer::Revision(revision)) => {
                assert!(revision <= self.truth.model.revision, "a revision that never was");
            }
            (Asked::HashKv { .. }, Answer::HashKv(hash)) => self.check_hash(&hash),
            (Asked::Confirm | Asked::MoveLeader { .. }, Answer::Done) => {}
            (Asked::ChangeMember(_), Answer::Members(_)) => {}
            (asked, answer) => panic!("{answer:?} to {asked:?}"),
        }
    }

    /// All members have one hash at a revision, if they forgot the same.
    fn check_hash(&mut self, hash: &HashKv) {
        assert!(hash.revision <= self.truth.model.revision, "a hash of what never was");
        let known = self.hashes.entry(hash.revision).or_insert(hash.hash);
        self.report.hashes += 1;
        assert_eq!(*known, hash.hash, "two hashes of revision {}", hash.revision);
    }

    /// What is known of everybody's wishes when the history ends.
    pub(super) fn count_outcomes(&mut self) {
        for operation in &self.history.operations {
            match operation.outcome {
                Outcome::Answered { .. } => self.report.answered += 1,
                Outcome::Refused => self.report.refused += 1,
                Outcome::Unknown => self.report.unknown += 1,
            }
        }
        self.report.operations += self.history.operations.len();
        // Leases end by themselves: nobody is answered.
        for end in &self.truth.ended {
            let transaction = Transaction::of(Action::EndLease(end.id));
            self.history.operations.push(Operation {
                client: 0,
                invoked: end.since_us,
                request: Request::Transact(transaction),
                outcome: Outcome::Unknown,
            });
        }
    }
}

/// Errors that a member may give to somebody who asks for nothing wrong.
fn explained(error: &StoreError) -> bool {
    nothing_was_done(error)
        || matches!(
            error,
            StoreError::LeaderChanged | StoreError::TimedOut | StoreError::TransferTimedOut
        )
}

/// Whether an error says that nothing was done, and nothing will be.
fn nothing_was_done(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Compacted { .. }
            | StoreError::FutureRevision { .. }
            | StoreError::LeaseNotFound(_)
            | StoreError::LeaseExists(_)
            | StoreError::NoSpace
            | StoreError::TooManyRequests
            | StoreError::NoLeader
            | StoreError::NotLeader
            | StoreError::RefusedByLearner
            | StoreError::MemberRemoved
            | StoreError::MemberNotFound(_)
            | StoreError::MemberExists(_)
            | StoreError::MemberNotLearner(_)
            | StoreError::LearnerNotReady(_)
            | StoreError::TooManyLearners
            | StoreError::NotEnoughStartedMembers
            | StoreError::UnhealthyCluster
            | StoreError::BadTransferee(_)
    )
}
