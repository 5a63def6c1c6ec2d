//! Does a history once more, revision by revision. Which operation made a revision is mostly known
//! from its answer; what is left are those without an answer, among which a search finds.

use std::collections::{BTreeMap, HashSet};

use super::Verdict;
use super::evidence::Evidence;
use super::history::{History, Operation, Outcome, Request, Revision};
use super::state::State;

/// What is known to belong to a revision.
#[derive(Default)]
struct Slot {
    /// The operation whose answer says that it made this revision.
    write: Option<usize>,
    /// Those that saw the store at this revision.
    reads: Vec<usize>,
}

/// A revision that several operations may have made.
struct Choice {
    revision: Revision,
    before: State,
    used: Used,
    /// Operations that were not tried yet.
    left: Vec<usize>,
}

/// Which of the operations without an answer have had their place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Used(Vec<u64>);

impl Used {
    fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    fn insert(&mut self, number: usize) {
        if self.0.len() <= number / 64 {
            self.0.resize(number / 64 + 1, 0);
        }
        self.0[number / 64] |= 1 << (number % 64);
    }
}

pub(super) struct Replay<'a> {
    history: &'a History,
    floors: &'a [Revision],
    evidence: Evidence,
    slots: BTreeMap<Revision, Slot>,
    /// Operations without an answer.
    unknown: Vec<usize>,
    state: State,
    used: Used,
    choices: Vec<Choice>,
    /// From where no way led to the end.
    failed: HashSet<(Revision, Used, State)>,
    steps_left: usize,
    /// The newest revision that could not be explained, and why.
    complaint: (Revision, String),
}

impl<'a> Replay<'a> {
    /// `floors`: see [`super::order::floors`].
    pub(super) fn new(
        history: &'a History,
        floors: &'a [Revision],
        steps_max: usize,
    ) -> Replay<'a> {
        let mut slots: BTreeMap<Revision, Slot> = BTreeMap::new();
        let mut unknown = Vec::new();
        for (number, operation) in history.operations.iter().enumerate() {
            let Operation { request, outcome, .. } = operation;
            match outcome {
                Outcome::Refused => {}
                Outcome::Unknown if matches!(request, Request::Read(_)) => {}
                Outcome::Unknown => unknown.push(number),
                Outcome::Answered { response, .. } => {
                    let newest = slots.entry(response.revision()).or_default();
                    match request {
                        Request::Transact(_) if response.wrote() => newest.write = Some(number),
                        Request::Read(read) if read.revision > 0 => {
                            slots.entry(read.revision).or_default().reads.push(number);
                        }
                        _ => newest.reads.push(number),
                    }
                }
            }
        }
        Replay {
            history,
            floors,
            evidence: Evidence::of(history),
            slots,
            unknown,
            state: State::of(&history.start),
            used: Used::default(),
            choices: Vec::new(),
            failed: HashSet::new(),
            steps_left: steps_max,
            complaint: (0, String::new()),
        }
    }

    /// Looks for an order of everything that explains every answer.
    pub(super) fn run(mut self) -> Verdict {
        let start = self.history.start_revision;
        let newest = self.slots.last_key_value().map_or(start, |(revision, _)| *revision);
        let newest = newest.max(self.evidence.newest());
        if let Err(wrong) = self.check_reads(start) {
            return Verdict::Violation(wrong);
        }
        let mut revision = start + 1;
        while revision <= newest {
            let Some(steps) = self.steps_left.checked_sub(1) else {
                let (at, why) = self.complaint;
                return Verdict::Undecided(format!("too many ways; the best ends at {at}: {why}"));
            };
            self.steps_left = steps;
            let write = self.slots.get(&revision).and_then(|slot| slot.write);
            let made = match write {
                Some(number) => self.known(number, revision),
                None => self.choose(revision),
            };
            match made.and_then(|()| self.check_reads(revision)) {
                Ok(()) => revision += 1,
                Err(wrong) => {
                    if revision >= self.complaint.0 {
                        self.complaint = (revision, wrong);
                    }
                    match self.back() {
                        Some(next) => revision = next,
                        None => return Verdict::Violation(self.complaint.1),
                    }
                }
            }
        }
        Verdict::Linearizable
    }

    /// The state moves on by an operation whose answer is known.
    fn known(&mut self, number: usize, revision: Revision) -> Result<(), String> {
        let operation = &self.history.operations[number];
        let Outcome::Answered { response, .. } = &operation.outcome else {
            unreachable!("only answers are in slots")
        };
        let changed = self
            .state
            .step(&operation.request, response, revision)
            .map_err(|wrong| format!("{wrong}\nat revision {revision}: {operation:?}"))?;
        self.evidence
            .allows(revision, &changed, &self.state)
            .map_err(|wrong| format!("{wrong}, and it was made by {operation:?}"))
    }

    /// The state moves on by the first operation without an answer that could have made a revision.
    fn choose(&mut self, revision: Revision) -> Result<(), String> {
        let key = (revision, self.used.clone(), self.state.clone());
        if self.failed.contains(&key) {
            return Err(self.complaint.1.clone());
        }
        let (_, used, before) = key;
        let could = |&number: &usize| self.floors[number] < revision && !used.contains(number);
        // The oldest first: they are taken from the end.
        let left: Vec<usize> = self.unknown.iter().copied().filter(could).rev().collect();
        self.choices.push(Choice { revision, before, used, left });
        self.next_choice()
    }

    fn next_choice(&mut self) -> Result<(), String> {
        let choice = self.choices.last_mut().expect("there is a choice");
        let revision = choice.revision;
        let mut why = format!("nobody made revision {revision}");
        while let Some(number) = choice.left.pop() {
            self.steps_left = self.steps_left.saturating_sub(1);
            let Request::Transact(transaction) = &self.history.operations[number].request else {
                continue;
            };
            let mut state = choice.before.clone();
            let (changed, _) = state.transact(transaction, revision);
            if changed.is_empty() {
                continue;
            }
            match self.evidence.allows(revision, &changed, &state) {
                Ok(()) => {
                    self.state = state;
                    self.used = choice.used.clone();
                    self.used.insert(number);
                    return Ok(());
                }
                Err(wrong) => why = format!("nobody made revision {revision}: {wrong}"),
            }
        }
        Err(why)
    }

    /// Takes the newest choice that can be made in another way. Gives the revision to go on with.
    fn back(&mut self) -> Option<Revision> {
        while let Some(choice) = self.choices.last() {
            let revision = choice.revision;
            let made = self.next_choice().and_then(|()| self.check_reads(revision));
            match made {
                Ok(()) => return Some(revision + 1),
                Err(wrong) if revision >= self.complaint.0 => self.complaint = (revision, wrong),
                Err(_) => {}
            }
            let spent = self.choices.last().is_some_and(|choice| choice.left.is_empty());
            if spent && let Some(Choice { revision, before, used, .. }) = self.choices.pop() {
                self.failed.insert((revision, used, before));
            }
            if self.steps_left == 0 {
                return Some(revision);
            }
        }
        None
    }

    /// Whether everything that saw this revision saw this state.
    fn check_reads(&mut self, revision: Revision) -> Result<(), String> {
        let Some(slot) = self.slots.get(&revision) else { return Ok(()) };
        for &number in &slot.reads {
            let operation = &self.history.operations[number];
            let Outcome::Answered { response, .. } = &operation.outcome else { continue };
            // It changes nothing, or the answer is wrong.
            let step = self.state.step(&operation.request, response, revision);
            step.map_err(|wrong| format!("{wrong}\nat revision {revision}: {operation:?}"))?;
        }
        Ok(())
    }
}
