//! Keys, values and entries behind a message's archive, one after the other.

use bytes::Bytes;

use super::Decoded;
use crate::record::Record;

/// One of them.
#[derive(Debug)]
enum Content {
    Bytes(Bytes),
    /// Its key, and behind it its value.
    Record(Record),
}

/// Those of a message that is being written. Nothing is copied.
#[derive(Debug, Default)]
pub(super) struct Contents {
    list: Vec<Content>,
    bytes: usize,
}

impl Contents {
    /// Adds one. Gives its length, for the archive.
    pub(super) fn add(&mut self, bytes: &Bytes) -> u32 {
        let length = u32::try_from(bytes.len()).expect("nothing in the store is so long");
        // Nothing to send.
        if length > 0 {
            self.bytes += bytes.len();
            self.list.push(Content::Bytes(bytes.clone()));
        }
        length
    }

    pub(super) fn add_text(&mut self, text: &str) -> u32 {
        self.add(&Bytes::copy_from_slice(text.as_bytes()))
    }

    pub(super) fn add_record(&mut self, record: &Record) {
        if !record.key_and_value().is_empty() {
            self.bytes += record.key_and_value().len();
            self.list.push(Content::Record(record.clone()));
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, place: usize) -> &[u8] {
        match &self.list[place] {
            Content::Bytes(bytes) => bytes,
            Content::Record(record) => record.key_and_value(),
        }
    }
}

/// Those of a received message, taken in the order in which they were added.
pub(super) struct Reading(Bytes);

impl Reading {
    pub(super) fn new(contents: Bytes) -> Reading {
        Reading(contents)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next one: a slice of the message.
    pub(super) fn take(&mut self, length: impl Into<u32>) -> Decoded<Bytes> {
        let length = length.into() as usize;
        if length > self.0.len() {
            return Err("it is shorter than what it says");
        }
        Ok(self.0.split_to(length))
    }

    pub(super) fn take_text(&mut self, length: impl Into<u32>) -> Decoded<String> {
        let bytes = self.take(length)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| "a text of it is no text")
    }
}
