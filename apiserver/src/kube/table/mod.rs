//! Tables for people: which columns a resource has, and what an object shows in them.

mod age;
mod apps;
mod batch;
mod core;
mod pods;
mod storage;

use serde_json::{Value, json};

pub use age::{age, age_of_time, duration_text};

use super::discovery::openapi;
use super::object::{self, Object};

/// One column.
pub(crate) struct Column {
    name: &'static str,
    /// `string`, `integer`, `date`
    kind: &'static str,
    /// 1 is shown with `-o wide` only.
    priority: u32,
    /// What it means, in a few words.
    text: &'static str,
    /// The type and field that it shows, whose own description is the better one.
    field: Option<(&'static str, &'static str)>,
}

const fn column(
    name: &'static str,
    kind: &'static str,
    priority: u32,
    text: &'static str,
) -> Column {
    Column { name, kind, priority, text, field: None }
}

impl Column {
    /// The same column, described as the field that it shows.
    const fn of(self, type_name: &'static str, field: &'static str) -> Column {
        Column { field: Some((type_name, field)), ..self }
    }

    fn description(&self) -> &'static str {
        let described =
            self.field.and_then(|(type_name, field)| openapi::field_description(type_name, field));
        described.unwrap_or(self.text)
    }
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

const NAME: Column =
    column("Name", "string", 0, "The object's name, unique in its namespace.").of(META, "name");
const AGE: Column = column("Age", "string", 0, "The time since the object was created.")
    .of(META, "creationTimestamp");
const CREATED_AT: Column =
    column("Created At", "date", 0, "When the object was created.").of(META, "creationTimestamp");

/// A cell: text or a number.
type Cells = Vec<Value>;

/// What the tables of one resource look like.
pub(crate) struct Layout {
    columns: &'static [Column],
    /// The cells of an object, one for each column; the time is now, in seconds since 1970.
    cells: fn(&Object, i64) -> Cells,
}

const DEFAULT: Layout = Layout {
    columns: &[NAME, CREATED_AT],
    cells: |object, _| {
        let created = object::at(object, &["metadata", "creationTimestamp"]).cloned();
        vec![name_cell(object), created.unwrap_or(Value::Null)]
    },
};

/// For resources that show nothing but their age.
const NAME_AND_AGE: Layout = Layout {
    columns: &[NAME, AGE],
    cells: |object, now| vec![name_cell(object), age_cell(object, now)],
};

fn layout(group: &str, plural: &str) -> Layout {
    match (group, plural) {
        ("", "pods") => pods::LAYOUT,
        ("", "persistentvolumes" | "persistentvolumeclaims") | ("storage.k8s.io", _) => {
            storage::layout(plural).unwrap_or(DEFAULT)
        }
        ("batch" | "networking.k8s.io", _) => batch::layout(group, plural).unwrap_or(DEFAULT),
        ("", _) => core::layout(plural).unwrap_or(DEFAULT),
        ("apps", _) => apps::layout(plural).unwrap_or(DEFAULT),
        ("events.k8s.io", "events") => core::layout("events").unwrap_or(DEFAULT),
        ("coordination.k8s.io", "leases") => core::LEASES,
        ("resource.k8s.io", "deviceclasses" | "resourceclaimtemplates") => NAME_AND_AGE,
        _ => DEFAULT,
    }
}

/// `columnDefinitions` of a resource's tables.
pub fn column_definitions(group: &str, plural: &str) -> Value {
    let definition = |column: &Column| {
        let format = if column.name == NAME.name { "name" } else { "" };
        json!({
            "name": column.name, "type": column.kind, "format": format,
            "description": column.description(), "priority": column.priority,
        })
    };
    layout(group, plural).columns.iter().map(definition).collect()
}

/// The cells of an object's row.
pub fn cells(group: &str, plural: &str, object: &Object, now_unix_seconds: i64) -> Cells {
    let layout = layout(group, plural);
    let cells = (layout.cells)(object, now_unix_seconds);
    assert_eq!(cells.len(), layout.columns.len(), "a cell for each column of {plural}");
    cells
}

/// What a row says beside its cells: that a pod has ended.
pub fn conditions(group: &str, plural: &str, object: &Object) -> Vec<Value> {
    if (group, plural) == ("", "pods") { pods::conditions(object) } else { Vec::new() }
}

fn name_cell(object: &Object) -> Value {
    object::name(object).into()
}

fn age_cell(object: &Object, now_unix_seconds: i64) -> Value {
    age(object, now_unix_seconds).into()
}

/// The text at a path; `<none>` when it is empty.
fn text_or_none(object: &Object, path: &[&str]) -> Value {
    match object::text_at(object, path) {
        "" => "<none>".into(),
        text => text.into(),
    }
}

/// Names and images of the containers of `spec.template`, each joined by commas.
fn containers_and_images(object: &Object) -> (String, String) {
    let containers = object::list_at(object, &["spec", "template", "spec", "containers"]);
    let joined = |name: &str| {
        let texts =
            containers.iter().map(|one| one.get(name).and_then(Value::as_str).unwrap_or(""));
        texts.collect::<Vec<_>>().join(",")
    };
    (joined("name"), joined("image"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn every_row_has_a_cell_for_each_column() {
        let object = into_object(json!({"metadata": {"name": "x"}}));
        for (group, plural) in [
            ("", "pods"),
            ("", "services"),
            ("", "nodes"),
            ("", "namespaces"),
            ("", "configmaps"),
            ("", "secrets"),
            ("", "events"),
            ("", "serviceaccounts"),
            ("", "endpoints"),
            ("apps", "deployments"),
            ("apps", "replicasets"),
            ("apps", "statefulsets"),
            ("apps", "daemonsets"),
            ("coordination.k8s.io", "leases"),
            ("", "persistentvolumes"),
            ("", "persistentvolumeclaims"),
            ("storage.k8s.io", "storageclasses"),
            ("batch", "jobs"),
            ("batch", "cronjobs"),
            ("networking.k8s.io", "ingresses"),
            ("rbac.authorization.k8s.io", "roles"),
        ] {
            let columns = column_definitions(group, plural);
            let cells = cells(group, plural, &object, 0);
            assert_eq!(columns.as_array().map(Vec::len), Some(cells.len()), "{plural}");
        }
    }
}
