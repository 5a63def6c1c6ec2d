//! Cells of jobs and cron jobs.

use serde_json::Value;

use super::nodes::condition;
use super::{age_of_time, duration_text};
use crate::kube::object::{self, Object};
use crate::kube::registry::context::parse_time;

/// What the job is doing: the first of these that holds.
pub(super) fn status(object: &Object, _now: i64) -> Value {
    let holds = |kind: &str| {
        condition(object, kind).is_some_and(|one| object::text(one, "status") == "True")
    };
    let told = [
        (holds("Complete"), "Complete"),
        (holds("Failed"), "Failed"),
        (object::is_being_deleted(object), "Terminating"),
        (holds("Suspended"), "Suspended"),
        (holds("FailureTarget"), "FailureTarget"),
    ];
    told.iter().find(|(holds, _)| *holds).map_or("Running", |(_, status)| *status).into()
}

pub(super) fn completions(object: &Object, _now: i64) -> Value {
    let succeeded = object::integer_at(object, &["status", "succeeded"]);
    let completions = object::at(object, &["spec", "completions"]).and_then(Value::as_i64);
    let parallelism = object::integer_at(object, &["spec", "parallelism"]);
    match completions {
        Some(completions) => format!("{succeeded}/{completions}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
    .into()
}

/// How long the job took, or has taken so far.
pub(super) fn duration(object: &Object, now: i64) -> Value {
    let time = |name: &str| parse_time(object::text_at(object, &["status", name]));
    match (time("startTime"), time("completionTime")) {
        (Some(start), end) => duration_text(end.unwrap_or(now) - start).into(),
        (None, _) => "".into(),
    }
}

pub(super) fn suspended(object: &Object, _now: i64) -> Value {
    match object::at(object, &["spec", "suspend"]).and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    }
    .into()
}

pub(super) fn last_schedule(object: &Object, now: i64) -> Value {
    match object::text_at(object, &["status", "lastScheduleTime"]) {
        "" => "<none>".into(),
        time => age_of_time(time, now).into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn what_a_job_is_doing() {
        let with = |kind: &str, status: &str| json!({"status": {"conditions": [{"type": kind, "status": status}]}});
        let mut leaving = with("Suspended", "True");
        leaving["metadata"] = json!({"deletionTimestamp": "2024-01-01T00:00:00Z"});
        for (job, expected) in [
            (json!({}), "Running"),
            (with("Complete", "True"), "Complete"),
            (with("Suspended", "False"), "Running"),
            (with("Suspended", "True"), "Suspended"),
            (with("SuccessCriteriaMet", "True"), "Running"),
            (leaving, "Terminating"),
        ] {
            assert_eq!(status(&into_object(job), 0), expected);
        }
    }

    #[test]
    fn how_far_a_job_is() {
        for (job, expected) in [
            (json!({"spec": {"completions": 3}, "status": {"succeeded": 1}}), "1/3"),
            (json!({"spec": {"parallelism": 5}}), "0/1 of 5"),
            (json!({"spec": {"parallelism": 1}}), "0/1"),
        ] {
            assert_eq!(completions(&into_object(job), 0), expected);
        }
        let job = into_object(json!({"status": {"startTime": "2023-11-14T22:13:00Z"}}));
        assert_eq!(duration(&job, 1_700_000_000), "20s");
        assert_eq!(duration(&Object::new(), 0), "");
    }
}
