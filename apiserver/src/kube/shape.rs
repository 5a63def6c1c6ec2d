//! Objects in another shape than their own: a table, or nothing but their metadata.

use serde_json::{Value, json};

use super::object::Object;
use super::registry::catalog::Entry;
use super::registry::into_object;
use super::request::negotiation::{MetaVersion, Shape};
use super::request::query::Query;
use super::{crd, table};

/// What shaping needs to know besides the object.
pub struct ShapeContext<'a> {
    pub entry: &'a Entry,
    /// What is shaped: the resource itself, or a kind that one of its subresources answers with.
    pub subject: Subject<'a>,
    /// For ages.
    pub now_unix_seconds: i64,
    /// A table tells its columns.
    pub with_columns: bool,
    pub include: IncludeObject,
}

/// Group and plural, by which a table finds its columns.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub group: &'a str,
    pub plural: &'a str,
}

impl<'a> Subject<'a> {
    /// The number of replicas of anything.
    pub const SCALE: Subject<'static> = Subject { group: "autoscaling", plural: "scale" };

    pub fn of(entry: &'a Entry) -> Subject<'a> {
        Subject { group: &entry.resource.group, plural: &entry.resource.plural }
    }
}

/// What a row of a table carries of its object (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    Nothing,
    #[default]
    Metadata,
    Whole,
}

impl IncludeObject {
    /// Reads the query's parameter.
    pub fn read(query: &Query) -> IncludeObject {
        match query.text("includeObject") {
            "None" => IncludeObject::Nothing,
            "Object" => IncludeObject::Whole,
            _ => IncludeObject::Metadata,
        }
    }
}

impl ShapeContext<'_> {
    /// The object is a scale, whatever has it.
    fn is_scale(&self) -> bool {
        self.subject.plural == Subject::SCALE.plural && self.subject.group == Subject::SCALE.group
    }
}

/// One object as the client wants it.
pub fn shape_object(context: &ShapeContext<'_>, object: Object, shape: Shape) -> Object {
    match shape {
        Shape::Object => object,
        Shape::PartialMetadata(version) => partial(object, version),
        Shape::Table(version) => {
            let metadata = match object.get("metadata").and_then(|m| m.get("resourceVersion")) {
                Some(revision) => json!({"resourceVersion": revision}),
                None => json!({}),
            };
            table(context, version, metadata, vec![row(context, version, object)])
        }
    }
}

/// A list of objects as the client wants it. `metadata` is the list's.
pub fn shape_list(
    context: &ShapeContext<'_>,
    metadata: Value,
    mut objects: Vec<Object>,
    shape: Shape,
) -> Object {
    match shape {
        Shape::Table(version) => {
            table::sort(context.subject.group, context.subject.plural, &mut objects);
            let rows = objects.into_iter().map(|object| row(context, version, object));
            table(context, version, metadata, rows.collect())
        }
        Shape::PartialMetadata(version) => {
            let items: Vec<Value> =
                objects.into_iter().map(|o| Value::Object(partial(o, version))).collect();
            // kube-apiserver's list of nothing is null here.
            let items = if items.is_empty() { Value::Null } else { items.into() };
            into_object(json!({
                "kind": "PartialObjectMetadataList", "apiVersion": version.group_version(),
                "metadata": metadata, "items": items,
            }))
        }
        Shape::Object => {
            // Custom objects say what they are in lists, too, and their lists always tell how to go
            // on, if only that they don't.
            let is_custom = context.entry.custom.is_some();
            let untyped = |mut object: Object| {
                if !is_custom {
                    object.remove("kind");
                    object.remove("apiVersion");
                }
                Value::Object(object)
            };
            let mut metadata = metadata;
            if is_custom && metadata.get("continue").is_none() {
                metadata["continue"] = "".into();
            }
            let items: Vec<Value> = objects.into_iter().map(untyped).collect();
            into_object(json!({
                "kind": format!("{}List", context.entry.resource.kind),
                "apiVersion": context.entry.api_version, "metadata": metadata, "items": items,
            }))
        }
    }
}

/// The metadata of an object, as an object.
pub fn partial(object: Object, version: MetaVersion) -> Object {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    into_object(json!({
        "kind": "PartialObjectMetadata", "apiVersion": version.group_version(),
        "metadata": metadata,
    }))
}

fn table(
    context: &ShapeContext<'_>,
    version: MetaVersion,
    metadata: Value,
    rows: Vec<Value>,
) -> Object {
    let Subject { group, plural } = context.subject;
    let columns = match (context.with_columns, &context.entry.custom) {
        (false, _) => Value::Null,
        (true, Some(custom)) if !context.is_scale() => crd::columns::definitions(&custom.columns),
        (true, _) => table::column_definitions(group, plural),
    };
    into_object(json!({
        "kind": "Table", "apiVersion": version.group_version(), "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    }))
}

fn row(context: &ShapeContext<'_>, version: MetaVersion, object: Object) -> Value {
    let Subject { group, plural } = context.subject;
    let now = context.now_unix_seconds;
    let cells = match &context.entry.custom {
        Some(custom) if !context.is_scale() => crd::columns::cells(&custom.columns, &object, now),
        _ => table::cells(group, plural, &object, now),
    };
    let conditions = table::conditions(group, plural, &object);
    let included = match context.include {
        IncludeObject::Nothing => Value::Null,
        IncludeObject::Metadata => Value::Object(partial(object, version)),
        IncludeObject::Whole => Value::Object(object),
    };
    let mut row = into_object(json!({"cells": cells, "object": included}));
    if !conditions.is_empty() {
        row.insert("conditions".to_owned(), conditions.into());
    }
    Value::Object(row)
}
