//! Fields that an apply would change although others own them.

use std::fmt;

use super::field_set::FieldSet;
use super::managed::{Entry, ManagerKey};

/// One field and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The owner as messages name it: `"kubectl" using v1`.
    pub manager: String,
    /// The field as messages name it: `.data.key`.
    pub path: String,
}

impl Conflict {
    /// The reason of the status cause.
    pub const CAUSE: &'static str = "FieldManagerConflict";

    /// The message of the status cause; its field is the path.
    pub fn cause_message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

/// All conflicts of one apply, those of one owner together. Displayed, it is the message of the
/// 409 answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicts {
    owners: Vec<(String, FieldSet)>,
}

impl Conflicts {
    /// What each of the entries owns of the set.
    pub(super) fn between<'a>(
        entries: impl Iterator<Item = (&'a ManagerKey, &'a Entry)>,
        changed: &FieldSet,
    ) -> Conflicts {
        let owners = entries
            .map(|(key, entry)| (key.to_string(), entry.set.intersection(changed)))
            .filter(|(_, set)| !set.is_empty());
        Conflicts { owners: owners.collect() }
    }

    /// The conflicts on other fields than these.
    pub(super) fn without(&self, allowed: &FieldSet) -> Conflicts {
        let mut left = self.clone();
        for (_, set) in &mut left.owners {
            set.subtract(allowed);
        }
        left.owners.retain(|(_, set)| !set.is_empty());
        left
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// One by one, for the causes of the status.
    pub fn list(&self) -> Vec<Conflict> {
        let of_owner = |(manager, set): &(String, FieldSet)| {
            let conflict = |path| Conflict { manager: manager.clone(), path };
            set.paths().into_iter().map(conflict).collect::<Vec<_>>()
        };
        self.owners.iter().flat_map(of_owner).collect()
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conflicts = self.list();
        if let [conflict] = conflicts.as_slice() {
            return write!(
                f,
                "Apply failed with 1 conflict: {}: {}",
                conflict.cause_message(),
                conflict.path
            );
        }
        let lines: Vec<String> = self
            .owners
            .iter()
            .flat_map(|(manager, set)| {
                let title = format!("conflicts with {manager}:");
                let paths = set.paths().into_iter().map(|path| format!("- {path}"));
                std::iter::once(title).chain(paths)
            })
            .collect();
        write!(f, "Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
    }
}
