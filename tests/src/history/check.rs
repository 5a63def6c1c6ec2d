//! Whether a history can be true. Every answer names the revision at which it was given, which puts all calls in one
//! order; so nothing has to be searched for, only compared: this is linearizability with the witness at hand.
//!
//! * The log of changes, as read back at the end, is the truth. Every write that was acknowledged is in it, at its
//!   revision, once and whole; everything in it was asked for by somebody, and nothing that was refused is in it.
//! * Every read is what the log says of its revision. A compare succeeded exactly if the log says so.
//! * A call that began after another one was over has no smaller revision, and a write that has changed something a
//!   larger one. What a watcher was told counts as over.
//! * Every watcher was told exactly the log, from where it began, in order.

use std::collections::BTreeMap;
use std::fmt;

use super::{Call, Change, History, Micros, Operation, Outcome, Pair, Watched};

/// What a history consists of, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub answered: usize,
    pub unknown: usize,
    /// Unknown outcomes of writes that are in the log.
    pub unknown_but_done: usize,
    pub refused: usize,
    pub changes: usize,
    pub watchers_resumed: usize,
    /// Reasons for what was not answered, with their numbers.
    pub reasons: BTreeMap<String, usize>,
    /// The longest time in which nobody was answered.
    pub longest_gap_ms: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} calls answered, {} of unknown outcome ({} of them done), {} refused; {} changes; watchers resumed \
             {} times; longest gap {} ms",
            self.answered,
            self.unknown,
            self.unknown_but_done,
            self.refused,
            self.changes,
            self.watchers_resumed,
            self.longest_gap_ms
        )?;
        self.reasons.iter().try_for_each(|(reason, count)| write!(out, "\n  {count:>6} {reason}"))
    }
}

/// Judges a history.
///
/// # Errors
/// The first thing that cannot be true, with the call that shows it.
pub fn check(history: &History) -> Result<Summary, String> {
    let log = Log::new(&history.changes)?;
    for watched in &history.watched {
        log.check_watcher(watched)?;
    }
    let claims = log.claims(&history.operations)?;
    for operation in &history.operations {
        log.check_answer(operation).map_err(|what| format!("{what}: {operation:?}"))?;
    }
    check_order(history, &claims)?;
    super::replay::replay(history)?;
    Ok(summary(history, &claims))
}

/// The changes by revision, and each key's versions.
struct Log<'a> {
    changes: &'a [Change],
    by_revision: BTreeMap<i64, Vec<&'a Change>>,
    by_key: BTreeMap<&'a str, Vec<&'a Change>>,
}

/// At which revision each operation, by its position, is known to have changed something.
type Claims = BTreeMap<usize, i64>;

impl<'a> Log<'a> {
    fn new(changes: &'a [Change]) -> Result<Log<'a>, String> {
        let mut log = Log { changes, by_revision: BTreeMap::new(), by_key: BTreeMap::new() };
        for pair in changes.windows(2) {
            if pair[0].revision > pair[1].revision {
                return Err(format!("the log of changes is out of order: {pair:?}"));
            }
        }
        for change in changes {
            let versions = log.by_key.entry(&change.key).or_default();
            if versions.last().is_some_and(|last| last.revision >= change.revision) {
                return Err(format!("a key changes twice at one revision: {change:?}"));
            }
            versions.push(change);
            log.by_revision.entry(change.revision).or_default().push(change);
        }
        Ok(log)
    }

    /// The key as of `revision`: when it was modified, and its value.
    fn at(&self, key: &str, revision: i64) -> Option<Pair> {
        let versions = self.by_key.get(key)?;
        let newer = versions.partition_point(|change| change.revision <= revision);
        let change = versions.get(newer.checked_sub(1)?)?;
        let value = change.value.clone()?;
        let lives = versions[..newer].iter().rev().take_while(|change| change.value.is_some());
        let (version, made) = lives.fold((0, 0), |(count, _), change| (count + 1, change.revision));
        Some(Pair { key: key.to_owned(), value, created: made, modified: change.revision, version })
    }

    fn all_at(&self, revision: i64) -> Vec<Pair> {
        self.by_key.keys().filter_map(|key| self.at(key, revision)).collect()
    }

    fn check_watcher(&self, watched: &Watched) -> Result<(), String> {
        let who = format!("the watcher that began on member {}", watched.member);
        if let Some(wrong) = &watched.wrong {
            return Err(format!("{who}: {wrong}"));
        }
        let first = self.changes.partition_point(|change| change.revision < watched.from);
        let expected = &self.changes[first..];
        for (position, (told, _)) in watched.changes.iter().enumerate() {
            if expected.get(position) != Some(told) {
                return Err(format!(
                    "{who} was told {told:?}, where the log has {:?}",
                    expected.get(position)
                ));
            }
        }
        Ok(())
    }

    /// Which operation made which revision; everything in the log must have been asked for.
    fn claims(&self, operations: &[Operation]) -> Result<Claims, String> {
        let mut claims = Claims::new();
        let mut owners: BTreeMap<i64, usize> = BTreeMap::new();
        for (position, operation) in operations.iter().enumerate() {
            let Outcome::Done { revision, changed: true, .. } = operation.outcome else { continue };
            if let Some(other) = owners.insert(revision, position) {
                let other = &operations[other];
                return Err(format!("two writes of one revision: {operation:?} and {other:?}"));
            }
            claims.insert(position, revision);
        }
        let by_value: BTreeMap<&str, usize> = operations
            .iter()
            .enumerate()
            .filter_map(|(position, operation)| Some((operation.call.value()?, position)))
            .collect();
        let mut deletions = UnknownDeletions::of(operations);
        for (revision, changes) in &self.by_revision {
            if owners.contains_key(revision) {
                continue;
            }
            let owner = match &changes[0].value {
                Some(value) => by_value.get(value.as_str()).copied(),
                None => deletions.take(&changes[0].key, *revision),
            };
            let Some(owner) = owner else {
                return Err(format!("nobody asked for what happened at {revision}: {changes:?}"));
            };
            let operation = &operations[owner];
            if !matches!(operation.outcome, Outcome::Unknown(_)) {
                return Err(format!(
                    "{changes:?} is of a call that did something else: {operation:?}"
                ));
            }
            if claims.insert(owner, *revision).is_some() {
                return Err(format!("done twice, the second time at {revision}: {operation:?}"));
            }
            self.check_change(&operation.call, *revision)
                .map_err(|what| format!("{what}: {operation:?}"))?;
        }
        Ok(claims)
    }

    /// Whether the log has exactly this write at this revision, and for compares, whether it should have been made.
    fn check_change(&self, call: &Call, revision: i64) -> Result<(), String> {
        let put = |key: &String, value: &String| Change {
            revision,
            key: key.clone(),
            value: Some(value.clone()),
        };
        let expected = match call {
            Call::Put { key, value } | Call::CompareAndPut { key, value, .. } => {
                vec![put(key, value)]
            }
            Call::PutTwo { keys, value } => keys.iter().map(|key| put(key, value)).collect(),
            Call::Delete { key } => vec![Change { revision, key: key.clone(), value: None }],
            Call::Get { .. } | Call::List { .. } => {
                return Err("a read changed something".to_owned());
            }
        };
        let found = self.by_revision.get(&revision).cloned().unwrap_or_default();
        if found.len() != expected.len() || !expected.iter().all(|one| found.contains(&one)) {
            return Err(format!("acknowledged, but the log has {found:?} at {revision}"));
        }
        let before = |key: &str| self.at(key, revision - 1).map_or(0, |pair| pair.modified);
        match call {
            Call::CompareAndPut { key, expected, .. } if before(key) != *expected => {
                Err(format!("the compare held, but the key was modified at {}", before(key)))
            }
            Call::Delete { key } if before(key) == 0 => Err("it deleted nothing".to_owned()),
            _ => Ok(()),
        }
    }

    fn check_answer(&self, operation: &Operation) -> Result<(), String> {
        let Outcome::Done { revision, changed, pairs } = &operation.outcome else { return Ok(()) };
        if *changed {
            return self.check_change(&operation.call, *revision);
        }
        let expected = match &operation.call {
            Call::List { .. } => self.all_at(*revision),
            Call::Get { key, .. } | Call::CompareAndPut { key, .. } | Call::Delete { key } => {
                self.at(key, *revision).into_iter().collect()
            }
            Call::Put { .. } | Call::PutTwo { .. } => {
                return Err("a put changed nothing".to_owned());
            }
        };
        match &operation.call {
            Call::Delete { .. } if !expected.is_empty() => {
                Err(format!("it found nothing to delete, but there was {expected:?}"))
            }
            Call::Delete { .. } => Ok(()),
            Call::CompareAndPut { expected: compared, .. }
                if expected.first().map_or(0, |pair| pair.modified) == *compared =>
            {
                Err("the compare failed, but it holds".to_owned())
            }
            _ if *pairs != expected => Err(format!("the log says {expected:?} of that revision")),
            _ => Ok(()),
        }
    }
}

/// Deletions name no value: one of unknown outcome may be any deletion of its key that came after it was asked for.
struct UnknownDeletions<'a> {
    operations: &'a [Operation],
    by_key: BTreeMap<&'a str, Vec<usize>>,
    floors: Vec<i64>,
}

impl<'a> UnknownDeletions<'a> {
    fn of(operations: &'a [Operation]) -> UnknownDeletions<'a> {
        let mut by_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (position, operation) in operations.iter().enumerate() {
            if let (Call::Delete { key }, Outcome::Unknown(_)) =
                (&operation.call, &operation.outcome)
            {
                by_key.entry(key).or_default().push(position);
            }
        }
        let over = over(operations.iter(), [].iter());
        let floors = operations.iter().map(|one| floor(&over, one.invoked).0).collect();
        UnknownDeletions { operations, by_key, floors }
    }

    /// One that may have been at `revision`. Asked for growing revisions: whatever fits one fits the next, too.
    fn take(&mut self, key: &str, revision: i64) -> Option<usize> {
        let waiting = self.by_key.get_mut(key)?;
        let fits = waiting.iter().position(|position| self.floors[*position] < revision)?;
        debug_assert!(waiting[fits] < self.operations.len());
        Some(waiting.remove(fits))
    }
}

/// When something was over, and the largest revision that it and all that was over before it showed.
type Over = Vec<(Micros, i64)>;

fn over<'a>(
    operations: impl Iterator<Item = &'a Operation>,
    watched: impl Iterator<Item = &'a Watched>,
) -> Over {
    let answered = operations.filter_map(|operation| match operation.outcome {
        Outcome::Done { revision, .. } => Some((operation.returned, revision)),
        _ => None,
    });
    let told = watched.flat_map(|watched| &watched.changes).map(|(one, at)| (*at, one.revision));
    let mut over: Over = answered.chain(told).collect();
    over.sort_unstable();
    let mut largest = 0;
    for (_, revision) in &mut over {
        largest = largest.max(*revision);
        *revision = largest;
    }
    over
}

/// The largest revision that was shown to anybody before this time, and how much was over by then.
fn floor(over: &Over, before: Micros) -> (i64, usize) {
    let count = over.partition_point(|(at, _)| *at < before);
    (count.checked_sub(1).map_or(0, |last| over[last].1), count)
}

/// Real time: what began after something was over knows of it.
fn check_order(history: &History, claims: &Claims) -> Result<(), String> {
    let over = over(history.operations.iter(), history.watched.iter());
    for (position, operation) in history.operations.iter().enumerate() {
        let (floor, _) = floor(&over, operation.invoked);
        if let Some(changed_at) = claims.get(&position) {
            if *changed_at <= floor {
                return Err(format!(
                    "it changed something at {changed_at}, but {floor} was shown before it began: {operation:?}"
                ));
            }
        } else if let Outcome::Done { revision, .. } = operation.outcome
            && operation.call.is_linearizable()
            && revision < floor
        {
            return Err(format!("stale: {floor} was shown before it began: {operation:?}"));
        }
    }
    Ok(())
}

fn summary(history: &History, claims: &Claims) -> Summary {
    let mut summary = Summary {
        changes: history.changes.len(),
        watchers_resumed: history.watched.iter().map(|watched| watched.resumed).sum(),
        ..Summary::default()
    };
    let mut answers = Vec::new();
    for (position, operation) in history.operations.iter().enumerate() {
        match &operation.outcome {
            Outcome::Done { .. } => {
                summary.answered += 1;
                answers.push(operation.returned);
                continue;
            }
            Outcome::Unknown(_) if !operation.call.writes() => {}
            Outcome::Unknown(_) => {
                summary.unknown += 1;
                summary.unknown_but_done += usize::from(claims.contains_key(&position));
            }
            Outcome::Refused(_) => summary.refused += 1,
        }
        if let Outcome::Unknown(reason) | Outcome::Refused(reason) = &operation.outcome {
            *summary.reasons.entry(reason.clone()).or_default() += 1;
        }
    }
    answers.sort_unstable();
    let gaps = answers.windows(2).map(|pair| pair[1] - pair[0]);
    summary.longest_gap_ms = gaps.max().unwrap_or_default() / 1000;
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> String {
        "/history/1".to_owned()
    }

    fn operation(times: [Micros; 2], call: Call, outcome: Outcome) -> Operation {
        let [invoked, returned] = times;
        Operation { client: 0, member: 0, call, invoked, returned, outcome }
    }

    /// The key is made at 2 and not again.
    fn done(revision: i64, changed: bool, pairs: &[(&str, i64)]) -> Outcome {
        let pair = |(value, modified): &(&str, i64)| Pair {
            key: key(),
            value: (*value).to_owned(),
            created: 2,
            modified: *modified,
            version: modified - 1,
        };
        Outcome::Done { revision, changed, pairs: pairs.iter().map(pair).collect() }
    }

    fn put(value: &str) -> Call {
        Call::Put { key: key(), value: value.to_owned() }
    }

    fn get(serializable: bool) -> Call {
        Call::Get { key: key(), serializable }
    }

    fn compare(expected: i64, value: &str) -> Call {
        Call::CompareAndPut { key: key(), expected, value: value.to_owned() }
    }

    fn change(revision: i64, value: Option<&str>) -> Change {
        Change { revision, key: key(), value: value.map(str::to_owned) }
    }

    fn watched(changes: &[(Change, Micros)]) -> Watched {
        Watched { from: 1, changes: changes.to_vec(), ..Watched::default() }
    }

    /// a at 2, b at 3, deleted at 4; the outcome of b was unknown.
    fn good() -> History {
        let lost = || Outcome::Unknown("lost".to_owned());
        let changes = vec![change(2, Some("a")), change(3, Some("b")), change(4, None)];
        let told = [(changes[0].clone(), 15), (changes[1].clone(), 35), (changes[2].clone(), 55)];
        History {
            operations: vec![
                operation([0, 10], put("a"), done(2, true, &[])),
                operation([11, 20], get(false), done(2, false, &[("a", 2)])),
                operation([21, 90], put("b"), lost()),
                operation([21, 30], get(true), done(2, false, &[("a", 2)])),
                operation([31, 40], compare(2, "c"), done(3, false, &[("b", 3)])),
                operation([41, 50], Call::Delete { key: key() }, done(4, true, &[])),
                operation([41, 50], put("never"), Outcome::Refused("no".to_owned())),
                operation([51, 60], get(false), done(4, false, &[])),
                operation([51, 60], get(true), done(3, false, &[("b", 3)])),
            ],
            changes,
            watched: vec![watched(&told)],
        }
    }

    #[test]
    fn what_can_be_true_is_let_through() {
        let summary = check(&good()).expect("a good history");
        assert_eq!((summary.answered, summary.unknown, summary.unknown_but_done), (7, 1, 1));
        assert_eq!((summary.refused, summary.changes), (1, 3));
    }

    #[test]
    fn every_lie_is_noticed() {
        type Lie = (&'static str, fn(&mut History));
        let lies: [Lie; 16] = [
            ("stale", |all| all.operations[7].outcome = done(3, false, &[("b", 3)])),
            ("the log says", |all| all.operations[1].outcome = done(2, false, &[])),
            ("the log says", |all| all.operations[8].outcome = done(3, false, &[("a", 2)])),
            ("but it holds", |all| all.operations[4].call = compare(3, "c")),
            ("the log has", |all| {
                // An acknowledged write is lost.
                all.changes.remove(0);
                all.watched.clear();
            }),
            ("did something else", |all| {
                // A refused one was done.
                all.changes.push(change(5, Some("never")));
            }),
            ("nobody asked", |all| all.changes.push(change(5, None))),
            ("done twice", |all| all.changes.push(change(5, Some("b")))),
            ("two writes of one revision", |all| {
                all.operations[5].outcome = done(2, true, &[]);
            }),
            ("was told", |all| drop(all.watched[0].changes.remove(1))),
            ("was told", |all| all.watched[0].changes.swap(0, 1)),
            ("was told", |all| {
                let again = all.watched[0].changes[0].clone();
                all.watched[0].changes.insert(0, again);
            }),
            ("shown before it began", |all| {
                // It was asked for only after it had been seen.
                all.operations[2].invoked = 45;
            }),
            ("stale", |all| all.watched[0].changes[2].1 = 5),
            ("it deleted nothing", |all| {
                all.operations.push(operation(
                    [61, 70],
                    Call::Delete { key: key() },
                    done(5, true, &[]),
                ));
                all.changes.push(change(5, None));
            }),
            ("nothing to delete", |all| {
                all.operations.push(operation(
                    [11, 20],
                    Call::Delete { key: key() },
                    done(2, false, &[]),
                ));
            }),
        ];
        for (expected, lie) in lies {
            let mut history = good();
            lie(&mut history);
            let found = check(&history).expect_err(expected);
            assert!(found.contains(expected), "{found}, not {expected}");
        }
    }

    #[test]
    fn deletions_of_unknown_outcome_are_given_to_those_that_fit() {
        let deletion = |invoked| {
            let outcome = Outcome::Unknown("lost".to_owned());
            operation([invoked, 99], Call::Delete { key: key() }, outcome)
        };
        let history = |invoked| History {
            operations: vec![
                operation([0, 1], put("a"), done(2, true, &[])),
                deletion(invoked),
                operation([4, 5], put("b"), done(4, true, &[])),
            ],
            changes: vec![change(2, Some("a")), change(3, None), change(4, Some("b"))],
            watched: Vec::new(),
        };
        assert!(check(&history(2)).is_ok());
        let found = check(&history(6)).expect_err("asked for after 4 was shown");
        assert!(found.contains("nobody asked"), "{found}");
    }
}
