//! Which names a definition gets: those that no other definition of its group has.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::word;
use crate::kube::object::{self, Object};
use crate::kube::registry::into_object;

/// The status of a definition among the others of its group. The same status when nothing is new.
pub fn status(definition: &Object, others: &[Object], now: &str) -> Object {
    let mut status = object::map(definition, "status").cloned().unwrap_or_default();
    let (accepted, conflict) = accepted_names(definition, others);
    let before = object::list(&status, "conditions").to_vec();
    let names = match &conflict {
        None => condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => condition("NamesAccepted", false, reason, message),
    };
    let was_established =
        before.iter().any(|one| one["type"] == "Established" && one["status"] == "True");
    let established = match conflict {
        _ if was_established => None,
        None => Some(condition(
            "Established",
            true,
            "InitialNamesAccepted",
            "the initial names have been accepted",
        )),
        Some(_) => {
            Some(condition("Established", false, "NotAccepted", "not all names are accepted"))
        }
    };
    let mut conditions = before;
    for new in [Some(names), established].into_iter().flatten() {
        set_condition(&mut conditions, new, now);
    }
    status.insert("acceptedNames".to_owned(), Value::Object(accepted));
    status.insert("conditions".to_owned(), conditions.into());
    status
}

fn condition(kind: &str, holds: bool, reason: &str, message: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

/// A condition that stays as it is keeps its time.
fn set_condition(conditions: &mut Vec<Value>, mut new: Value, now: &str) {
    let place = conditions.iter().position(|old| old["type"] == new["type"]);
    let old = place.map(|place| &conditions[place]);
    let unchanged = old.is_some_and(|old| old["status"] == new["status"]);
    new["lastTransitionTime"] = match old {
        Some(old) if unchanged => old["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    match place {
        Some(place) => conditions[place] = new,
        None => conditions.push(new),
    }
}

type Conflict = (&'static str, String);

/// The names that are free or its own already, and the last conflict.
fn accepted_names(definition: &Object, others: &[Object]) -> (Object, Option<Conflict>) {
    let (mut resources, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for other in others {
        let names = object::at(other, &["status", "acceptedNames"]).unwrap_or(&Value::Null);
        resources.extend([word(names, "plural"), word(names, "singular")]);
        resources.extend(texts(names, "shortNames"));
        kinds.extend([word(names, "kind"), word(names, "listKind")]);
    }
    let empty = json!({});
    let wanted = object::at(definition, &["spec", "names"]).unwrap_or(&empty);
    let own = object::at(definition, &["status", "acceptedNames"]).unwrap_or(&empty);
    let mut accepted = into_object(own.clone());
    let mut conflict = None;
    let mut settle = |field: &str, used: &BTreeSet<&str>, reason: &'static str| {
        let name = word(wanted, field);
        if name != word(own, field) && used.contains(name) {
            conflict = Some((reason, format!("\"{name}\" is already in use")));
        } else if !name.is_empty() {
            accepted.insert(field.to_owned(), name.into());
        }
    };
    settle("plural", &resources, "PluralConflict");
    settle("singular", &resources, "SingularConflict");
    settle("kind", &kinds, "KindConflict");
    settle("listKind", &kinds, "ListKindConflict");
    let taken: Vec<String> = texts(wanted, "shortNames")
        .filter(|name| resources.contains(name) && !texts(own, "shortNames").any(|o| o == *name))
        .map(|name| format!("\"{name}\" is already in use"))
        .collect();
    if taken.is_empty() {
        copy_list(wanted, &mut accepted, "shortNames");
    } else if conflict.is_none() {
        conflict = Some(("ShortNamesConflict", taken.join(", ")));
    }
    copy_list(wanted, &mut accepted, "categories");
    (accepted, conflict)
}

fn texts<'a>(names: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    names.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn copy_list(from: &Value, to: &mut Object, field: &str) {
    match from.get(field).filter(|list| list.as_array().is_some_and(|list| !list.is_empty())) {
        Some(list) => to.insert(field.to_owned(), list.clone()),
        None => to.remove(field),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, singular: &str, kind: &str) -> Object {
        into_object(json!({"spec": {"group": "example.com", "names": {
            "plural": plural, "singular": singular, "kind": kind, "listKind": format!("{kind}List"),
        }}}))
    }

    #[test]
    fn names_are_given_once() {
        let mut first = definition("things", "thing", "Thing");
        let settled = status(&first, &[], "t1");
        assert_eq!(settled["acceptedNames"]["kind"], "Thing");
        assert_eq!(settled["conditions"][1]["reason"], "InitialNamesAccepted");
        first.insert("status".to_owned(), Value::Object(settled.clone()));
        assert_eq!(status(&first, &[], "t2"), settled, "nothing is new");

        let second = status(&definition("thingz", "thing", "Thing"), &[first], "t2");
        assert_eq!(second["acceptedNames"], json!({"plural": "thingz"}));
        assert_eq!(second["conditions"][0]["reason"], "ListKindConflict");
        assert_eq!(second["conditions"][0]["message"], "\"ThingList\" is already in use");
        assert_eq!(second["conditions"][1]["reason"], "NotAccepted");
    }
}
