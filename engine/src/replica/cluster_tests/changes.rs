//! Members come and go while clients write.

use super::*;
use crate::cluster::{MemberChange, MemberUpdate};

impl World {
    fn pass_steps(&mut self, steps: usize) {
        for step in 0..steps {
            if step % 300 == 0 && !self.machines.is_empty() {
                self.ask();
            }
            self.step();
        }
    }

    fn leader(&self) -> u64 {
        self.machines.values().map(|machine| machine.shared.leader()).max().unwrap_or(0)
    }

    /// Asks a member until it is done.
    fn insist(&mut self, request: impl Fn(&World) -> (u64, Request)) -> Outcome {
        for _ in 0..60 {
            let (id, request) = request(self);
            self.changed = None;
            if self.machines.contains_key(&id) {
                self.ask_of(id, request);
            }
            for _ in 0..40 {
                self.pass_steps(1_000);
                if self.changed.is_some() {
                    break;
                }
            }
            match self.changed.take() {
                Some(Err(
                    StoreError::LearnerNotReady(_)
                    | StoreError::LeaderChanged
                    | StoreError::NotLeader
                    | StoreError::TransferTimedOut
                    | StoreError::TimedOut,
                ))
                | None => self.pass_steps(3_000),
                Some(outcome) => return outcome,
            }
        }
        panic!("it is never done: {:?}", self.changed);
    }

    fn change(&mut self, at: u64, change: MemberChange) -> Outcome {
        self.insist(|_| (at, Request::ChangeMember(change.clone())))
    }

    fn add(&mut self, at: u64, id: u64, is_learner: bool) {
        let peer_urls = vec![format!("http://{id}:2380")];
        let outcome = self.change(at, MemberChange::Add { id, peer_urls, is_learner });
        let added = matches!(&outcome, Ok(Answer::Members(members))
            if members.iter().any(|member| member.id == id && member.is_learner == is_learner));
        let exists = matches!(outcome, Err(StoreError::MemberExists(_)));
        assert!(added || exists, "{outcome:?}");
        self.start(id, Disk::default());
        self.voters.push(id);
    }
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed, 1);
    world.pass_steps(5_000);
    world.add(1, 2, true);
    let promoted = world.change(1, MemberChange::Promote { id: 2 });
    assert!(
        matches!(promoted, Ok(Answer::Members(_)) | Err(StoreError::MemberNotLearner(2))),
        "{promoted:?}"
    );
    world.add(1, 3, false);
    world.pass_steps(20_000);
    for (change, expected) in [
        (MemberChange::Remove { id: 9 }, StoreError::MemberNotFound(9)),
        (MemberChange::Promote { id: 3 }, StoreError::MemberNotLearner(3)),
        (
            MemberChange::Add { id: 3, peer_urls: Vec::new(), is_learner: false },
            StoreError::MemberExists(3),
        ),
    ] {
        assert_eq!(world.change(2, change).expect_err("refused"), expected);
    }
    let update = MemberUpdate { id: 3, name: Some("three".into()), ..MemberUpdate::default() };
    world.ask_of(3, Request::UpdateMember(update));
    let moved = world.insist(|world| (world.leader(), Request::MoveLeader { to: 2 }));
    assert!(matches!(moved, Ok(Answer::Done)), "{moved:?}");
    // A leader that stops leaves the lead to another one.
    let leader = world.leader();
    world.act(leader, 0, |replica, now_ms, out| replica.hand_over(now_ms, out));
    for _ in 0..20_000 {
        world.step();
    }
    let removed = world.change(3, MemberChange::Remove { id: 1 });
    assert!(
        matches!(removed, Ok(Answer::Members(_)) | Err(StoreError::MemberNotFound(1))),
        "{removed:?}"
    );
    // The one that is gone has nothing to say any more.
    world.crash(1);
    world.disks.remove(&1);
    world.voters.retain(|&id| id != 1);
    world.pass_steps(10_000);
    // Whoever restarts finds the members in its log.
    world.crash(3);
    world.finish();
    world.check_equal();
    let members = world.machines[&3].member().members();
    assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(members[1].peer_urls, ["http://3:2380"]);
    world
}

#[test]
fn a_member_alone_takes_others_in_and_is_removed_itself() {
    for seed in 300..320 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        outcome.unwrap_or_else(|panic| {
            eprintln!("seed {seed} failed");
            std::panic::resume_unwind(panic)
        });
    }
}
