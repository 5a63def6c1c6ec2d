//! Which part of the store is to be written to a snapshot next, and when it is complete.
//!
//! A snapshot is fuzzy but exact: its slices are taken one after the other while writing goes on, so
//! a later slice may hold what came after an earlier one. Whoever loads it replays the log from its
//! beginning on, and skips what a key has already; from its end on everything is as it was.

use bytes::Bytes;

use super::format::{End, Header};
use super::rows::{Document, LeaseRow};
use crate::mvcc::SettledChunk;
use crate::record::LeaseId;

/// Keys in one slice: some ten microseconds of a core.
pub const SLICE_KEYS: usize = 256;

/// Leases in one slice.
pub const SLICE_LEASES: usize = 1024;

/// Bytes of documents in one slice, or a single one that is larger.
pub const SLICE_DOCUMENT_BYTES: usize = 1 << 20;

/// A slice of the store, to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Up to [`SLICE_KEYS`] keys of a shard behind a key.
    Entries { shard: usize, after: Option<Bytes> },
    /// Up to [`SLICE_LEASES`] leases behind an id.
    Leases { after: Option<LeaseId> },
    /// Documents behind a name.
    Documents { after: Option<Bytes> },
}

/// A slice of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slice {
    Entries(SettledChunk),
    /// By id; empty at the end.
    Leases(Vec<LeaseRow>),
    /// By name; empty at the end.
    Documents(Vec<Document>),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask for this, write it, and call [`Taking::took`].
    Take(Part),
    /// Everything is taken: call [`Taking::end`] with what is committed now.
    End,
    /// Wait until the log is durable up to the end's index.
    AwaitDurable(End),
    /// Complete the file: it is valid.
    Complete(End),
}

/// A snapshot that is being taken.
#[derive(Debug, Clone)]
pub struct Taking {
    header: Header,
    next: Option<Part>,
    end: Option<End>,
}

impl Taking {
    pub fn new(header: Header) -> Taking {
        assert!(header.runs > 0);
        Taking { header, next: Some(Part::Entries { shard: 0, after: None }), end: None }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What is next, when the log is durable up to `durable_index`.
    pub fn step(&self, durable_index: u64) -> Step {
        match (&self.next, self.end) {
            (Some(part), _) => Step::Take(part.clone()),
            (None, None) => Step::End,
            (None, Some(end)) if durable_index < end.index => Step::AwaitDurable(end),
            (None, Some(end)) => Step::Complete(end),
        }
    }

    /// Takes note of a slice of what [`step`](Taking::step) asked for.
    pub fn took(&mut self, slice: &Slice) {
        let part = self.next.take().expect("nothing is taken behind the end");
        self.next = match (part, slice) {
            (Part::Entries { shard, .. }, Slice::Entries(chunk)) => {
                Some(match &chunk.resume_after {
                    Some(after) => Part::Entries { shard, after: Some(after.clone()) },
                    None if shard + 1 < self.header.runs as usize => {
                        Part::Entries { shard: shard + 1, after: None }
                    }
                    None => Part::Leases { after: None },
                })
            }
            (Part::Leases { .. }, Slice::Leases(leases)) => Some(match leases.last() {
                Some(last) => Part::Leases { after: Some(last.id) },
                None => Part::Documents { after: None },
            }),
            (Part::Documents { .. }, Slice::Documents(documents)) => {
                let last = documents.last();
                last.map(|last| Part::Documents { after: Some(last.name.clone()) })
            }
            (part, slice) => panic!("{part:?} was asked for, and {slice:?} came"),
        };
    }

    /// Everything is taken, and `end` is committed now.
    pub fn end(&mut self, end: End) {
        assert!(self.next.is_none() && self.end.is_none());
        assert!(end.index >= self.header.index && end.revision >= self.header.revision);
        self.end = Some(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(resume_after: Option<&'static str>) -> Slice {
        let resume_after = resume_after.map(|key| Bytes::from_static(key.as_bytes()));
        Slice::Entries(SettledChunk { entries: Vec::new(), resume_after })
    }

    #[test]
    fn every_part_is_taken_and_the_end_has_to_be_durable() {
        let header = Header { index: 7, revision: 5, runs: 2, ..Header::default() };
        let mut taking = Taking::new(header);
        let document = Document { name: "n".into(), content: "c".into() };
        let lease = LeaseRow { id: 3, ttl: 9, remaining: 9 };
        let a = Some(Bytes::from_static(b"a"));
        for (expected, slice) in [
            (Part::Entries { shard: 0, after: None }, entries(Some("a"))),
            (Part::Entries { shard: 0, after: a }, entries(None)),
            (Part::Entries { shard: 1, after: None }, entries(None)),
            (Part::Leases { after: None }, Slice::Leases(vec![lease])),
            (Part::Leases { after: Some(3) }, Slice::Leases(Vec::new())),
            (Part::Documents { after: None }, Slice::Documents(vec![document])),
            (Part::Documents { after: Some("n".into()) }, Slice::Documents(Vec::new())),
        ] {
            assert_eq!(taking.step(100), Step::Take(expected));
            taking.took(&slice);
        }
        assert_eq!(taking.step(100), Step::End);
        let end = End { index: 12, revision: 9 };
        taking.end(end);
        assert_eq!(taking.step(11), Step::AwaitDurable(end));
        assert_eq!(taking.step(12), Step::Complete(end));
    }

    #[test]
    #[should_panic(expected = "was asked for")]
    fn a_slice_of_something_else_is_refused() {
        let mut taking = Taking::new(Header { runs: 1, ..Header::default() });
        taking.took(&Slice::Leases(Vec::new()));
    }
}
