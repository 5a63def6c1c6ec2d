//! Tables for people: which columns a resource has, and what an object shows in them. `columns.txt`
//! says both, `layout.rs` reads it; the files beside them hold what it takes a function to tell.

mod access;
mod age;
mod cells;
mod events;
mod jobs;
mod layout;
mod metrics;
mod network;
mod nodes;
mod pods;
mod storage;
mod workloads;

use serde_json::Value;

pub use age::{age, age_of_time, duration_text};

use super::object::Object;
use layout::layouts;

/// A cell: text, a number or a boolean.
pub(crate) type Cells = Vec<Value>;

/// `columnDefinitions` of a resource's tables.
pub fn column_definitions(group: &str, plural: &str) -> Value {
    layouts().of(group, plural).column_definitions()
}

/// The cells of an object's row.
pub fn cells(group: &str, plural: &str, object: &Object, now_unix_seconds: i64) -> Cells {
    layouts().of(group, plural).cells(object, now_unix_seconds)
}

/// What a row says beside its cells: that a pod has ended.
pub fn conditions(group: &str, plural: &str, object: &Object) -> Vec<Value> {
    if (group, plural) == ("", "pods") { pods::conditions(object) } else { Vec::new() }
}

/// The order in which the rows of a list are shown, where it is not that of the list.
pub fn sort(group: &str, plural: &str, objects: &mut [Object]) {
    if (group, plural) == ("flowcontrol.apiserver.k8s.io", "flowschemas") {
        access::sort_flow_schemas(objects);
    }
}

/// Some of many: the first ones, and how many more there are.
fn some_of(mut all: Vec<String>, shown: usize, separator: &str, count: usize) -> String {
    if count <= shown {
        return all.join(separator);
    }
    all.truncate(shown);
    format!("{} + {} more...", all.join(separator), count - shown)
}

/// The columns of a resource, one by one.
#[cfg(test)]
fn columns_of(group: &str, plural: &str) -> Vec<Value> {
    column_definitions(group, plural).as_array().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;
    use crate::kube::schema::Schema;

    #[test]
    fn every_row_has_a_cell_for_each_column() {
        let object = into_object(json!({"metadata": {"name": "x"}}));
        for row in Schema::builtin().resources() {
            let columns = columns_of(&row.group, &row.plural);
            let cells = cells(&row.group, &row.plural, &object, 0);
            // An address has a cell without a column.
            let surplus = usize::from(row.plural == "ipaddresses");
            assert_eq!(columns.len() + surplus, cells.len(), "{}", row.plural);
        }
    }

    #[cfg(feature = "explain-docs")]
    #[test]
    fn every_column_is_described() {
        for row in Schema::builtin().resources() {
            for column in columns_of(&row.group, &row.plural) {
                // The one column that kube-apiserver does not describe either.
                let described = column["description"] != "" || column["name"] == "Handler";
                assert!(described, "{} {}", row.plural, column["name"]);
            }
        }
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let all = || vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        assert_eq!(some_of(all(), 3, ",", 3), "a,b,c");
        assert_eq!(some_of(all(), 2, ", ", 3), "a, b + 1 more...");
    }
}
