//! Jobs and cron jobs.

use serde_json::Value;

use super::Strategy;
use super::pods::default_pod_template;
use crate::kube::object::{self, Object};

pub(super) fn strategy(plural: &str) -> Strategy {
    let usual = Strategy { generation: true, ..Strategy::default() };
    match plural {
        "jobs" => Strategy {
            defaults: default_job,
            prepare_create: select_own_pods,
            orphans_by_default: true,
            ..usual
        },
        "cronjobs" => Strategy { defaults: default_cron_job, ..usual },
        _ => usual,
    }
}

fn default_job(job: &mut Object) {
    let labels = object::at(job, &["spec", "template", "metadata", "labels"]).cloned();
    let spec = object::map_mut(job, "spec");
    if object::same(spec.get("completions"), None) && object::same(spec.get("parallelism"), None) {
        spec.insert("completions".to_owned(), 1.into());
    }
    object::default(spec, "parallelism", 1);
    let per_index = spec.get("backoffLimitPerIndex").is_some_and(|value| !value.is_null());
    object::default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    object::default_text(spec, "completionMode", "NonIndexed");
    object::default(spec, "suspend", false);
    object::default(spec, "manualSelector", false);
    let by_policy = spec.get("podFailurePolicy").is_some_and(Value::is_object);
    let replacement = if by_policy { "Failed" } else { "TerminatingOrFailed" };
    object::default_text(spec, "podReplacementPolicy", replacement);
    default_failure_policy(spec);
    default_pod_template(object::map_mut(spec, "template"));
    let metadata = object::metadata_mut(job);
    if object::map(metadata, "labels").is_none_or(Object::is_empty)
        && let Some(labels) = labels
    {
        metadata.insert("labels".to_owned(), labels);
    }
}

fn default_failure_policy(spec: &mut Object) {
    let Some(Value::Object(policy)) = spec.get_mut("podFailurePolicy") else { return };
    let Some(Value::Array(rules)) = policy.get_mut("rules") else { return };
    for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
        let Some(Value::Array(patterns)) = rule.get_mut("onPodConditions") else { continue };
        for pattern in patterns.iter_mut().filter_map(Value::as_object_mut) {
            object::default_text(pattern, "status", "True");
        }
    }
}

/// A job's pods are told by labels with its uid, unless the client sees to that itself.
fn select_own_pods(job: &mut Object) {
    let uid = object::uid(job).to_owned();
    let name = object::name(job).to_owned();
    let spec = object::map_mut(job, "spec");
    if spec.get("manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    let template = object::map_mut(spec, "template");
    let labels = object::map_mut(object::metadata_mut(template), "labels");
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        // Labels that say otherwise are told of by the rules.
        object::default(labels, key, value.as_str());
    }
    let selector = object::map_mut(object::map_mut(spec, "selector"), "matchLabels");
    object::default(selector, "batch.kubernetes.io/controller-uid", uid);
}

fn default_cron_job(cron_job: &mut Object) {
    let spec = object::map_mut(cron_job, "spec");
    object::default_text(spec, "concurrencyPolicy", "Allow");
    object::default(spec, "suspend", false);
    object::default(spec, "successfulJobsHistoryLimit", 3);
    object::default(spec, "failedJobsHistoryLimit", 1);
    let job = object::map_mut(object::map_mut(spec, "jobTemplate"), "spec");
    default_pod_template(object::map_mut(job, "template"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn a_job_selects_its_own_pods() {
        let mut job = into_object(json!({"metadata": {"name": "j", "uid": "u"}, "spec": {}}));
        default_job(&mut job);
        select_own_pods(&mut job);
        let labels = &job["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels["batch.kubernetes.io/job-name"], "j");
        assert_eq!(
            job["spec"]["selector"]["matchLabels"],
            json!({"batch.kubernetes.io/controller-uid": "u"})
        );
        assert_eq!(
            (&job["spec"]["completions"], &job["spec"]["backoffLimit"]),
            (&json!(1), &json!(6))
        );
    }
}
