use crate::durability::ceiling_of;
use std::collections::BTreeSet;

use mainstay_raft::{Config, HardState};

use super::*;
use crate::effect::Change;
use crate::record::Record;

fn sequencer() -> Sequencer {
    let node = Node::new(Config {
        id: 1,
        voters: vec![1],
        hard_state: HardState::default(),
        last_index: 0,
        last_term: 0,
        ..Config::default()
    });
    let mut sequencer =
        Sequencer::new(node, 1, |batch| Bytes::from(format!("{} items", batch.items.len())));
    sequencer.campaign();
    sequencer
}

fn effect(revision: Revision) -> Effect {
    let record = Record::new(b"k", b"v", revision, revision, 1, 0);
    Effect { revision, changes: vec![Change { record, previous: None }] }
}

fn revisions(append: &Append) -> (Revision, Revision) {
    (append.batch.revision_before, append.batch.revision_after)
}

#[test]
fn a_term_starts_with_an_empty_entry_that_carries_the_vote() {
    let mut sequencer = sequencer();
    let append = sequencer.pack().expect("the term's first entry");
    assert_eq!((append.batch.index, append.batch.term), (1, 1));
    assert!(append.batch.items.is_empty());
    assert_eq!(append.write.hard_state, Some(HardState { term: 1, vote: 1, commit: 0 }));
    assert!(sequencer.pack().is_none(), "once");
    assert_eq!(sequencer.persisted(1).committed.len(), 1);
    assert!(sequencer.pack().is_none(), "not again when it is committed");
}

#[test]
fn effects_wait_for_the_one_that_is_missing() {
    let mut sequencer = sequencer();
    sequencer.pack();
    sequencer.effect(effect(3));
    sequencer.effect(effect(4));
    assert!(!sequencer.has_work());
    assert!(sequencer.pack().is_none());
    sequencer.effect(effect(2));
    assert_eq!(revisions(&sequencer.pack().expect("no gap now")), (1, 4));
    assert_eq!(sequencer.in_flight(), 2);
}

#[test]
fn a_control_comes_right_behind_the_effect_it_depends_on() {
    let mut sequencer = sequencer();
    sequencer.pack();
    sequencer.control(Control::LeaseRevoke { id: 7 }, 3, 70);
    sequencer.effect(effect(2));
    assert_eq!(sequencer.pack().expect("the effect alone").batch.items.len(), 1);
    sequencer.effect(effect(4));
    sequencer.effect(effect(3));
    let append = sequencer.pack().expect("all three");
    assert!(matches!(
        &append.batch.items[..],
        [Item::Effect(_), Item::Control(Control::LeaseRevoke { id: 7 }), Item::Effect(_)]
    ));
    let committed = sequencer.persisted(append.batch.index).committed;
    assert_eq!(committed.last().expect("three batches").tickets, [70]);
}

#[test]
fn a_batch_is_bounded() {
    let mut sequencer = sequencer();
    sequencer.pack();
    let value = vec![0; limits::ENTRY_BYTES / 2];
    for revision in 2..=4 {
        let record = Record::new(b"k", &value, revision, revision, 1, 0);
        let changes = vec![Change { record, previous: None }];
        sequencer.effect(Effect { revision, changes });
    }
    assert_eq!(revisions(&sequencer.pack().expect("two")), (1, 3));
    assert_eq!(revisions(&sequencer.pack().expect("the rest")), (3, 4));
}

fn put(key: &str, revision: Revision) -> Effect {
    let record = Record::new(key.as_bytes(), b"v", revision, revision, 1, 0);
    Effect { revision, changes: vec![Change { record, previous: None }] }
}

fn relaxed() -> Sequencer {
    let mut sequencer = sequencer();
    sequencer.set_classes(Classes::parse("m=memory,r=replicated").expect("well formed"));
    sequencer.pack();
    sequencer.persisted(1);
    sequencer
}

fn committed(committed: &[Committed]) -> Vec<u64> {
    committed.iter().map(|committed| committed.batch.index).collect()
}

#[test]
fn a_relaxed_batch_is_committed_before_it_is_durable_but_not_before_its_ceiling() {
    let mut sequencer = relaxed();
    sequencer.effect(put("m", 2));
    let first = sequencer.pack().expect("with a ceiling");
    assert_eq!(first.batch.items.len(), 2);
    assert!(committed(&sequencer.commit()).is_empty());
    sequencer.effect(put("m", 3));
    assert_eq!(sequencer.pack().expect("it has a place").batch.items.len(), 1);
    assert!(sequencer.commit().is_empty(), "the ceiling is not durable");
    let progress = sequencer.persisted(2);
    assert_eq!(committed(&progress.committed), [2, 3]);
    assert_eq!(sequencer.in_flight(), 1, "the second is still being written");
    sequencer.effect(put("r", 4));
    sequencer.pack();
    assert!(committed(&sequencer.commit()).is_empty());
    assert_eq!(committed(&sequencer.submitted(4).committed), [4]);
    // What is not relaxed waits for the disk, and so does whatever comes behind it.
    sequencer.effect(put("f", 5));
    sequencer.pack();
    sequencer.effect(put("m", 6));
    sequencer.pack();
    assert!(committed(&sequencer.submitted(6).committed).is_empty());
    assert!(committed(&sequencer.persisted(4).committed).is_empty());
    assert_eq!(committed(&sequencer.persisted(5).committed), [5, 6]);
}

#[test]
fn a_ceiling_is_taken_back_when_nothing_relaxed_is_written() {
    let mut sequencer = relaxed();
    assert!(!sequencer.has_open_ceiling());
    sequencer.effect(put("m", 2));
    sequencer.pack();
    sequencer.persisted(2);
    assert!(sequencer.has_open_ceiling());
    sequencer.close_ceiling();
    assert!(sequencer.has_work());
    let closing = sequencer.pack().expect("the closing ceiling");
    let [Item::Control(control)] = &closing.batch.items[..] else { panic!("{closing:?}") };
    assert_eq!(ceiling_of(control), Some(2));
    // Beyond it nothing is shown, though the old one is still in force on the disk.
    sequencer.effect(put("m", 3));
    let next = sequencer.pack().expect("with a ceiling of its own");
    assert_eq!(next.batch.items.len(), 2);
    assert!(committed(&sequencer.commit()).is_empty());
    assert_eq!(committed(&sequencer.persisted(4).committed), [3, 4]);
}

#[test]
fn relaxed_writes_that_nobody_writes_down_are_bounded() {
    let mut sequencer = relaxed();
    sequencer.effect(put("m", 2));
    sequencer.pack();
    sequencer.persisted(2);
    let value = vec![0; limits::ENTRY_BYTES];
    let most = limits::RELAXED_BYTES / limits::ENTRY_BYTES;
    let mut shown = 0;
    for revision in 3..3 + 2 * most as Revision {
        let record = Record::new(b"m", &value, revision, revision, 1, 0);
        let changes = vec![Change { record, previous: None }];
        sequencer.effect(Effect { revision, changes });
        sequencer.pack();
        shown += sequencer.commit().len();
    }
    assert_eq!(shown, most - 1, "with their overhead");
}

/// Random writes, crashes that lose what is not durable, and restarts.
#[test]
fn what_was_shown_is_in_the_log_or_its_revision_is_never_used_again() {
    let mut lost = 0;
    for seed in 0..500u64 {
        let mut random = crate::mvcc::tests::Random(seed);
        let (mut log, mut shown): (Vec<SharedBatch>, BTreeSet<Revision>) = Default::default();
        let mut used: BTreeSet<Revision> = BTreeSet::new();
        for _life in 0..4 {
            let reached = log.last().map_or(1, |batch| batch.revision_after);
            let controls = log.iter().flat_map(|batch| &batch.items).filter_map(|item| {
                let Item::Control(control) = item else { return None };
                ceiling_of(control)
            });
            let ceiling = controls.last().unwrap_or(0);
            let last = log.last().map_or((0, 0), |batch| (batch.index, batch.term));
            let node = Node::new(Config {
                id: 1,
                voters: vec![1],
                hard_state: HardState { term: last.1, ..HardState::default() },
                last_index: last.0,
                last_term: last.1,
                ..Config::default()
            });
            let mut sequencer = Sequencer::new(node, reached, |_| Bytes::from_static(b"x"));
            sequencer.set_classes(Classes::parse("m=memory,r=replicated").expect("fine"));
            sequencer.campaign();
            let mut revision = reached;
            if let Some(skip) = crate::durability::skip(reached, ceiling) {
                sequencer.skip_to(skip);
                revision = skip;
                // Whoever saw something resumes before what the compaction allows.
                assert!(shown.iter().all(|shown| shown + 1 < skip), "seed {seed}");
            }
            assert!(shown.iter().all(|&shown| shown <= revision), "seed {seed}");
            let mut appended: VecDeque<SharedBatch> = VecDeque::new();
            for _ in 0..random.below(60) {
                let mut committed = Vec::new();
                match random.below(8) {
                    0..3 => {
                        revision += 1;
                        assert!(used.insert(revision), "seed {seed}: {revision} used twice");
                        sequencer.effect(put(["m", "r", "f"][random.below(3)], revision));
                    }
                    3 | 4 if sequencer.may_append(4) => {
                        appended.extend(sequencer.pack().map(|append| append.batch));
                        committed = sequencer.commit();
                    }
                    5 => {
                        let submitted = random.below(appended.len() + 1);
                        let index = submitted.checked_sub(1).map_or(0, |at| appended[at].index);
                        committed = sequencer.submitted(index).committed;
                    }
                    6 => sequencer.close_ceiling(),
                    _ => {
                        let durable = random.below(appended.len() + 1);
                        log.extend(appended.drain(..durable));
                        let index = log.last().map_or(0, |batch| batch.index);
                        if index > last.0 {
                            committed = sequencer.persisted(index).committed;
                        }
                    }
                }
                for committed in committed {
                    let revisions = committed.batch.effects().map(|effect| effect.revision);
                    shown.extend(revisions);
                    if committed.batch.effects().any(|effect| {
                        effect.changes.iter().any(|change| change.record.key() == b"f")
                    }) {
                        let durable = log.last().map_or(0, |batch| batch.index);
                        assert!(committed.batch.index <= durable, "seed {seed}: fsync");
                    }
                }
            }
            // The crash: of what is being written, some may be there.
            let kept = random.below(appended.len() + 1);
            log.extend(appended.drain(..kept));
            let held: BTreeSet<Revision> = log
                .iter()
                .flat_map(|batch| batch.effects().map(|effect| effect.revision))
                .collect();
            lost += shown.difference(&held).count();
            // Those that were never shown may come again.
            used = shown.union(&held).copied().collect();
        }
    }
    assert!(lost > 100, "only {lost} writes were lost");
}

#[test]
#[should_panic(expected = "a revision is used once")]
fn a_revision_is_never_used_twice() {
    let mut sequencer = sequencer();
    sequencer.effect(effect(2));
    sequencer.effect(effect(2));
}
