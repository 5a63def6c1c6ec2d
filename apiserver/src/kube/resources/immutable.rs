//! Fields that never change once they are written, as data.

use serde_json::Value;

use crate::kube::object::{self, Object};
use crate::kube::status::FieldError;

/// How a change is refused.
#[derive(Clone, Copy)]
enum Refusal {
    /// The new value is invalid: "field is immutable".
    Immutable,
    /// Forbidden, in these words.
    Forbidden(&'static str),
}

use Refusal::{Forbidden, Immutable};

/// The path of a field, and the name that messages have for it.
type Rule = (&'static [&'static str], &'static str, Refusal);

fn rules(group: &str, plural: &str) -> &'static [Rule] {
    match (group, plural) {
        ("apps", "controllerrevisions") => &[(&["data"], "data", Immutable)],
        ("networking.k8s.io", "ingressclasses") => {
            &[(&["spec", "controller"], "spec.controller", Immutable)]
        }
        ("node.k8s.io", "runtimeclasses") => &[(&["handler"], "handler", Immutable)],
        ("resource.k8s.io", "resourceslices") => &[(&["spec", "driver"], "spec.driver", Immutable)],
        ("storage.k8s.io", "storageclasses") => &[
            (&["parameters"], "parameters", Immutable),
            (&["provisioner"], "provisioner", Immutable),
            (&["reclaimPolicy"], "reclaimPolicy", Immutable),
            (&["volumeBindingMode"], "volumeBindingMode", Immutable),
        ],
        ("storage.k8s.io", "volumeattributesclasses") => &[
            (&["driverName"], "driverName", Forbidden("updates to driverName are forbidden.")),
            (&["parameters"], "parameters", Forbidden("updates to parameters are forbidden.")),
        ],
        _ => &[],
    }
}

/// The changes of fields that never change.
pub fn check(group: &str, plural: &str, new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (path, name, refusal) in rules(group, plural) {
        let (now, before) = (object::at(new, path), object::at(old, path));
        if object::same(now, before) {
            continue;
        }
        errors.push(match refusal {
            Immutable => {
                let shown = now.cloned().unwrap_or(Value::Null);
                FieldError::invalid(*name, shown, "field is immutable")
            }
            Forbidden(why) => FieldError::forbidden(*name, why),
        });
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn changes_of_fields_that_never_change() {
        let class = |provisioner: &str| into_object(json!({"provisioner": provisioner}));
        let group = "storage.k8s.io";
        assert!(check(group, "storageclasses", &class("a"), &class("a")).is_empty());
        let errors = check(group, "storageclasses", &class("b"), &class("a"));
        assert_eq!(errors[0].message(), "Invalid value: \"b\": field is immutable");
    }
}
