//! Cells of pods: how many containers are ready, and what the pod as a whole is doing.

use serde_json::{Value, json};

use super::age_of_time;
use crate::kube::object::{self, Object};

/// Ready containers of all.
pub(super) fn ready(pod: &Object, _now: i64) -> Value {
    let summary = Summary::of(pod);
    format!("{}/{}", summary.ready, summary.total).into()
}

/// What the pod is doing, or why not.
pub(super) fn status(pod: &Object, _now: i64) -> Value {
    Summary::of(pod).reason.into()
}

/// How often containers were restarted, and when the last one was.
pub(super) fn restarts(pod: &Object, now: i64) -> Value {
    let summary = Summary::of(pod);
    match summary.last_restart {
        Some(time) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, age_of_time(time, now)).into()
        }
        _ => summary.restarts.to_string().into(),
    }
}

/// The first of the pod's addresses.
pub(super) fn address(pod: &Object, _now: i64) -> Value {
    let first = object::list_at(pod, &["status", "podIPs"]).first();
    match first.and_then(|one| one.get("ip")).and_then(Value::as_str) {
        None | Some("") => "<none>".into(),
        Some(address) => address.into(),
    }
}

/// That a pod has ended, and how.
pub(super) fn conditions(pod: &Object) -> Vec<Value> {
    let (reason, message) = match object::text_at(pod, &["status", "phase"]) {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return Vec::new(),
    };
    vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
}

struct Summary<'a> {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<&'a str>,
    /// Those of init containers that go on running beside the others.
    sidecar_restarts: i64,
    last_sidecar_restart: Option<&'a str>,
}

fn state<'a>(container: &'a Value, state: &str) -> Option<&'a Object> {
    container.get("state")?.get(state)?.as_object()
}

fn is_ready(container: &Value) -> bool {
    container.get("ready") == Some(&Value::Bool(true))
}

fn is_true(condition: &Value, kind: &str) -> bool {
    let text = |name: &str| condition.get(name).and_then(Value::as_str).unwrap_or("");
    text("type") == kind && text("status") == "True"
}

/// Why a container has ended: its own reason, or its signal or exit code.
fn end_reason(terminated: &Object, prefix: &str) -> String {
    match object::text(terminated, "reason") {
        "" => match object::integer_at(terminated, &["signal"]) {
            0 => format!("{prefix}ExitCode:{}", object::integer_at(terminated, &["exitCode"])),
            signal => format!("{prefix}Signal:{signal}"),
        },
        reason => format!("{prefix}{reason}"),
    }
}

impl<'a> Summary<'a> {
    fn of(pod: &'a Object) -> Summary<'a> {
        let sidecars = restartable_init_containers(pod);
        let mut summary = Summary {
            ready: 0,
            total: object::list_at(pod, &["spec", "containers"]).len() + sidecars.len(),
            reason: phase_reason(pod),
            restarts: 0,
            last_restart: None,
            sidecar_restarts: 0,
            last_sidecar_restart: None,
        };
        let initializing = summary.add_init_containers(pod, &sidecars);
        if !initializing || is_initialized(pod) {
            summary.add_containers(pod);
        }
        summary.consider_deletion(pod);
        summary
    }

    fn count_restarts(&mut self, container: &'a Value, sidecar: bool) {
        let count = container.get("restartCount").and_then(Value::as_i64).unwrap_or(0);
        let last = container.get("lastState").and_then(|last| last.get("terminated"));
        let time = last.and_then(|ended| ended.get("finishedAt")).and_then(Value::as_str);
        self.restarts += count;
        self.last_restart = self.last_restart.max(time);
        if sidecar {
            self.sidecar_restarts += count;
            self.last_sidecar_restart = self.last_sidecar_restart.max(time);
        }
    }

    /// Gives whether initialization goes on (or has failed).
    fn add_init_containers(&mut self, pod: &'a Object, sidecars: &[&str]) -> bool {
        let statuses = object::list_at(pod, &["status", "initContainerStatuses"]);
        let count = object::list_at(pod, &["spec", "initContainers"]).len();
        for (index, container) in statuses.iter().enumerate() {
            let name = container.get("name").and_then(Value::as_str).unwrap_or("");
            let sidecar = sidecars.contains(&name);
            self.count_restarts(container, sidecar);
            let terminated = state(container, "terminated");
            if terminated.is_some_and(|ended| object::integer_at(ended, &["exitCode"]) == 0) {
                continue;
            }
            if sidecar && container.get("started") == Some(&Value::Bool(true)) {
                if is_ready(container) {
                    self.ready += 1;
                }
                continue;
            }
            self.reason = match (terminated, state(container, "waiting")) {
                (Some(ended), _) => end_reason(ended, "Init:"),
                (None, Some(waiting))
                    if !matches!(object::text(waiting, "reason"), "" | "PodInitializing") =>
                {
                    format!("Init:{}", object::text(waiting, "reason"))
                }
                _ => format!("Init:{index}/{count}"),
            };
            return true;
        }
        false
    }

    fn add_containers(&mut self, pod: &'a Object) {
        let mut running = false;
        // Init containers that have done their work count no more.
        self.restarts = self.sidecar_restarts;
        self.last_restart = self.last_sidecar_restart;
        for container in object::list_at(pod, &["status", "containerStatuses"]).iter().rev() {
            self.count_restarts(container, false);
            let waiting = state(container, "waiting").map_or("", |w| object::text(w, "reason"));
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(ended) = state(container, "terminated") {
                self.reason = end_reason(ended, "");
            } else if is_ready(container) && state(container, "running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let conditions = object::list_at(pod, &["status", "conditions"]);
            let ready = conditions.iter().any(|condition| is_true(condition, "Ready"));
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn consider_deletion(&mut self, pod: &Object) {
        if !object::is_being_deleted(pod) {
            return;
        }
        if object::text_at(pod, &["status", "reason"]) == "NodeLost" {
            self.reason = "Unknown".to_owned();
        } else if !matches!(object::text_at(pod, &["status", "phase"]), "Succeeded" | "Failed") {
            self.reason = "Terminating".to_owned();
        }
    }
}

fn phase_reason(pod: &Object) -> String {
    let gated = object::list_at(pod, &["status", "conditions"]).iter().any(|condition| {
        let text = |name: &str| condition.get(name).and_then(Value::as_str).unwrap_or("");
        text("type") == "PodScheduled" && text("reason") == "SchedulingGated"
    });
    if gated {
        return "SchedulingGated".to_owned();
    }
    match object::text_at(pod, &["status", "reason"]) {
        "" => object::text_at(pod, &["status", "phase"]).to_owned(),
        reason => reason.to_owned(),
    }
}

fn is_initialized(pod: &Object) -> bool {
    let conditions = object::list_at(pod, &["status", "conditions"]);
    conditions.iter().any(|condition| is_true(condition, "Initialized"))
}

/// Init containers that go on running beside the others.
fn restartable_init_containers(pod: &Object) -> Vec<&str> {
    let containers = object::list_at(pod, &["spec", "initContainers"]).iter();
    let always = |one: &&Value| one.get("restartPolicy").and_then(Value::as_str) == Some("Always");
    containers.filter(always).filter_map(|one| one.get("name").and_then(Value::as_str)).collect()
}

/// Further conditions that are fulfilled, of all.
pub(super) fn readiness_gates(pod: &Object, _now: i64) -> Value {
    let gates = object::list_at(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".into();
    }
    let conditions = object::list_at(pod, &["status", "conditions"]);
    let fulfilled = gates.iter().filter(|gate| {
        let kind = gate.get("conditionType").and_then(Value::as_str).unwrap_or("");
        conditions.iter().any(|condition| is_true(condition, kind))
    });
    format!("{}/{}", fulfilled.count(), gates.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn what_a_pod_is_doing() {
        let containers = json!([{"name": "c"}]);
        for (status, ready, reason) in [
            (json!({"phase": "Pending"}), 0, "Pending"),
            (
                json!({"phase": "Running", "containerStatuses": [{"ready": true, "state": {"running": {}}}]}),
                1,
                "Running",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
                0,
                "CrashLoopBackOff",
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}),
                0,
                "ExitCode:3",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]}),
                0,
                "Init:0/1",
            ),
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
                0,
                "SchedulingGated",
            ),
        ] {
            let pod = into_object(json!({
                "spec": {"containers": containers, "initContainers": [{"name": "i"}]}, "status": status,
            }));
            let summary = Summary::of(&pod);
            assert_eq!((summary.ready, summary.reason.as_str()), (ready, reason));
        }
    }

    #[test]
    fn restarts_of_init_containers_count_while_they_matter() {
        let restarted = |name: &str, count: i64| {
            json!({"name": name, "restartCount": count, "state": {"terminated": {"exitCode": 0}},
                "lastState": {"terminated": {"finishedAt": "2023-11-14T22:13:10Z"}}})
        };
        let pod = into_object(json!({
            "spec": {"initContainers": [{"name": "a"}, {"name": "b", "restartPolicy": "Always"}]},
            "status": {
                "initContainerStatuses": [restarted("a", 3), restarted("b", 2)],
                "containerStatuses": [{"name": "c", "restartCount": 1}],
            },
        }));
        assert_eq!(restarts(&pod, 1_700_000_000), "3 (10s ago)");
    }

    #[test]
    fn a_pod_that_is_going_is_terminating() {
        let pod = into_object(
            json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}, "status": {"phase": "Running"}}),
        );
        assert_eq!(Summary::of(&pod).reason, "Terminating");
    }
}
