//! Priority and DefaultTolerationSeconds: how important a pod is, and how long it stays on a node
//! that has gone silent.

use serde_json::{Value, json};

use crate::kube::object::{self, Object};
use crate::kube::registry::{Registry, Target, storage_error};
use crate::kube::status::ApiError;
use crate::kube::storage::keys;

/// Priorities of the two classes that every cluster has.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// Seconds that a pod is tolerated on a node that is not ready, or out of reach.
const TOLERATION_SECONDS: i64 = 300;

/// Priority: the number behind the name of the pod's class.
pub(super) async fn set_priority(
    registry: &Registry,
    target: &Target,
    pod: &mut Object,
) -> Result<(), ApiError> {
    let pod_name = object::name(pod).to_owned();
    let spec = object::map_mut(pod, "spec");
    let class_name = object::text(spec, "priorityClassName").to_owned();
    let (priority, policy) = if class_name.is_empty() {
        (0, "PreemptLowerPriority".to_owned())
    } else {
        match class(registry, &class_name).await? {
            Some(class) => class,
            None => {
                let why = format!("no PriorityClass with name {class_name} was found");
                return Err(ApiError::forbidden(target.resource(), &pod_name, &why));
            }
        }
    };
    if let Some(own) = spec.get("priority").and_then(Value::as_i64)
        && own != priority
    {
        let why = format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        );
        return Err(ApiError::forbidden(target.resource(), &pod_name, &why));
    }
    spec.insert("priority".to_owned(), priority.into());
    object::default_text(spec, "preemptionPolicy", &policy);
    Ok(())
}

async fn class(registry: &Registry, name: &str) -> Result<Option<(i64, String)>, ApiError> {
    let key = keys::object("priorityclasses", "", name);
    let (stored, _) = registry.storage.get(key.as_bytes()).await.map_err(storage_error)?;
    let entry = registry.catalog.entry("scheduling.k8s.io", "v1", "priorityclasses");
    if let (Some(stored), Some(entry)) = (stored, entry) {
        let class = registry.decode(entry, &stored)?;
        let policy = match object::text(&class, "preemptionPolicy") {
            "" => "PreemptLowerPriority",
            policy => policy,
        };
        return Ok(Some((object::integer_at(&class, &["value"]), policy.to_owned())));
    }
    let system = SYSTEM_CLASSES.iter().find(|(own, _)| *own == name);
    Ok(system.map(|(_, value)| (*value, "PreemptLowerPriority".to_owned())))
}

/// DefaultTolerationSeconds.
pub(super) fn tolerate_for_a_while(pod: &mut Object) {
    let spec = object::map_mut(pod, "spec");
    let mut tolerations = object::list(spec, "tolerations").to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = tolerations.iter().filter_map(Value::as_object).any(|one| {
            matches!(object::text(one, "key"), own if own == key || own.is_empty())
                && matches!(object::text(one, "effect"), "NoExecute" | "")
        });
        if !covered {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
    spec.insert("tolerations".to_owned(), tolerations.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn tolerations_are_added_once() {
        for (own, expected) in [
            (json!([]), 2),
            (json!([{"operator": "Exists"}]), 1),
            (json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]), 2),
            (json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]), 3),
        ] {
            let mut pod = into_object(json!({"spec": {"tolerations": own}}));
            tolerate_for_a_while(&mut pod);
            assert_eq!(object::list_at(&pod, &["spec", "tolerations"]).len(), expected);
        }
    }
}
