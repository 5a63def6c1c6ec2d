//! Binding a pod to a node: `pods/binding`, and the older `bindings`.

use serde_json::{Value, json};

use super::context::{Now, WriteContext};
use super::{Registry, Target};
use crate::kube::limits::UPDATE_TRIES;
use crate::kube::object::{self, Object};
use crate::kube::status::{ApiError, FieldError, Named};
use crate::kube::storage::value;

const BINDINGS: Named<'_> = Named { group: "", kind: "pods/binding" };

impl Registry {
    /// Gives a pod its node. `pod` names the pod of the path; the name in the binding counts.
    pub async fn bind(
        &self,
        pod: &Target,
        binding: &Object,
        context: &WriteContext,
    ) -> Result<(), ApiError> {
        if object::name(binding) != pod.name {
            let why = "name in URL does not match name in Binding object";
            return Err(ApiError::bad_request(why));
        }
        check(binding)?;
        for _ in 0..UPDATE_TRIES {
            let (old, stored) = self.load(pod).await?;
            let conflict = |why: String| ApiError::conflict(BINDINGS, &pod.name, &why);
            check_identity(pod, binding, &old).map_err(conflict)?;
            let new = bound(&pod.name, &old, binding, context.now).map_err(conflict)?;
            if context.options.dry_run {
                return Ok(());
            }
            let bytes = value::encode(&pod.entry.to_stored(new));
            if self.write_over(pod, &stored, Some(bytes)).await?.is_some() {
                return Ok(());
            }
        }
        Err(ApiError::modified(pod.resource(), &pod.name))
    }
}

/// The rules of a binding; kube-apiserver answers a broken one as its own fault.
fn check(binding: &Object) -> Result<(), ApiError> {
    let kind = object::text_at(binding, &["target", "kind"]);
    let mut errors = Vec::new();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if object::text_at(binding, &["target", "name"]).is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    let texts: Vec<String> =
        errors.iter().map(|error| format!("{}: {}", error.field, error.message())).collect();
    match texts.as_slice() {
        [] => Ok(()),
        [one] => Err(ApiError::internal(one.as_str())),
        many => Err(ApiError::internal(format!("[{}]", many.join(", ")))),
    }
}

/// The pod must be the one that the binding means, if it says which.
fn check_identity(target: &Target, binding: &Object, pod: &Object) -> Result<(), String> {
    for (name, field) in [("UID", "uid"), ("ResourceVersion", "resourceVersion")] {
        let (wanted, own) = (object::meta_text(binding, field), object::meta_text(pod, field));
        if !wanted.is_empty() && wanted != own {
            return Err(format!(
                "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {own}",
                target.key()
            ));
        }
    }
    Ok(())
}

/// The pod with its node, or why it can't have one.
fn bound(name: &str, old: &Object, binding: &Object, now: Now) -> Result<Object, String> {
    if object::is_being_deleted(old) {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = object::text_at(old, &["spec", "nodeName"]);
    if !node.is_empty() {
        return Err(format!("pod {name} is already assigned to node \"{node}\""));
    }
    if !object::list_at(old, &["spec", "schedulingGates"]).is_empty() {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut pod = old.clone();
    let node = object::text_at(binding, &["target", "name"]);
    object::map_mut(&mut pod, "spec").insert("nodeName".to_owned(), node.into());
    for field in ["annotations", "labels"] {
        let Some(Value::Object(given)) = object::at(binding, &["metadata", field]) else {
            continue;
        };
        object::map_mut(object::metadata_mut(&mut pod), field).extend(given.clone());
    }
    let status = object::map_mut(&mut pod, "status");
    let mut conditions = object::list(status, "conditions").to_vec();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": now.seconds(),
    }));
    status.insert("conditions".to_owned(), conditions.into());
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn bindings_are_checked() {
        for (target, expected) in [
            (json!({"kind": "Node", "name": "n"}), None),
            (json!({"name": "n"}), None),
            (json!({}), Some("target.name: Required value")),
            (
                json!({"kind": "Pod"}),
                Some(
                    "[target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\", target.name: Required value]",
                ),
            ),
        ] {
            let binding = into_object(json!({"target": target}));
            let message = check(&binding).err().map(|error| error.status().message.clone());
            assert_eq!(message.as_deref(), expected);
        }
    }

    #[test]
    fn a_pod_is_bound_once() {
        let now = Now::new(SystemTime::UNIX_EPOCH);
        let binding =
            into_object(json!({"metadata": {"annotations": {"a": "b"}}, "target": {"name": "n"}}));
        let pod = bound("p", &Object::new(), &binding, now).expect("can be bound");
        assert_eq!(pod["spec"]["nodeName"], "n");
        assert_eq!(pod["metadata"]["annotations"]["a"], "b");
        assert_eq!(pod["status"]["conditions"][0]["status"], "True");
        let again = bound("p", &pod, &binding, now).expect_err("is bound");
        assert_eq!(again, "pod p is already assigned to node \"n\"");
    }
}
