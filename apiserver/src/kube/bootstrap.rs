//! Objects that a cluster has from its first second on: the system's namespaces, and the service
//! by which pods reach this server.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::timer;
use serde_json::{Value, json};

use super::authn::User;
use super::authz;
use super::object;
use super::registry::context::{Now, WriteContext};
use super::registry::{Registry, Target, into_object};
use super::request::options::WriteOptions;
use super::server::KubeOptions;
use super::status::ApiError;
use crate::cli::LogLevel;
use crate::log;

const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];
/// Where servers beside this one look up by which certificates clients are to be checked.
const AUTHENTICATION: &str = "extension-apiserver-authentication";
const MANAGER: &str = "kube-apiserver";
/// The priorities of what a cluster and its nodes can't do without.
const PRIORITIES: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Creates what is missing, again and again until it is there (or shutdown).
pub async fn run(registry: &Registry, options: &KubeOptions, shutdown: &Shutdown) {
    loop {
        match create_all(registry, options).await {
            Ok(()) => {
                options.bootstrapped.store(true, Ordering::Release);
                return;
            }
            Err(error) => log::write(
                LogLevel::Warn,
                format_args!("the system's own objects can't be created yet: {error}"),
            ),
        }
        if timer::timeout(RETRY_AFTER, shutdown.requested()).await.is_some() {
            return;
        }
    }
}

async fn create_all(registry: &Registry, options: &KubeOptions) -> Result<(), ApiError> {
    for object in authz::bootstrap_objects() {
        let kind = object["kind"].as_str().unwrap_or("").to_lowercase();
        let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let group = authz::follow::GROUP;
        create_in(registry, group, &format!("{kind}s"), "", &name, object).await?;
    }
    for (name, value, text) in PRIORITIES {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": text,
        });
        create_in(registry, "scheduling.k8s.io", "priorityclasses", "", name, class).await?;
    }
    for name in NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        create(registry, "namespaces", "", name, object).await?;
    }
    let authentication = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": AUTHENTICATION, "namespace": "kube-system"},
        "data": {"client-ca-file": options.client_authorities},
    });
    create(registry, "configmaps", "kube-system", AUTHENTICATION, authentication).await?;
    let address = options.service_addresses.address(0).to_string();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": address,
            "ports": [{
                "name": "https", "port": 443, "protocol": "TCP",
                "targetPort": options.advertise_address.port(),
            }],
        },
    });
    create(registry, "services", "default", "kubernetes", service).await?;
    let range = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [options.service_addresses.to_string()]},
    });
    create_in(registry, "networking.k8s.io", "servicecidrs", "", "kubernetes", range).await?;
    tell_range_is_ready(registry).await
}

/// The range of services is ready from the start; its controller would say so.
async fn tell_range_is_ready(registry: &Registry) -> Result<(), ApiError> {
    let entry = registry.catalog.entry("networking.k8s.io", "v1", "servicecidrs");
    let target = Target {
        entry: entry.ok_or_else(ApiError::no_such_path)?.clone(),
        namespace: String::new(),
        name: "kubernetes".to_owned(),
        subresource: "status".to_owned(),
    };
    if let Some((range, _)) = registry.find(&target).await?
        && !object::list_at(&range, &["status", "conditions"]).is_empty()
    {
        return Ok(());
    }
    let now = Now::new(timer::wall_clock());
    let context = WriteContext {
        options: WriteOptions { force: true, ..WriteOptions::default() },
        field_manager: "kubernetes-service-cidr-controller".to_owned(),
        now,
        warnings: Default::default(),
        user: User::server(),
    };
    let status = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "status": {"conditions": [{
            "type": "Ready", "status": "True", "lastTransitionTime": now.seconds(),
            "message": "Kubernetes default Service CIDR is ready",
        }]},
    });
    let body = status.to_string();
    registry.apply(&target, body.as_bytes(), &context).await.map(drop)
}

async fn create(
    registry: &Registry,
    plural: &str,
    namespace: &str,
    name: &str,
    object: Value,
) -> Result<(), ApiError> {
    create_in(registry, "", plural, namespace, name, object).await
}

async fn create_in(
    registry: &Registry,
    group: &str,
    plural: &str,
    namespace: &str,
    name: &str,
    object: Value,
) -> Result<(), ApiError> {
    let entry = registry.catalog.entry(group, "v1", plural).ok_or_else(ApiError::no_such_path)?;
    let target = Target {
        entry: entry.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
    };
    if registry.find(&target).await?.is_some() {
        return Ok(());
    }
    let context = WriteContext {
        options: WriteOptions::default(),
        field_manager: MANAGER.to_owned(),
        now: Now::new(timer::wall_clock()),
        warnings: Default::default(),
        user: crate::kube::authn::User::server(),
    };
    match registry.create(&target, into_object(object), &context).await {
        Err(error) if error.status().reason == "AlreadyExists" => Ok(()),
        result => result.map(drop),
    }
}
