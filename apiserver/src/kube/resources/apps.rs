//! Workloads: deployments, replica sets, stateful sets, daemon sets.

use serde_json::Value;

use super::Strategy;
use super::pods::default_pod_template;
use crate::kube::object::{self, Object};

pub(super) fn strategy(plural: &str) -> Strategy {
    let workload = Strategy { generation: true, ..Strategy::default() };
    match plural {
        "deployments" => Strategy {
            defaults: default_deployment,
            // Labels are no part of a deployment's status.
            prepare_status_update: |new, old| {
                let empty = Object::new();
                let before = object::metadata(old).unwrap_or(&empty);
                object::copy_field(before, object::metadata_mut(new), "labels");
            },
            generation_counts: &["annotations"],
            ..workload
        },
        "replicasets" => Strategy { defaults: default_replica_set, ..workload },
        "statefulsets" => Strategy { defaults: default_stateful_set, ..workload },
        "daemonsets" => Strategy {
            defaults: default_daemon_set,
            prepare_update: keep_template_count,
            ..workload
        },
        _ => Strategy::default(),
    }
}

fn default_template(spec: &mut Object) {
    if spec.get("template").is_some_and(Value::is_object) {
        default_pod_template(object::map_mut(spec, "template"));
    }
}

fn default_deployment(object: &mut Object) {
    let spec = object::map_mut(object, "spec");
    object::default(spec, "replicas", 1);
    object::default(spec, "revisionHistoryLimit", 10);
    object::default(spec, "progressDeadlineSeconds", 600);
    let strategy = object::map_mut(spec, "strategy");
    object::default_text(strategy, "type", "RollingUpdate");
    if object::text(strategy, "type") == "RollingUpdate" {
        let rolling = object::map_mut(strategy, "rollingUpdate");
        object::default(rolling, "maxUnavailable", "25%");
        object::default(rolling, "maxSurge", "25%");
    }
    default_template(spec);
}

fn default_replica_set(object: &mut Object) {
    let spec = object::map_mut(object, "spec");
    object::default(spec, "replicas", 1);
    default_template(spec);
}

fn default_stateful_set(object: &mut Object) {
    let spec = object::map_mut(object, "spec");
    object::default(spec, "replicas", 1);
    object::default(spec, "revisionHistoryLimit", 10);
    object::default_text(spec, "podManagementPolicy", "OrderedReady");
    let strategy = object::map_mut(spec, "updateStrategy");
    object::default_text(strategy, "type", "RollingUpdate");
    if object::text(strategy, "type") == "RollingUpdate" {
        object::default(object::map_mut(strategy, "rollingUpdate"), "partition", 0);
    }
    let retention = object::map_mut(spec, "persistentVolumeClaimRetentionPolicy");
    object::default_text(retention, "whenDeleted", "Retain");
    object::default_text(retention, "whenScaled", "Retain");
    if let Some(Value::Array(claims)) = spec.get_mut("volumeClaimTemplates") {
        for claim in claims.iter_mut().filter_map(Value::as_object_mut) {
            object::default_text(claim, "kind", "PersistentVolumeClaim");
            object::default_text(claim, "apiVersion", "v1");
            object::default_text(object::map_mut(claim, "spec"), "volumeMode", "Filesystem");
            object::default_text(object::map_mut(claim, "status"), "phase", "Pending");
        }
    }
    default_template(spec);
}

fn default_daemon_set(object: &mut Object) {
    let spec = object::map_mut(object, "spec");
    object::default(spec, "revisionHistoryLimit", 10);
    let strategy = object::map_mut(spec, "updateStrategy");
    object::default_text(strategy, "type", "RollingUpdate");
    if object::text(strategy, "type") == "RollingUpdate" {
        let rolling = object::map_mut(strategy, "rollingUpdate");
        object::default(rolling, "maxUnavailable", 1);
        object::default(rolling, "maxSurge", 0);
    }
    default_template(spec);
    let annotations = object::map_mut(object::metadata_mut(object), "annotations");
    object::default(annotations, TEMPLATE_GENERATION, "1");
}

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The annotation counts changes of the template.
fn keep_template_count(new: &mut Object, old: &Object) {
    let path = ["metadata", "annotations", TEMPLATE_GENERATION];
    let before: i64 = object::text_at(old, &path).parse().unwrap_or(1);
    let template = ["spec", "template"];
    let changed = !object::same(object::at(new, &template), object::at(old, &template));
    let annotations = object::map_mut(object::metadata_mut(new), "annotations");
    let count = before + i64::from(changed);
    annotations.insert(TEMPLATE_GENERATION.to_owned(), count.to_string().into());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn a_deployment_gets_its_defaults() {
        let mut object = into_object(json!({"spec": {"template": {"spec": {"containers": [{}]}}}}));
        default_deployment(&mut object);
        let spec = &object["spec"];
        assert_eq!(spec["replicas"], 1);
        assert_eq!(spec["strategy"]["rollingUpdate"]["maxSurge"], "25%");
        assert_eq!(spec["template"]["spec"]["schedulerName"], "default-scheduler");
    }
}
