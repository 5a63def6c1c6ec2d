//! Tables of workloads.

use serde_json::Value;

use super::{AGE, Cells, Column, Layout, NAME, age_cell, column, containers_and_images, name_cell};
use crate::kube::object::{self, Object};
use crate::kube::resources::selector_text;

const CONTAINERS: Column = column("Containers", "string", 1, "The names of its containers.");
const IMAGES: Column = column("Images", "string", 1, "The images of its containers.");
const SELECTOR: Column = column("Selector", "string", 1, "The labels of its pods.");

pub(super) fn layout(plural: &str) -> Option<Layout> {
    Some(match plural {
        "deployments" => Layout { columns: DEPLOYMENT, cells: deployment },
        "replicasets" => Layout { columns: REPLICA_SET, cells: replica_set },
        "statefulsets" => Layout { columns: STATEFUL_SET, cells: stateful_set },
        "daemonsets" => Layout { columns: DAEMON_SET, cells: daemon_set },
        "controllerrevisions" => Layout { columns: REVISION, cells: revision },
        _ => return None,
    })
}

fn number(object: &Object, path: &[&str]) -> Value {
    object::integer_at(object, path).into()
}

fn selector(object: &Object) -> Value {
    selector_text(object::at(object, &["spec", "selector"]).unwrap_or(&Value::Null)).into()
}

const DEPLOYMENT: &[Column] = &[
    NAME,
    column("Ready", "string", 0, "Ready pods of those that are wanted."),
    column("Up-to-date", "string", 0, "Pods that are as the template is now.")
        .of("io.k8s.api.apps.v1.DeploymentStatus", "updatedReplicas"),
    column("Available", "string", 0, "Pods that have been ready for long enough.")
        .of("io.k8s.api.apps.v1.DeploymentStatus", "availableReplicas"),
    AGE,
    CONTAINERS,
    IMAGES,
    DEPLOYMENT_SELECTOR,
];

const DEPLOYMENT_SELECTOR: Column = column("Selector", "string", 1, "The labels of its pods.")
    .of("io.k8s.api.apps.v1.DeploymentSpec", "selector");
const REPLICA_SET_SELECTOR: Column = column("Selector", "string", 1, "The labels of its pods.")
    .of("io.k8s.api.apps.v1.ReplicaSetSpec", "selector");

fn deployment(object: &Object, now: i64) -> Cells {
    let (containers, images) = containers_and_images(object);
    let ready = object::integer_at(object, &["status", "readyReplicas"]);
    let wanted = object::integer_at(object, &["spec", "replicas"]);
    vec![
        name_cell(object),
        format!("{ready}/{wanted}").into(),
        number(object, &["status", "updatedReplicas"]),
        number(object, &["status", "availableReplicas"]),
        age_cell(object, now),
        containers.into(),
        images.into(),
        selector(object),
    ]
}

const REPLICA_SET: &[Column] = &[
    NAME,
    column("Desired", "integer", 0, "Pods that are wanted.")
        .of("io.k8s.api.apps.v1.ReplicaSetSpec", "replicas"),
    column("Current", "integer", 0, "Pods that there are.")
        .of("io.k8s.api.apps.v1.ReplicaSetStatus", "replicas"),
    column("Ready", "integer", 0, "Pods that are ready.")
        .of("io.k8s.api.apps.v1.ReplicaSetStatus", "readyReplicas"),
    AGE,
    CONTAINERS,
    IMAGES,
    REPLICA_SET_SELECTOR,
];

fn replica_set(object: &Object, now: i64) -> Cells {
    let (containers, images) = containers_and_images(object);
    vec![
        name_cell(object),
        number(object, &["spec", "replicas"]),
        number(object, &["status", "replicas"]),
        number(object, &["status", "readyReplicas"]),
        age_cell(object, now),
        containers.into(),
        images.into(),
        selector(object),
    ]
}

const STATEFUL_SET: &[Column] = &[
    NAME,
    column("Ready", "string", 0, "Ready pods of those that are wanted."),
    AGE,
    CONTAINERS,
    IMAGES,
];

fn stateful_set(object: &Object, now: i64) -> Cells {
    let (containers, images) = containers_and_images(object);
    let ready = object::integer_at(object, &["status", "readyReplicas"]);
    let wanted = object::integer_at(object, &["spec", "replicas"]);
    vec![
        name_cell(object),
        format!("{ready}/{wanted}").into(),
        age_cell(object, now),
        containers.into(),
        images.into(),
    ]
}

const DAEMON_SET: &[Column] = &[
    NAME,
    column("Desired", "integer", 0, "Nodes that should run the pod."),
    column("Current", "integer", 0, "Nodes that run the pod."),
    column("Ready", "integer", 0, "Nodes whose pod is ready."),
    column("Up-to-date", "integer", 0, "Nodes whose pod is as the template is now."),
    column("Available", "integer", 0, "Nodes whose pod has been ready for long enough."),
    column("Node Selector", "string", 0, "The labels of the nodes."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn daemon_set(object: &Object, now: i64) -> Cells {
    let (containers, images) = containers_and_images(object);
    let nodes = object::at(object, &["spec", "template", "spec", "nodeSelector"]);
    let nodes = selector_text(nodes.unwrap_or(&Value::Null));
    vec![
        name_cell(object),
        number(object, &["status", "desiredNumberScheduled"]),
        number(object, &["status", "currentNumberScheduled"]),
        number(object, &["status", "numberReady"]),
        number(object, &["status", "updatedNumberScheduled"]),
        number(object, &["status", "numberAvailable"]),
        if nodes.is_empty() { "<none>".into() } else { nodes.into() },
        age_cell(object, now),
        containers.into(),
        images.into(),
        selector(object),
    ]
}

const REVISION: &[Column] = &[
    NAME,
    column("Controller", "string", 0, "Whose revision it is."),
    column("Revision", "string", 0, "The number of the revision.")
        .of("io.k8s.api.apps.v1.ControllerRevision", "revision"),
    AGE,
];

fn revision(object: &Object, now: i64) -> Cells {
    let owners = object::list_at(object, &["metadata", "ownerReferences"]);
    let controller = owners
        .iter()
        .filter_map(Value::as_object)
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)));
    let controller = controller.map(|owner| {
        let kind = object::text(owner, "kind").to_lowercase();
        let version = object::text(owner, "apiVersion");
        let group = version.split_once('/').map(|(group, _)| group);
        let name = object::text(owner, "name");
        match group {
            Some(group) => format!("{kind}.{group}/{name}"),
            None => format!("{kind}/{name}"),
        }
    });
    vec![
        name_cell(object),
        controller.unwrap_or_else(|| "<none>".to_owned()).into(),
        number(object, &["revision"]),
        age_cell(object, now),
    ]
}
