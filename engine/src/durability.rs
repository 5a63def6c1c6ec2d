//! What an answer waits for, by the prefix of the keys written. See docs/durability.md.

use bytes::Bytes;

use crate::effect::{Control, Effect};
use crate::record::Revision;

/// The ceiling is kept as a document of this name: it is in snapshots, too, then.
pub const CEILING: &[u8] = b"revision-ceiling";

/// When a write may be shown and answered; from the loosest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// When it has its place in the order.
    Memory,
    /// When a quorum has it in memory, and here its write was handed to the kernel.
    Replicated,
    /// When it is durable, and everything before it.
    Fsync,
}

/// The classes of prefixes; every other key is [`Class::Fsync`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes {
    /// The longest prefixes first.
    prefixes: Vec<(Bytes, Class)>,
}

/// Prefixes that can have a class: each is looked at for each change.
const PREFIXES_MAX: usize = 32;

impl Classes {
    /// Reads `PREFIX=CLASS,PREFIX=CLASS`, classes being `fsync`, `replicated` and `memory`.
    ///
    /// # Errors
    /// A text that says what is wrong with which part.
    pub fn parse(text: &str) -> Result<Classes, String> {
        let mut classes = Classes::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            // A prefix may have an equals sign itself.
            let (prefix, class) = part
                .rsplit_once('=')
                .ok_or_else(|| format!("{part:?} is not of the form PREFIX=CLASS"))?;
            let class = match class {
                "fsync" => Class::Fsync,
                "replicated" => Class::Replicated,
                "memory" => Class::Memory,
                other => {
                    return Err(format!(
                        "{part:?}: there is no class {other:?}, but fsync, replicated and memory"
                    ));
                }
            };
            if classes.prefixes.iter().any(|(other, _)| &other[..] == prefix.as_bytes()) {
                return Err(format!("the prefix {prefix:?} has two classes"));
            }
            classes.prefixes.push((Bytes::copy_from_slice(prefix.as_bytes()), class));
        }
        if classes.prefixes.len() > PREFIXES_MAX {
            return Err(format!("more than {PREFIXES_MAX} prefixes have a class"));
        }
        classes.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(classes)
    }

    /// Whether every key is of class `fsync`.
    pub fn is_empty(&self) -> bool {
        self.prefixes.iter().all(|(_, class)| *class == Class::Fsync)
    }

    /// Whether some key is of class `replicated`.
    pub fn has_replicated(&self) -> bool {
        self.prefixes.iter().any(|(_, class)| *class == Class::Replicated)
    }

    /// The class of one key.
    pub fn of_key(&self, key: &[u8]) -> Class {
        let found = self.prefixes.iter().find(|(prefix, _)| key.starts_with(prefix));
        found.map_or(Class::Fsync, |(_, class)| *class)
    }

    /// The strictest class of all keys that an effect changes.
    pub(crate) fn of_effect(&self, effect: &Effect) -> Class {
        if self.prefixes.is_empty() {
            return Class::Fsync;
        }
        let classes = effect.changes.iter().map(|change| self.of_key(change.record.key()));
        classes.max().unwrap_or(Class::Fsync)
    }
}

/// Where a store has to go on whose log ends at `reached` with this `ceiling`; `None` for right
/// there. One more than the ceiling is left out, as who has seen the ceiling's revision resumes a
/// watch behind it and has to be told, too.
pub(crate) fn skip(reached: Revision, ceiling: Revision) -> Option<Revision> {
    (ceiling > reached).then_some(ceiling + 2)
}

/// The control that makes a ceiling durable: revisions up to it may have been shown.
pub(crate) fn ceiling(revision: Revision) -> Control {
    let content = Bytes::copy_from_slice(&revision.to_le_bytes());
    Control::Document { name: Bytes::from_static(CEILING), content }
}

/// The ceiling that a control sets.
pub(crate) fn ceiling_of(control: &Control) -> Option<Revision> {
    match control {
        Control::Document { name, content } if &name[..] == CEILING => read_ceiling(content),
        _ => None,
    }
}

/// The ceiling in the document's content.
pub(crate) fn read_ceiling(content: &[u8]) -> Option<Revision> {
    content.try_into().ok().map(Revision::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let classes = Classes::parse("/a/=memory,/a/b/=fsync,/a/b/c=replicated,x=y=memory");
        let classes = classes.expect("well formed");
        for (key, expected) in [
            ("/a/x", Class::Memory),
            ("/a/b/x", Class::Fsync),
            ("/a/b/cd", Class::Replicated),
            ("/b", Class::Fsync),
            ("x=yz", Class::Memory),
            ("", Class::Fsync),
        ] {
            assert_eq!(classes.of_key(key.as_bytes()), expected, "{key}");
        }
        assert!(!classes.is_empty() && classes.has_replicated());
        assert!(Classes::parse("").expect("none").is_empty());
        assert!(Classes::parse("/a/=fsync").expect("one").is_empty());
        assert_eq!(Classes::parse("=memory").expect("all").of_key(b"any"), Class::Memory);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("/a/", "not of the form"),
            ("/a/=disk", "no class \"disk\""),
            ("/a/=memory,/a/=fsync", "two classes"),
        ] {
            let error = Classes::parse(text).expect_err("a mistake");
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_ceiling_comes_back() {
        let control = ceiling(77);
        assert_eq!(ceiling_of(&control), Some(77));
        let other = Control::Document { name: "x".into(), content: "y".into() };
        assert_eq!(ceiling_of(&other), None);
        assert_eq!(read_ceiling(b"short"), None);
    }
}
