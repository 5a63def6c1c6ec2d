//! Tables of jobs, cron jobs and ingresses.

use serde_json::Value;

use super::{
    AGE, Cells, Column, Layout, NAME, age_cell, age_of_time, column, containers_and_images,
    duration_text, name_cell,
};
use crate::kube::object::{self, Object};
use crate::kube::registry::context::parse_time;
use crate::kube::resources::selector_text;

pub(super) fn layout(group: &str, plural: &str) -> Option<Layout> {
    Some(match (group, plural) {
        ("batch", "jobs") => Layout { columns: JOB, cells: job },
        ("batch", "cronjobs") => Layout { columns: CRON_JOB, cells: cron_job },
        ("networking.k8s.io", "ingresses") => Layout { columns: INGRESS, cells: ingress },
        _ => return None,
    })
}

const JOB: &[Column] = &[
    NAME,
    column("Status", "string", 0, "What the job is doing."),
    column("Completions", "string", 0, "Pods that have succeeded, of those that shall."),
    column("Duration", "string", 0, "How long it has taken."),
    AGE,
    column("Containers", "string", 1, "The names of its containers."),
    column("Images", "string", 1, "The images of its containers."),
    column("Selector", "string", 1, "The labels of its pods."),
];

fn has_condition(object: &Object, kind: &str) -> bool {
    object::list_at(object, &["status", "conditions"]).iter().any(|condition| {
        let text = |name: &str| condition.get(name).and_then(Value::as_str).unwrap_or("");
        text("type") == kind && text("status") == "True"
    })
}

fn job_status(object: &Object) -> &'static str {
    let kinds = [
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ];
    let found = kinds.iter().find(|(kind, _)| has_condition(object, kind));
    match found {
        Some((_, status)) if matches!(*status, "Complete" | "Failed") => status,
        _ if object::is_being_deleted(object) => "Terminating",
        Some((_, status)) => status,
        None => "Running",
    }
}

fn job(object: &Object, now: i64) -> Cells {
    let succeeded = object::integer_at(object, &["status", "succeeded"]);
    let completions = object::at(object, &["spec", "completions"]).and_then(Value::as_i64);
    let parallelism = object::integer_at(object, &["spec", "parallelism"]);
    let progress = match completions {
        Some(completions) => format!("{succeeded}/{completions}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    };
    let time = |name: &str| parse_time(object::text_at(object, &["status", name]));
    let duration = match (time("startTime"), time("completionTime")) {
        (Some(start), Some(end)) => duration_text(end - start),
        (Some(start), None) => duration_text(now - start),
        (None, _) => String::new(),
    };
    let (containers, images) = containers_and_images(object);
    let selector = object::at(object, &["spec", "selector"]).unwrap_or(&Value::Null);
    vec![
        name_cell(object),
        job_status(object).into(),
        progress.into(),
        duration.into(),
        age_cell(object, now),
        containers.into(),
        images.into(),
        selector_text(selector).into(),
    ]
}

const CRON_JOB: &[Column] = &[
    NAME,
    column("Schedule", "string", 0, "When it runs."),
    column("Timezone", "string", 0, "Whose time that is."),
    column("Suspend", "boolean", 0, "Whether it rests."),
    column("Active", "integer", 0, "Jobs that run now."),
    column("Last Schedule", "string", 0, "The time since it last ran."),
    AGE,
];

fn cron_job(object: &Object, now: i64) -> Cells {
    let zone = match object::text_at(object, &["spec", "timeZone"]) {
        "" => "<none>",
        zone => zone,
    };
    let last = match object::text_at(object, &["status", "lastScheduleTime"]) {
        "" => "<none>".to_owned(),
        time => age_of_time(time, now),
    };
    vec![
        name_cell(object),
        object::text_at(object, &["spec", "schedule"]).into(),
        zone.into(),
        (object::at(object, &["spec", "suspend"]) == Some(&Value::Bool(true))).to_string().into(),
        object::list_at(object, &["status", "active"]).len().into(),
        last.into(),
        age_cell(object, now),
    ]
}

const INGRESS: &[Column] = &[
    NAME,
    column("Class", "string", 0, "Who serves it."),
    column("Hosts", "string", 0, "The hosts that it is for."),
    column("Address", "string", 0, "Where it is served."),
    column("Ports", "string", 0, "The ports that it is served on."),
    AGE,
];

/// At most so many hosts are listed; the rest is a number.
const LISTED_HOSTS: usize = 3;

fn ingress(object: &Object, now: i64) -> Cells {
    let class = match object::text_at(object, &["spec", "ingressClassName"]) {
        "" => "<none>",
        class => class,
    };
    let text = |one: &Value, name: &str| one.get(name).and_then(Value::as_str).map(str::to_owned);
    let rules = object::list_at(object, &["spec", "rules"]);
    let mut hosts: Vec<String> =
        rules.iter().filter_map(|rule| text(rule, "host")).filter(|h| !h.is_empty()).collect();
    let surplus = hosts.len().saturating_sub(LISTED_HOSTS);
    hosts.truncate(LISTED_HOSTS);
    let hosts = match (hosts.is_empty(), surplus) {
        (true, _) => "*".to_owned(),
        (false, 0) => hosts.join(","),
        (false, surplus) => format!("{} + {surplus} more...", hosts.join(",")),
    };
    let addresses = object::list_at(object, &["status", "loadBalancer", "ingress"]);
    let addresses: Vec<String> = addresses
        .iter()
        .filter_map(|one| text(one, "ip").or_else(|| text(one, "hostname")))
        .collect();
    let encrypted = !object::list_at(object, &["spec", "tls"]).is_empty();
    vec![
        name_cell(object),
        class.into(),
        hosts.into(),
        addresses.join(",").into(),
        if encrypted { "80, 443".into() } else { "80".into() },
        age_cell(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn what_a_job_is_doing() {
        for (status, expected) in [
            (json!({}), "Running"),
            (json!({"conditions": [{"type": "Complete", "status": "True"}]}), "Complete"),
            (json!({"conditions": [{"type": "Suspended", "status": "False"}]}), "Running"),
        ] {
            assert_eq!(job_status(&into_object(json!({"status": status}))), expected);
        }
    }
}
