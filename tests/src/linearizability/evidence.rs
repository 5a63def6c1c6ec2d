//! What answers and watchers betray of revisions whose makers are not known: the search for these
//! tries little that could not be.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::history::{Effect, History, Outcome, Request, Response, Revision, Seen, Version};
use super::state::State;

/// Facts about revisions.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    changes: BTreeMap<Revision, Vec<Seen>>,
    /// By key: behind the first and up to the second revision nothing changed it.
    quiet: HashMap<Bytes, Vec<(Revision, Revision)>>,
}

impl Evidence {
    pub(super) fn of(history: &History) -> Evidence {
        let mut evidence = Evidence::default();
        for (revision, seen) in &history.seen {
            evidence.change(*revision, seen.clone());
        }
        for operation in &history.operations {
            if let Outcome::Answered { response, .. } = &operation.outcome {
                evidence.answer(&operation.request, response);
            }
        }
        evidence
    }

    fn answer(&mut self, request: &Request, response: &Response) {
        match (request, response) {
            (Request::Read(read), Response::Read(found)) => {
                let at = if read.revision > 0 { read.revision } else { found.revision };
                found.versions.iter().for_each(|version| self.lived(version, at));
            }
            (_, Response::Transact(done)) => {
                let before = done.revision - Revision::from(response.wrote());
                let versions = done.results.iter().flat_map(|result| match result {
                    Effect::Put { previous: Some(Some(version)) } => std::slice::from_ref(version),
                    Effect::Deleted { previous: Some(versions), .. } => versions,
                    _ => &[],
                });
                // What an earlier action of the same transaction put has its own revision.
                let versions = versions.filter(|version| version.mod_revision <= before);
                versions.for_each(|version| self.lived(version, before));
            }
            _ => {}
        }
    }

    /// Somebody saw this version at a revision.
    fn lived(&mut self, version: &Version, at: Revision) {
        self.change(version.mod_revision, Seen::Put(version.clone()));
        let quiet = self.quiet.entry(version.key.clone()).or_default();
        let (from, to) = (version.mod_revision, at);
        match quiet.iter_mut().find(|(known, _)| *known == from) {
            Some((_, until)) => *until = to.max(*until),
            None => quiet.push((from, to)),
        }
    }

    fn change(&mut self, revision: Revision, seen: Seen) {
        let changes = self.changes.entry(revision).or_default();
        if !changes.contains(&seen) {
            changes.push(seen);
        }
    }

    /// The newest revision that anybody saw.
    pub(super) fn newest(&self) -> Revision {
        self.changes.last_key_value().map_or(0, |(revision, _)| *revision)
    }

    /// Whether nothing speaks against these keys having changed at a revision, after which the store
    /// is in this state.
    ///
    /// # Errors
    /// What does.
    pub(super) fn allows(
        &self,
        revision: Revision,
        changed: &[Bytes],
        state: &State,
    ) -> Result<(), String> {
        for seen in self.changes.get(&revision).map_or(&[][..], Vec::as_slice) {
            let fits = match seen {
                Seen::Put(version) => {
                    changed.contains(&version.key) && state.get(&version.key) == Some(version)
                }
                Seen::Deleted(key) => changed.contains(key) && state.get(key).is_none(),
            };
            if !fits {
                return Err(format!("somebody saw {seen:?} at revision {revision}"));
            }
        }
        for key in changed {
            let quiet = self.quiet.get(key).map_or(&[][..], Vec::as_slice);
            if let Some((from, to)) =
                quiet.iter().find(|(from, to)| *from < revision && revision <= *to)
            {
                return Err(format!(
                    "{key:?} is changed at {revision}, and somebody saw at {to} that {from} was the \
                     last change"
                ));
            }
        }
        Ok(())
    }
}
