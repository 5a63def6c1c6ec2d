//! Between versions of a kind that is served in several. What is the same in both needs no word
//! here; fields that only one has are kept under the other's name.

use serde_json::Value;

use crate::kube::object::{self, Object};

/// Turns an object of one version into the same object of another.
pub fn convert(object: &mut Object, from: &str, to: &str) {
    match (from, to) {
        ("v1", "events.k8s.io/v1") => {
            rename_all(object, &EVENT_FIELDS);
            // One version writes who reports even when nobody does, the other leaves it out.
            for name in ["reportingController", "reportingInstance"] {
                if object::text(object, name).is_empty() {
                    object.remove(name);
                }
            }
        }
        ("events.k8s.io/v1", "v1") => {
            let back: Vec<(&str, &str)> =
                EVENT_FIELDS.iter().map(|(core, events)| (*events, *core)).collect();
            rename_all(object, &back);
            object::default_text(object, "reportingComponent", "");
            object::default_text(object, "reportingInstance", "");
        }
        _ => {}
    }
    object.insert("apiVersion".to_owned(), to.into());
    move_managed_fields(object, from, to);
}

/// The names of the same fields in `v1` and in `events.k8s.io/v1`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename_all(object: &mut Object, names: &[(&str, &str)]) {
    for (from, to) in names {
        if let Some(value) = object.remove(*from) {
            object.insert((*to).to_owned(), value);
        }
    }
}

/// Managed fields name the version that they were set in, which stays.
fn move_managed_fields(object: &mut Object, from: &str, _to: &str) {
    let metadata = object::metadata_mut(object);
    let Some(Value::Array(entries)) = metadata.get_mut("managedFields") else { return };
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        object::default_text(entry, "apiVersion", from);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn events_keep_their_facts() {
        let core = into_object(json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod"}, "message": "m", "reason": "r",
            "reportingComponent": "", "reportingInstance": "",
        }));
        let mut event = core.clone();
        convert(&mut event, "v1", "events.k8s.io/v1");
        assert_eq!(event["note"], "m");
        assert_eq!(event["regarding"]["kind"], "Pod");
        assert!(!event.contains_key("reportingController"));
        assert_eq!(event["apiVersion"], "events.k8s.io/v1");
        convert(&mut event, "events.k8s.io/v1", "v1");
        assert_eq!(event, core);
    }
}
