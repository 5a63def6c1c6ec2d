//! ServiceAccount: every pod acts as an account of its namespace, and finds a token of it.
//!
//! Unlike in kube-apiserver an account `default` that is not there is no reason to refuse a pod that
//! names none: this server may run without the controller that makes one in each namespace.

use serde_json::{Value, json};

use crate::kube::object::{self, Object};
use crate::kube::registry::{Registry, Target, storage_error};
use crate::kube::status::ApiError;
use crate::kube::storage::keys;

const DEFAULT_ACCOUNT: &str = "default";
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// A token is good for an hour and a few seconds: kube-apiserver knows by the odd number that it
/// was asked for here.
const TOKEN_SECONDS: i64 = 3607;
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

pub(super) async fn create(
    registry: &Registry,
    target: &Target,
    pod: &mut Object,
) -> Result<(), ApiError> {
    // Mirror pods are shown by a kubelet for pods that it runs anyway.
    if !object::text_at(pod, &["metadata", "annotations", MIRROR_ANNOTATION]).is_empty() {
        return Ok(());
    }
    let namespace = object::namespace(pod).to_owned();
    let pod_name = object::name(pod).to_owned();
    let spec = object::map_mut(pod, "spec");
    let named = object::text(spec, "serviceAccountName").to_owned();
    let name = if named.is_empty() { DEFAULT_ACCOUNT } else { &named };
    let account = find(registry, &namespace, name).await?;
    if account.is_none() && name != DEFAULT_ACCOUNT {
        let why = format!(
            "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
        );
        return Err(ApiError::forbidden(target.resource(), &pod_name, &why));
    }
    spec.insert("serviceAccountName".to_owned(), name.into());
    spec.insert("serviceAccount".to_owned(), name.into());
    let account = account.unwrap_or_default();
    if automounts(spec, &account) {
        mount_token(registry, spec);
    }
    if object::list(spec, "imagePullSecrets").is_empty()
        && let Some(secrets) = account.get("imagePullSecrets")
    {
        spec.insert("imagePullSecrets".to_owned(), secrets.clone());
    }
    Ok(())
}

async fn find(
    registry: &Registry,
    namespace: &str,
    name: &str,
) -> Result<Option<Object>, ApiError> {
    let key = keys::object("serviceaccounts", namespace, name);
    let (stored, _) = registry.storage.get(key.as_bytes()).await.map_err(storage_error)?;
    let entry = registry.catalog.entry("", "v1", "serviceaccounts");
    match (stored, entry) {
        (Some(stored), Some(entry)) => Ok(Some(registry.decode(entry, &stored)?)),
        _ => Ok(None),
    }
}

/// The pod's own word counts, then the account's; yes when neither has one.
fn automounts(spec: &Object, account: &Object) -> bool {
    const FIELD: &str = "automountServiceAccountToken";
    let own = spec.get(FIELD).and_then(Value::as_bool);
    own.or_else(|| account.get(FIELD).and_then(Value::as_bool)).unwrap_or(true)
}

/// Gives every container that has nothing there yet the account's token.
fn mount_token(registry: &Registry, spec: &mut Object) {
    let present = object::list(spec, "volumes")
        .iter()
        .filter_map(|volume| volume.get("name").and_then(Value::as_str))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let volume = present.clone();
    let volume =
        volume.unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", registry.random.name_suffix()));
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        let Some(Value::Array(containers)) = spec.get_mut(field) else { continue };
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            let mut mounts = object::list(container, "volumeMounts").to_vec();
            let taken = mounts
                .iter()
                .any(|mount| mount.get("mountPath").and_then(Value::as_str) == Some(TOKEN_PATH));
            if !taken {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}));
                container.insert("volumeMounts".to_owned(), mounts.into());
                mounted = true;
            }
        }
    }
    if mounted && present.is_none() {
        let mut volumes = object::list(spec, "volumes").to_vec();
        volumes.push(token_volume(&volume));
        spec.insert("volumes".to_owned(), volumes.into());
    }
}

/// The token, the certificate to know the server by, and the namespace.
fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {
                "name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}],
            }},
            {"downwardAPI": {"items": [{
                "path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
            }]}},
        ],
    }})
}
