//! The end of a history: everything heals, the cluster recovers within a bound of its time, and what
//! everybody was told is checked.

use super::requests::Wish;
use super::world::World;
use crate::linearizability::history::{Action, Keys, Read, Request, Transaction};
use crate::linearizability::{self, Verdict};
use crate::watch_history;

/// How long a cluster may take to recover once nothing goes wrong any more.
const RECOVERY_US: u64 = 60_000_000;

/// Steps of the search for who made the revisions that nobody was told of. What was committed is
/// known here, so there is little to search.
const STEPS_MAX: usize = 200_000;

impl World {
    /// A whole history.
    pub(super) fn run(&mut self) {
        self.run_until(self.swarm.trouble_us);
        self.heal();
        self.recover();
        self.check();
        self.report.simulated_ms += (self.now_us / 1000) as usize;
    }

    /// Nothing goes wrong any more, and everybody comes back.
    fn heal(&mut self) {
        self.log(|| "everything heals".to_owned());
        self.healing = true;
        self.network.heal();
        let all: Vec<u64> = self.members.keys().copied().collect();
        for id in all {
            let member = self.members.get_mut(&id).expect("every id is a member");
            member.paused_until_us = 0;
            member.slow_disk = false;
            member.disk.full = false;
            if member.has_begun {
                self.hurry_disk(id);
                self.start(id);
            }
        }
    }

    fn recover(&mut self) {
        let until_us = self.now_us + RECOVERY_US;
        let mut complaint = "nothing happened".to_owned();
        while self.now_us < until_us {
            self.run_until(self.now_us + 1_000_000);
            match self.is_well() {
                Ok(()) => return,
                Err(reason) => complaint = reason,
            }
        }
        for id in self.up() {
            self.log(|| format!("{id}: {:?}", self.node(id)));
        }
        panic!("Progress: not well {} s after the trouble: {complaint}", RECOVERY_US / 1_000_000);
    }

    /// Whether the cluster has recovered: somebody leads, and every member has everything, and every
    /// client has been answered who asked since.
    fn is_well(&mut self) -> Result<(), String> {
        let Some(leader) = self.leader() else { return Err("nobody leads".into()) };
        let membership = self.membership(leader);
        // Who is no member any more is switched off, as an operator would, and who is one is not.
        let all: Vec<u64> = self.members.keys().copied().collect();
        for id in all {
            match membership.contains(id) {
                true => self.start(id),
                false => self.crash(id),
            }
        }
        // A learner may refuse what clients ask.
        let voters = membership.members().into_iter().filter(|id| membership.is_voter(*id));
        if !self.ask_everybody(&voters.collect::<Vec<u64>>()) {
            return Err("not every client was answered".into());
        }
        let newest = self.truth.newest_index();
        for id in membership.members() {
            let Some(machine) = &self.members[&id].machine else {
                return Err(format!("{id} is down"));
            };
            let committed = machine.shared.committed_index();
            if committed != newest || !self.has_applied_all(id) {
                return Err(format!("{id} has applied {committed} of {newest}"));
            }
        }
        if !self.watchers_are_done() {
            let lacking = self.complain_of_watchers();
            return Err(format!("not every watcher has seen everything: {lacking}"));
        }
        Ok(())
    }

    /// Has a client ask each member for a write and a read. Gives whether all of that is answered.
    fn ask_everybody(&mut self, members: &[u64]) -> bool {
        if !self.last_wishes_begun {
            self.last_wishes_begun = true;
            self.clients.clear();
            for &member in members {
                for read in [false, true] {
                    let client = self.clients.len();
                    self.clients.push(super::clients::Client::new(member));
                    self.last_wish(client, read);
                }
            }
            return false;
        }
        let unanswered =
            (0..self.clients.len()).filter(|&client| !self.clients[client].is_served());
        let unanswered: Vec<usize> = unanswered.collect();
        for &client in &unanswered {
            if !self.clients[client].is_waiting() {
                let member = members[client / 2 % members.len()];
                self.clients[client].go_to(member);
                self.last_wish(client, client % 2 == 1);
            }
        }
        unanswered.is_empty()
    }

    fn last_wish(&mut self, client: usize, read: bool) {
        let request = match read {
            true => Request::Read(Read::of(Keys::all())),
            false => Request::Transact(Transaction::of(Action::Put {
                key: format!("last-{client}").into(),
                value: "v".into(),
                lease: 0,
            })),
        };
        self.wish(client, Wish::Plain { request, previous: true });
    }

    fn check(&mut self) {
        for id in self.up() {
            self.check_running(id);
            let leases =
                self.machine(id).replicas[0].member().map_or(0, |member| member.lease_count());
            assert_eq!(leases, self.truth.model.leases.len(), "leases of member {id}");
        }
        self.count_outcomes();
        let history = std::mem::take(&mut self.history);
        let history = linearizability::History { seen: self.truth.seen(), ..history };
        match linearizability::check(&history, STEPS_MAX) {
            Verdict::Linearizable => {}
            Verdict::Undecided(why) => {
                self.log(|| why);
                self.report.undecided += 1;
            }
            Verdict::Violation(wrong) => panic!("Linearizability: {wrong}"),
        }
        let watches = self.watches();
        self.report.watches += watches.len();
        let newest = self.truth.revision();
        let truth = self.truth.of_watches();
        watch_history::check_all(&watches, &truth, Some(newest))
            .unwrap_or_else(|wrong| panic!("Watch: {wrong}"));
        self.report.entries += self.truth.compared;
        self.report.leases_expired += self.truth.expired;
        self.report.compactions += self.truth.compactions;
    }
}
