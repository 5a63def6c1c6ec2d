//! Rules of containers.

use serde_json::Value;

use super::place::{Errors, Place};
use super::volumes::Volumes;
use super::{common, compute, environment, security};
use crate::kube::registry::names;
use crate::kube::status::FieldError;

pub const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const FORBIDDEN_FOR_INIT: &str = "may not be set for init containers without restartPolicy=Always";
const MOST_RESTART_RULES: usize = 20;
const MOST_EXIT_CODES: usize = 255;

/// What of a pod its containers' rules depend on.
pub struct Pod<'a> {
    pub volumes: Volumes,
    pub claims: Vec<&'a str>,
    pub grace_seconds: Option<i64>,
    pub restart_policy: &'a str,
    pub host_users: bool,
}

pub fn containers(place: &Place<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    if place.is_empty() {
        errors.push(place.required(""));
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for container in place.items() {
        common_rules(&container, pod, errors);
        let name = container.child("name");
        if seen.contains(&name.text()) {
            errors.push(name.duplicate_of(name.text()));
        }
        seen.push(name.text());
        lifecycle_and_probes(&container, pod, errors);
        restart_policy(&container, errors);
    }
    host_ports(&place.items(), errors);
}

pub fn init_containers(place: &Place<'_>, others: &Place<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = others.items().iter().map(|one| one.child("name").text()).collect();
    for container in place.items() {
        common_rules(&container, pod, errors);
        if container.child("restartPolicy").is_set()
            || !container.child("restartPolicyRules").is_empty()
        {
            restart_policy(&container, errors);
        }
        let name = container.child("name");
        if seen.contains(&name.text()) {
            errors.push(name.duplicate_of(name.text()));
        } else if !name.is_empty() {
            seen.push(name.text());
        }
        host_ports(std::slice::from_ref(&container), errors);
        if container.child("restartPolicy").text() == "Always" {
            lifecycle_and_probes(&container, pod, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            let place = container.child(field);
            if place.is_set() {
                errors.push(place.forbidden(FORBIDDEN_FOR_INIT));
            }
        }
    }
}

/// Fields that a container for looking into others has no use for.
const FORBIDDEN_FOR_EPHEMERAL: [&str; 6] =
    ["ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];

pub fn ephemeral_containers(
    place: &Place<'_>,
    spec: &Place<'_>,
    pod: &Pod<'_>,
    errors: &mut Errors,
) {
    let fixed = ["containers", "initContainers"];
    let others: Vec<Place<'_>> = fixed.iter().flat_map(|field| spec.child(field).items()).collect();
    let other_names: Vec<&str> = others.iter().map(|one| one.child("name").text()).collect();
    let mut seen = other_names.clone();
    for container in place.items() {
        common_rules(&container, pod, errors);
        let name = container.child("name");
        if seen.contains(&name.text()) {
            errors.push(name.duplicate_of(name.text()));
        }
        seen.push(name.text());
        let target = container.child("targetContainerName");
        if !target.is_empty() && !other_names.contains(&target.text()) {
            errors.push(target.not_found());
        }
        let why = "cannot be set for an Ephemeral Container";
        for field in FORBIDDEN_FOR_EPHEMERAL {
            if !container.child(field).is_empty() {
                errors.push(container.child(field).forbidden(why));
            }
        }
        for mount in container.child("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.child(field).is_empty() {
                    errors.push(mount.child(field).forbidden(why));
                }
            }
        }
    }
}

fn common_rules(container: &Place<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    common::required_name(&container.child("name"), names::dns_label, errors);
    common::required(&container.child("image"), errors);
    let policies = ["File", "FallbackToLogsOnError"];
    common::one_of(&container.child("terminationMessagePolicy"), &policies, errors);
    ports(&container.child("ports"), errors);
    environment::variables(&container.child("env"), errors);
    environment::bundles(&container.child("envFrom"), errors);
    pod.volumes.mounts(container, errors);
    pod.volumes.devices(container, errors);
    let policies = ["Always", "IfNotPresent", "Never"];
    common::one_of(&container.child("imagePullPolicy"), &policies, errors);
    compute::container_requirements(&container.child("resources"), &pod.claims, errors);
    resize_policy(&container.child("resizePolicy"), pod, errors);
    security::container(&container.child("securityContext"), pod.host_users, errors);
}

fn ports(place: &Place<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for port in place.items() {
        let name = port.child("name");
        if !name.is_empty() {
            let before = errors.len();
            common::named(&name, common::port_name, errors);
            if errors.len() == before {
                if seen.contains(&name.text()) {
                    errors.push(name.duplicate());
                }
                seen.push(name.text());
            }
        }
        let number = port.child("containerPort");
        match number.number_or_zero() {
            0 => errors.push(number.required("")),
            _ => common::port_number(&number, errors),
        }
        if port.child("hostPort").number_or_zero() != 0 {
            common::port_number(&port.child("hostPort"), errors);
        }
        common::one_of(&port.child("protocol"), &PROTOCOLS, errors);
    }
}

/// Two containers can't have the same port of the node.
fn host_ports(containers: &[Place<'_>], errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for port in containers.iter().flat_map(|container| container.child("ports").items()) {
        let number = port.child("hostPort").number_or_zero();
        if number == 0 {
            continue;
        }
        let address = port.child("hostIP").text();
        let key = format!("{}/{address}/{number}", port.child("protocol").text());
        if seen.contains(&key) {
            errors.push(port.child("hostPort").duplicate_of(key));
        } else {
            seen.push(key);
        }
    }
}

fn resize_policy(place: &Place<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for policy in place.items() {
        let resource = policy.child("resourceName").text();
        if seen.contains(&resource) {
            errors.push(policy.duplicate_of(resource));
        }
        seen.push(resource);
        let restart = policy.child("restartPolicy");
        common::one_of(
            &policy.child("resourceName").called(place.path()),
            &["cpu", "memory"],
            errors,
        );
        let policies = ["NotRequired", "RestartContainer"];
        common::one_of(&restart.called(place.path()), &policies, errors);
        if pod.restart_policy == "Never" && restart.text() != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(place.invalid_as(restart.text(), why));
        }
    }
}

fn restart_policy(container: &Place<'_>, errors: &mut Errors) {
    let policy = container.child("restartPolicy");
    let rules = container.child("restartPolicyRules");
    if policy.is_set() {
        common::listed(&policy, &["Always", "Never", "OnFailure"], errors);
    } else if !rules.is_empty() {
        errors.push(policy.required("must specify restartPolicy when restart rules are used"));
    }
    if rules.len() > MOST_RESTART_RULES {
        errors.push(rules.too_many(MOST_RESTART_RULES));
    }
    for rule in rules.items() {
        common::listed(&rule.child("action"), &["Restart", "RestartAllContainers"], errors);
        let codes = rule.child("exitCodes");
        if !codes.is_set() {
            errors.push(codes.required("must be specified"));
            continue;
        }
        common::listed(&codes.child("operator"), &["In", "NotIn"], errors);
        if codes.child("values").len() > MOST_EXIT_CODES {
            errors.push(codes.child("values").too_many(MOST_EXIT_CODES));
        }
    }
}

fn lifecycle_and_probes(container: &Place<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    for hook in ["postStart", "preStop"] {
        let hook = container.below(&["lifecycle", hook]);
        if hook.is_set() {
            handler(&hook, pod, errors);
        }
    }
    for (name, succeeds_once) in
        [("livenessProbe", true), ("readinessProbe", false), ("startupProbe", true)]
    {
        let place = container.child(name);
        if place.is_set() {
            probe(&place, succeeds_once, pod, errors);
        }
    }
}

fn probe(place: &Place<'_>, succeeds_once: bool, pod: &Pod<'_>, errors: &mut Errors) {
    handler(place, pod, errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        common::non_negative(&place.child(field), errors);
    }
    let grace = place.child("terminationGracePeriodSeconds");
    if grace.number().is_some_and(|seconds| seconds <= 0) {
        errors.push(grace.invalid("must be greater than 0"));
    }
    if grace.is_set() && !succeeds_once {
        errors.push(grace.invalid("must not be set for readinessProbes"));
    }
    let threshold = place.child("successThreshold");
    if succeeds_once && threshold.number_or_zero() != 1 {
        errors.push(threshold.invalid_number("must be 1"));
    }
}

/// What a probe or a hook does: exactly one thing.
fn handler(place: &Place<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let mut count = 0;
    for name in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = place.child(name);
        if !action.is_set() {
            continue;
        }
        count += 1;
        if count > 1 {
            errors.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        match name {
            "exec" => common::required(&action.child("command"), errors),
            "httpGet" => http_get(&action, errors),
            "tcpSocket" => common::port_number_or_name(&action.child("port"), errors),
            "grpc" => common::port_number(&action.child("port"), errors),
            _ => sleep(&action, pod, errors),
        }
    }
    if count == 0 {
        errors.push(place.required("must specify a handler type"));
    }
}

fn http_get(place: &Place<'_>, errors: &mut Errors) {
    common::required(&place.child("path"), errors);
    common::port_number_or_name(&place.child("port"), errors);
    common::listed(&place.child("scheme"), &["HTTP", "HTTPS"], errors);
    let headers = place.child("httpHeaders");
    for header in headers.items() {
        common::named(&header.child("name").called(headers.path()), common::header_name, errors);
    }
}

fn sleep(place: &Place<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let Some(grace) = pod.grace_seconds else { return };
    let seconds = place.child("seconds").number_or_zero();
    if seconds < 0 || seconds > grace {
        let why =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(place.path(), Value::from(seconds), why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(list: Value) -> Vec<String> {
        let pod = Pod {
            volumes: Volumes::default(),
            claims: Vec::new(),
            grace_seconds: Some(30),
            restart_policy: "Always",
            host_users: true,
        };
        let mut errors = Errors::new();
        containers(&Place::at("c", &list), &pod, &mut errors);
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn containers_are_checked() {
        let with = |more: Value| {
            let mut one = json!({
                "name": "c", "image": "i", "imagePullPolicy": "Always",
                "terminationMessagePolicy": "File",
            });
            let more = more.as_object().cloned().unwrap_or_default();
            one.as_object_mut().unwrap().extend(more);
            one
        };
        for (list, expected) in [
            (json!([]), &["c"][..]),
            (json!([with(json!({}))]), &[]),
            (json!([with(json!({})), with(json!({}))]), &["c[1].name"]),
            (json!([with(json!({"image": ""}))]), &["c[0].image"]),
            (
                json!([with(json!({"ports": [{}]}))]),
                &["c[0].ports[0].containerPort", "c[0].ports[0].protocol"],
            ),
            (
                json!([with(json!({"livenessProbe": {}}))]),
                &["c[0].livenessProbe", "c[0].livenessProbe.successThreshold"],
            ),
            (
                json!([with(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}))]),
                &["c[0].lifecycle.preStop.sleep"],
            ),
            (
                json!([with(json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}]}))]),
                &["c[0].volumeMounts[0].name"],
            ),
            (json!([with(json!({"restartPolicy": "X"}))]), &["c[0].restartPolicy"]),
        ] {
            assert_eq!(fields(list.clone()), expected, "{list}");
        }
    }
}
