//! A change as a client sees it: which event it is for a selection, and its bytes.

use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};

use crate::kube::codec::normalize;
use crate::kube::codec::protobuf::encode_watch_event;
use crate::kube::encoding::encode_value;
use crate::kube::object::Object;
use crate::kube::registry::catalog::Entry;
use crate::kube::registry::list::Selection;
use crate::kube::registry::{Registry, into_object};
use crate::kube::request::negotiation::{Encoding, Representation, Shape};
use crate::kube::shape::{IncludeObject, ShapeContext, Subject, shape_object};
use crate::kube::status::ApiError;
use crate::kube::storage::{Change, value};

/// The annotation of the bookmark that ends the initial events (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Writes the events of one watch.
pub(super) struct EventWriter<'a> {
    pub registry: &'a Registry,
    pub entry: &'a Entry,
    pub selection: &'a Selection,
    pub representation: Representation,
    /// The first event as a Table carries the columns, later ones do not.
    pub columns_sent: &'a mut bool,
    pub now_unix_seconds: i64,
    pub include: IncludeObject,
}

impl EventWriter<'_> {
    /// Writes what a change is to this watch, if anything.
    pub(super) fn change(&mut self, change: &Change, out: &mut BytesMut) -> Result<(), ApiError> {
        let matches = |bytes: Option<&bytes::Bytes>| match bytes {
            Some(bytes) => self.selection.matches(self.registry, &change.key, bytes),
            None => Ok(false),
        };
        let before = matches(change.previous.as_ref())?;
        let after = matches(change.value.as_ref())?;
        let (kind, bytes) = match (before, after) {
            (false, true) => ("ADDED", &change.value),
            (true, true) => ("MODIFIED", &change.value),
            (true, false) => ("DELETED", &change.previous),
            (false, false) => return Ok(()),
        };
        match bytes {
            Some(bytes) => self.object(kind, &change.key, bytes, change.revision, out),
            None => Ok(()),
        }
    }

    /// Writes an event about stored bytes.
    pub(super) fn object(
        &mut self,
        kind: &str,
        key: &[u8],
        bytes: &[u8],
        revision: i64,
        out: &mut BytesMut,
    ) -> Result<(), ApiError> {
        if self.representation.shape == Shape::Object
            && self.representation.encoding == Encoding::Json
            && let Some(splice) = &self.entry.splice
        {
            let start = out.len();
            begin(kind, out);
            if splice.write(bytes, revision, true, out) {
                out.put_slice(b"}\n");
                return Ok(());
            }
            out.truncate(start);
        }
        let object = self.registry.decode_value(self.entry, key, bytes, revision)?;
        self.tree(kind, object, out);
        Ok(())
    }

    /// A bookmark: everything up to `revision` has been sent.
    pub(super) fn bookmark(
        &mut self,
        revision: i64,
        ends_initial_events: bool,
        out: &mut BytesMut,
    ) {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if ends_initial_events {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let row = &self.entry.resource;
        let mut object = json!({
            "kind": row.kind, "apiVersion": self.entry.api_version, "metadata": metadata,
        });
        if self.representation.shape == Shape::Object && self.entry.custom.is_none() {
            normalize(self.registry.catalog.schema, row.type_id, &mut object);
        }
        self.tree("BOOKMARK", into_object(object), out);
    }

    fn tree(&mut self, kind: &str, object: Object, out: &mut BytesMut) {
        let context = ShapeContext {
            entry: self.entry,
            subject: Subject::of(self.entry),
            now_unix_seconds: self.now_unix_seconds,
            with_columns: !*self.columns_sent,
            include: self.include,
        };
        let shaped = shape_object(&context, object, self.representation.shape);
        *self.columns_sent = true;
        write_event(kind, shaped, self.representation.encoding, out);
    }
}

/// Writes the event by which a watch ends with a failure.
pub(super) fn write_error(error: &ApiError, encoding: Encoding, out: &mut BytesMut) {
    write_event("ERROR", into_object(error.to_value()), encoding, out);
}

fn write_event(kind: &str, object: Object, encoding: Encoding, out: &mut BytesMut) {
    if encoding == Encoding::Protobuf {
        let object = encode_value(&Value::Object(object), encoding, false);
        return put_frame(&encode_watch_event(kind, &object), out);
    }
    let mut json = Vec::new();
    value::write_json(&object, &mut json);
    begin(kind, out);
    out.put_slice(&json);
    out.put_slice(b"}\n");
}

/// In a stream of protobuf, every event stands behind its length.
fn put_frame(event: &[u8], out: &mut BytesMut) {
    let length = u32::try_from(event.len()).expect("an object is far smaller than 4 GiB");
    out.put_u32(length);
    out.put_slice(event);
}

fn begin(kind: &str, out: &mut BytesMut) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_in_protobuf_stand_behind_their_length() {
        let mut out = BytesMut::new();
        let status = ApiError::expired("too old");
        write_error(&status, Encoding::Protobuf, &mut out);
        write_error(&status, Encoding::Protobuf, &mut out);
        let length = u32::from_be_bytes(out[..4].try_into().unwrap()) as usize;
        assert_eq!(out.len(), 2 * (4 + length));
        let (first, second) = (&out[4..4 + length], &out[8 + length..]);
        assert_eq!(first, second);
        // Field 1 is the type, field 2 the object: bytes with the prefix of every object.
        assert_eq!(&first[..7], b"\x0a\x05ERROR");
        assert!(first.windows(4).any(|bytes| bytes == b"k8s\0"));
    }

    #[test]
    fn events_in_json_are_lines() {
        let mut out = BytesMut::new();
        write_error(&ApiError::expired("too old"), Encoding::Json, &mut out);
        assert!(out.starts_with(b"{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\""));
        assert!(out.ends_with(b"}\n"));
    }
}
