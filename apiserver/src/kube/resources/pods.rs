//! Pods and the pod templates of workloads.

use serde_json::{Value, json};

use super::Strategy;
use crate::kube::object::{self, Object};
use crate::kube::schema::quantity::Quantity;

const DEFAULT_GRACE_SECONDS: i64 = 30;
/// The mode of files in volumes, 0644.
const DEFAULT_FILE_MODE: i64 = 420;

pub(super) fn strategy() -> Strategy {
    Strategy {
        defaults: default_pod,
        prepare_create: prepare_pod,
        prepare_subresource: keep_other_parts,
        generation: true,
        returns_deleted: true,
        grace_seconds: |pod, asked| Some(grace_seconds(pod, asked)),
        ..Strategy::default()
    }
}

/// How long a pod may take to end: a pod that runs nowhere ends at once.
fn grace_seconds(pod: &Object, asked: Option<i64>) -> i64 {
    let own = object::at(pod, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    let ended = matches!(object::text_at(pod, &["status", "phase"]), "Failed" | "Succeeded");
    if object::text_at(pod, &["spec", "nodeName"]).is_empty() || ended {
        return 0;
    }
    match asked.or(own).unwrap_or(DEFAULT_GRACE_SECONDS) {
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

fn default_pod(pod: &mut Object) {
    let spec = object::map_mut(pod, "spec");
    object::default(spec, "enableServiceLinks", true);
    default_pod_spec(spec);
    for field in ["initContainers", "containers"] {
        for_each(spec, field, default_requests);
    }
}

/// Defaults of `template` in a workload.
pub(super) fn default_pod_template(template: &mut Object) {
    default_pod_spec(object::map_mut(template, "spec"));
}

fn for_each(object: &mut Object, field: &str, change: fn(&mut Object)) {
    if let Some(Value::Array(elements)) = object.get_mut(field) {
        elements.iter_mut().filter_map(Value::as_object_mut).for_each(change);
    }
}

fn default_pod_spec(spec: &mut Object) {
    object::default_text(spec, "dnsPolicy", "ClusterFirst");
    object::default_text(spec, "restartPolicy", "Always");
    object::default_text(spec, "schedulerName", "default-scheduler");
    object::default(spec, "terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS);
    object::default(spec, "securityContext", json!({}));
    mirror_service_account(spec);
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for_each(spec, field, default_container);
        if host_network {
            for_each(spec, field, |container| for_each(container, "ports", default_host_port));
        }
    }
    for_each(spec, "volumes", default_volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`.
fn mirror_service_account(spec: &mut Object) {
    let name = match object::text(spec, "serviceAccountName") {
        "" => object::text(spec, "serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !name.is_empty() {
        spec.insert("serviceAccount".to_owned(), name.clone().into());
        spec.insert("serviceAccountName".to_owned(), name.into());
    }
}

fn default_host_port(port: &mut Object) {
    if object::integer_at(port, &["hostPort"]) == 0
        && let Some(container_port) = port.get("containerPort").cloned()
    {
        port.insert("hostPort".to_owned(), container_port);
    }
}

fn default_container(container: &mut Object) {
    let policy =
        if is_latest(object::text(container, "image")) { "Always" } else { "IfNotPresent" };
    object::default_text(container, "imagePullPolicy", policy);
    if let Some(Value::Object(resources)) = container.get_mut("resources") {
        for kind in ["limits", "requests"] {
            round_amounts(resources, kind);
        }
    }
    object::default_text(container, "terminationMessagePath", "/dev/termination-log");
    object::default_text(container, "terminationMessagePolicy", "File");
    for_each(container, "ports", |port| object::default_text(port, "protocol", "TCP"));
    for_each(container, "env", |variable| {
        if let Some(Value::Object(source)) = variable.get_mut("valueFrom") {
            default_field_reference(source);
        }
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(Value::Object(probe)) = container.get_mut(probe) {
            default_probe(probe);
        }
    }
    if let Some(Value::Object(lifecycle)) = container.get_mut("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(Value::Object(hook)) = lifecycle.get_mut(hook) {
                default_http_get(hook);
            }
        }
    }
}

/// Nothing is limited or requested in smaller parts than thousandths.
fn round_amounts(resources: &mut Object, kind: &str) {
    let Some(Value::Object(amounts)) = resources.get_mut(kind) else { return };
    for amount in amounts.values_mut() {
        if let Some(Ok(quantity)) = amount.as_str().map(Quantity::parse) {
            *amount = quantity.in_thousandths().to_string().into();
        }
    }
}

/// Whether an image's tag is `latest`, named or not.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

fn default_field_reference(source: &mut Object) {
    if let Some(Value::Object(reference)) = source.get_mut("fieldRef") {
        object::default_text(reference, "apiVersion", "v1");
    }
}

fn default_probe(probe: &mut Object) {
    for (field, seconds) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if object::integer_at(probe, &[field]) == 0 {
            probe.insert(field.to_owned(), seconds.into());
        }
    }
    if let Some(Value::Object(grpc)) = probe.get_mut("grpc") {
        object::default(grpc, "service", "");
    }
    default_http_get(probe);
}

fn default_http_get(handler: &mut Object) {
    if let Some(Value::Object(get)) = handler.get_mut("httpGet") {
        object::default_text(get, "path", "/");
        object::default_text(get, "scheme", "HTTP");
    }
}

/// What is limited is requested, unless another request is given.
fn default_requests(container: &mut Object) {
    let Some(Value::Object(resources)) = container.get_mut("resources") else { return };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = object::map_mut(resources, "requests");
    for (name, quantity) in limits {
        object::default(requests, &name, quantity);
    }
}

fn default_volume(volume: &mut Object) {
    if volume.keys().all(|name| name == "name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(Value::Object(source)) = volume.get_mut(source) {
            object::default(source, "defaultMode", DEFAULT_FILE_MODE);
            for_each(source, "items", default_field_reference);
            for_each(source, "sources", default_projection);
        }
    }
    if let Some(Value::Object(iscsi)) = volume.get_mut("iscsi") {
        object::default_text(iscsi, "iscsiInterface", "default");
    }
    if let Some(Value::Object(rbd)) = volume.get_mut("rbd") {
        object::default_text(rbd, "pool", "rbd");
        object::default_text(rbd, "user", "admin");
        object::default_text(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(Value::Object(scale_io)) = volume.get_mut("scaleIO") {
        object::default_text(scale_io, "storageMode", "ThinProvisioned");
        object::default_text(scale_io, "fsType", "xfs");
    }
    if let Some(Value::Object(disk)) = volume.get_mut("azureDisk") {
        object::default_text(disk, "cachingMode", "ReadWrite");
        object::default_text(disk, "fsType", "ext4");
        object::default_text(disk, "kind", "Shared");
        object::default(disk, "readOnly", false);
    }
    if let Some(Value::Object(host_path)) = volume.get_mut("hostPath") {
        object::default(host_path, "type", "");
    }
    if let Some(Value::Object(ephemeral)) = volume.get_mut("ephemeral")
        && let Some(Value::Object(template)) = ephemeral.get_mut("volumeClaimTemplate")
    {
        object::default_text(object::map_mut(template, "spec"), "volumeMode", "Filesystem");
    }
}

fn default_projection(projection: &mut Object) {
    if let Some(Value::Object(token)) = projection.get_mut("serviceAccountToken") {
        object::default(token, "expirationSeconds", 3600);
    }
    if let Some(Value::Object(downward)) = projection.get_mut("downwardAPI") {
        for_each(downward, "items", default_field_reference);
    }
}

fn prepare_pod(pod: &mut Object) {
    let class = quality_of_service(pod);
    let mut status = json!({"phase": "Pending", "qosClass": class});
    if !object::list_at(pod, &["spec", "schedulingGates"]).is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": object::meta_text(pod, "creationTimestamp"),
        }]);
    }
    pod.insert("status".to_owned(), status);
}

/// Of a pod that is resized only resources change, of one that is debugged only the containers for
/// that.
fn keep_other_parts(subresource: &str, new: &mut Object, old: &Object) {
    let wanted = object::map(new, "spec").cloned().unwrap_or_default();
    let mut spec = object::map(old, "spec").cloned().unwrap_or_default();
    if subresource == "ephemeralcontainers" {
        object::copy_field(&wanted, &mut spec, "ephemeralContainers");
    } else {
        for field in ["initContainers", "containers"] {
            let resized = object::list(&wanted, field);
            for_each_named(&mut spec, field, resized, |container, resized| {
                for part in ["resources", "resizePolicy"] {
                    object::copy_field(resized, container, part);
                }
            });
        }
    }
    new.insert("spec".to_owned(), Value::Object(spec));
    object::copy_field(old, new, "status");
}

/// Calls `change` for every element that another list has, too, by name.
fn for_each_named(
    object: &mut Object,
    field: &str,
    others: &[Value],
    change: impl Fn(&mut Object, &Object),
) {
    let Some(Value::Array(elements)) = object.get_mut(field) else { return };
    for element in elements.iter_mut().filter_map(Value::as_object_mut) {
        let name = object::text(element, "name").to_owned();
        let other = others.iter().filter_map(Value::as_object);
        if let Some(other) = other.clone().find(|other| object::text(other, "name") == name) {
            change(element, other);
        }
    }
}

/// Guaranteed when every container's limits of processor and memory are its requests, BestEffort
/// when there are none of either, else Burstable.
pub fn quality_of_service(pod: &Object) -> &'static str {
    const COUNTED: [&str; 2] = ["cpu", "memory"];
    let mut any = false;
    let mut guaranteed = true;
    let fields = [["spec", "containers"], ["spec", "initContainers"]];
    for container in fields.iter().flat_map(|path| object::list_at(pod, path)) {
        let quantity = |kind: &str, name: &str| {
            let value = container.get("resources")?.get(kind)?.get(name)?;
            Quantity::parse(value.as_str()?).ok().filter(|quantity| !quantity.is_zero())
        };
        for name in COUNTED {
            let (limit, request) = (quantity("limits", name), quantity("requests", name));
            any |= limit.is_some() || request.is_some();
            let same = |limit: &Quantity| {
                request.as_ref().is_some_and(|request| limit.compare(request).is_eq())
            };
            guaranteed &= limit.as_ref().is_some_and(same);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn images_without_tag_are_pulled_always() {
        for (image, expected) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.25", false),
            ("registry.example:5000/app", true),
            ("registry.example:5000/app:1", false),
            ("app@sha256:0123", false),
        ] {
            assert_eq!(is_latest(image), expected, "{image}");
        }
    }

    #[test]
    fn a_pod_gets_its_defaults() {
        let mut pod = into_object(json!({"spec": {
            "serviceAccountName": "s",
            "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": 80}}, "resources": {"limits": {"cpu": "1"}}}],
            "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "m"}}],
        }}));
        default_pod(&mut pod);
        let spec = &pod["spec"];
        assert_eq!(spec["restartPolicy"], "Always");
        assert_eq!(spec["serviceAccount"], "s");
        assert_eq!(spec["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(spec["containers"][0]["ports"][0]["protocol"], "TCP");
        assert_eq!(spec["containers"][0]["livenessProbe"]["periodSeconds"], 10);
        assert_eq!(spec["containers"][0]["resources"]["requests"]["cpu"], "1");
        assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(spec["volumes"][1]["configMap"]["defaultMode"], 420);
        let once = pod.clone();
        default_pod(&mut pod);
        assert_eq!(pod, once, "defaults are set once");
    }

    #[test]
    fn classes_of_service() {
        for (resources, expected) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}),
                "Guaranteed",
            ),
        ] {
            let pod = into_object(json!({"spec": {"containers": [{"resources": resources}]}}));
            assert_eq!(quality_of_service(&pod), expected);
        }
    }

    #[test]
    fn grace() {
        for (pod, asked, expected) in [
            (json!({"spec": {}}), None, 0),
            (json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}}), None, 7),
            (json!({"spec": {"nodeName": "n"}}), Some(-5), 1),
            (json!({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}), Some(5), 0),
        ] {
            assert_eq!(grace_seconds(&into_object(pod), asked), expected);
        }
    }
}
