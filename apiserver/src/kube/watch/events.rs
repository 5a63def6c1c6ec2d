//! A change as a client sees it: which event it is for a selection, and its bytes.

use bytes::{BufMut, BytesMut};
use serde_json::json;

use crate::kube::codec::normalize;
use crate::kube::object::Object;
use crate::kube::registry::catalog::Entry;
use crate::kube::registry::list::Selection;
use crate::kube::registry::{Registry, into_object};
use crate::kube::request::negotiation::Shape;
use crate::kube::shape::{IncludeObject, ShapeContext, shape_object};
use crate::kube::status::ApiError;
use crate::kube::storage::{Change, value};

/// The annotation of the bookmark that ends the initial events (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Writes the events of one watch.
pub(super) struct EventWriter<'a> {
    pub registry: &'a Registry,
    pub entry: &'a Entry,
    pub selection: &'a Selection,
    pub shape: Shape,
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
        if self.shape == Shape::Object
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
        if self.shape == Shape::Object {
            normalize(self.registry.catalog.schema, row.type_id, &mut object);
        }
        self.tree("BOOKMARK", into_object(object), out);
    }

    fn tree(&mut self, kind: &str, object: Object, out: &mut BytesMut) {
        let context = ShapeContext {
            entry: self.entry,
            now_unix_seconds: self.now_unix_seconds,
            with_columns: !*self.columns_sent,
            include: self.include,
        };
        let shaped = shape_object(&context, object, self.shape);
        *self.columns_sent = true;
        write_event(kind, &shaped, out);
    }
}

/// Writes the event by which a watch ends with a failure.
pub(super) fn write_error(error: &ApiError, out: &mut BytesMut) {
    let status = into_object(error.to_value());
    write_event("ERROR", &status, out);
}

fn write_event(kind: &str, object: &Object, out: &mut BytesMut) {
    let mut json = Vec::new();
    value::write_json(object, &mut json);
    begin(kind, out);
    out.put_slice(&json);
    out.put_slice(b"}\n");
}

fn begin(kind: &str, out: &mut BytesMut) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
}
