//! Whether watchers saw what they had to: plain data in, a complaint out. In order, nothing twice, nothing
//! left out, the changes of one revision together, the version before as it was, and never told to
//! have seen what they have not. Simulations and tests of real processes use the same.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::linearizability::history::{Keys, Revision, Seen, Version};

/// What was changed at each revision, by whatever is trusted most: a log, or a watcher of everything.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// The changes of a revision in their order.
    pub changes: BTreeMap<Revision, Vec<Seen>>,
    /// What lived before the first of these.
    pub start: Vec<Version>,
    /// Up to where history was forgotten in the end; 0 for not at all.
    pub compacted: Revision,
}

/// What one client wanted to see, and what it was told, in order.
#[derive(Debug, Clone)]
pub struct Watch {
    pub keys: Keys,
    /// The first revision that it wanted to see.
    pub start_revision: Revision,
    /// It wanted to know what was there before.
    pub previous: bool,
    pub no_put: bool,
    pub no_delete: bool,
    pub told: Vec<Told>,
}

/// What a watcher is told in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Events(Vec<Event>),
    /// It has seen everything up to this revision.
    Progress(Revision),
    /// Its connection broke, and it began again from this revision on, perhaps at another member.
    Again {
        from: Revision,
    },
    /// What it wants to see next was forgotten. It sees nothing more.
    Compacted(Revision),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub revision: Revision,
    pub seen: Seen,
    pub previous: Option<Version>,
}

/// Checks what a watcher was told. `until`: it was given time to see everything up to here.
///
/// # Errors
/// What was wrong first.
pub fn check(watch: &Watch, truth: &Truth, until: Option<Revision>) -> Result<(), String> {
    check_all(std::slice::from_ref(watch), truth, until)
}

/// Checks many watchers.
///
/// # Errors
/// What was wrong first.
pub fn check_all(watches: &[Watch], truth: &Truth, until: Option<Revision>) -> Result<(), String> {
    let history = Versions::of(truth);
    for (number, watch) in watches.iter().enumerate() {
        let mut cursor = Cursor { watch, truth, history: &history, next: watch.start_revision };
        cursor
            .run(until)
            .map_err(|wrong| format!("watch {number} of {:?}: {wrong}", watch.keys))?;
    }
    Ok(())
}

/// All versions of every key, oldest first; `None` for its end.
struct Versions(HashMap<Bytes, Vec<(Revision, Option<Version>)>>);

impl Versions {
    fn of(truth: &Truth) -> Versions {
        let mut keys: HashMap<Bytes, Vec<(Revision, Option<Version>)>> = HashMap::new();
        for version in &truth.start {
            let key = version.key.clone();
            keys.entry(key).or_default().push((version.mod_revision, Some(version.clone())));
        }
        for (revision, changes) in &truth.changes {
            for seen in changes {
                let (key, version) = match seen {
                    Seen::Put(version) => (&version.key, Some(version.clone())),
                    Seen::Deleted(key) => (key, None),
                };
                keys.entry(key.clone()).or_default().push((*revision, version));
            }
        }
        Versions(keys)
    }

    /// What lived right before a revision.
    fn before(&self, key: &[u8], revision: Revision) -> Option<&Version> {
        let versions = self.0.get(key)?;
        let after = versions.partition_point(|(at, _)| *at < revision);
        versions[after.checked_sub(1)?].1.as_ref()
    }
}

struct Cursor<'a> {
    watch: &'a Watch,
    truth: &'a Truth,
    history: &'a Versions,
    /// The first revision that it was not told of.
    next: Revision,
}

impl Cursor<'_> {
    fn run(&mut self, until: Option<Revision>) -> Result<(), String> {
        for (number, told) in self.watch.told.iter().enumerate() {
            match told {
                Told::Events(events) => self.events(events)?,
                Told::Progress(revision) => self.progress(*revision)?,
                Told::Again { from } if *from > self.next => {
                    return Err(format!("the client left out {} to {from}", self.next));
                }
                // What it saw already it sees again, if that is what it asks for.
                Told::Again { from } => self.next = *from,
                Told::Compacted(compacted) => {
                    let last = number + 1 == self.watch.told.len();
                    return self.compacted(*compacted, last);
                }
            }
        }
        match until {
            Some(until) => self.seen_all(until).map_err(|missed| format!("never saw {missed}")),
            None => Ok(()),
        }
    }

    fn wanted(&self, seen: &Seen) -> bool {
        let (key, unwanted) = match seen {
            Seen::Put(version) => (&version.key, self.watch.no_put),
            Seen::Deleted(key) => (key, self.watch.no_delete),
        };
        !unwanted && self.watch.keys.contains(key)
    }

    /// Whether nothing up to a revision is missing.
    fn seen_all(&self, upto: Revision) -> Result<(), String> {
        if upto < self.next {
            return Ok(());
        }
        for (revision, changes) in self.truth.changes.range(self.next..=upto) {
            if let Some(missed) = changes.iter().find(|seen| self.wanted(seen)) {
                return Err(format!("{missed:?} of revision {revision}"));
            }
        }
        Ok(())
    }

    fn events(&mut self, events: &[Event]) -> Result<(), String> {
        let mut events = events.iter().peekable();
        while let Some(first) = events.peek() {
            let revision = first.revision;
            if revision < self.next {
                let next = self.next;
                return Err(format!("{first:?} comes when everything before {next} was told"));
            }
            self.seen_all(revision - 1)
                .map_err(|missed| format!("{first:?} comes before {missed}"))?;
            let changes = self.truth.changes.get(&revision).map_or(&[][..], Vec::as_slice);
            for seen in changes.iter().filter(|seen| self.wanted(seen)) {
                let event = events.next_if(|event| event.revision == revision);
                let event = event.ok_or_else(|| {
                    format!(
                        "of revision {revision} it was not told together with the rest: {seen:?}"
                    )
                })?;
                if event.seen != *seen {
                    return Err(format!("{event:?}, and it should be {seen:?}"));
                }
                self.check_previous(event)?;
            }
            if let Some(event) = events.next_if(|event| event.revision == revision) {
                return Err(format!("{event:?} never happened, or is told twice"));
            }
            self.next = revision + 1;
        }
        Ok(())
    }

    fn check_previous(&self, event: &Event) -> Result<(), String> {
        let key = match &event.seen {
            Seen::Put(version) => &version.key,
            Seen::Deleted(key) => key,
        };
        let lived = self.history.before(key, event.revision);
        let right = match &event.previous {
            None => {
                !self.watch.previous || lived.is_none() || event.revision - 1 < self.truth.compacted
            }
            Some(previous) => self.watch.previous && lived == Some(previous),
        };
        if right { Ok(()) } else { Err(format!("{event:?}, and before it there was {lived:?}")) }
    }

    fn progress(&mut self, revision: Revision) -> Result<(), String> {
        self.seen_all(revision).map_err(|missed| {
            format!("told to have seen everything up to {revision}, and had not seen {missed}")
        })?;
        self.next = self.next.max(revision + 1);
        Ok(())
    }

    fn compacted(&self, compacted: Revision, last: bool) -> Result<(), String> {
        if !last {
            return Err("told of more after its history was compacted".to_owned());
        }
        if compacted > self.truth.compacted {
            return Err(format!("nobody compacted to {compacted}"));
        }
        if self.next >= compacted {
            return Err(format!("compacted to {compacted}, and it wanted to see {}", self.next));
        }
        Ok(())
    }
}
