//! What a service owns besides its object: its cluster address and its node ports.
//!
//! An address is taken by creating the `IPAddress` object of its name, as kube-apiserver does: the
//! store lets one of two creators win, whatever core or server they are on.

use std::net::Ipv4Addr;

use bytes::Bytes;
use serde_json::{Value, json};

use super::node_ports;
use crate::kube::object::{self, Object};
use crate::kube::registry::catalog::Entry;
use crate::kube::registry::context::WriteContext;
use crate::kube::registry::{Registry, into_object, storage_error};
use crate::kube::status::{ApiError, FieldError};
use crate::kube::storage::{Write, Written, keys, value};

/// Random tries before the whole range is searched for a free address.
const RANDOM_TRIES: u32 = 16;

/// What was taken for an object and is given back when it is not stored after all.
#[derive(Debug, Default)]
#[must_use = "what is not used must be given back"]
pub struct Allocated {
    /// The key of the address object.
    address_key: Option<String>,
    node_ports: Vec<i64>,
}

impl Allocated {
    fn address(text: &str) -> Allocated {
        Allocated { address_key: Some(address_key(text)), node_ports: Vec::new() }
    }
}

fn is_service(entry: &Entry) -> bool {
    entry.resource.group.is_empty() && entry.resource.plural == "services"
}

fn needs_address(service: &Object) -> bool {
    object::text_at(service, &["spec", "type"]) != "ExternalName"
}

/// Gives a new object what it needs.
pub async fn for_create(
    registry: &Registry,
    entry: &Entry,
    object: &mut Object,
    context: &WriteContext,
) -> Result<Allocated, ApiError> {
    if !is_service(entry) {
        return Ok(Allocated::default());
    }
    let dry_run = context.options.dry_run;
    let allocated = match needs_address(object) {
        true => give_address(registry, entry, object, context).await?,
        false => Allocated::default(),
    };
    match node_ports::give(registry, object, None, dry_run).await {
        Ok(node_ports) => Ok(Allocated { node_ports, ..allocated }),
        Err(error) => {
            give_back(registry, &allocated).await;
            Err(error)
        }
    }
}

/// Gives a changed object what it newly needs.
pub async fn for_update(
    registry: &Registry,
    entry: &Entry,
    new: &mut Object,
    old: &Object,
    context: &WriteContext,
) -> Result<Allocated, ApiError> {
    let had = |object: &Object| !object::text_at(object, &["spec", "clusterIP"]).is_empty();
    if !is_service(entry) {
        return Ok(Allocated::default());
    }
    let node_ports = node_ports::give(registry, new, Some(old), context.options.dry_run).await?;
    if !needs_address(new) {
        let spec = object::map_mut(new, "spec");
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.remove(field);
        }
        return Ok(Allocated { address_key: None, node_ports });
    }
    if had(old) {
        return Ok(Allocated { address_key: None, node_ports });
    }
    match give_address(registry, entry, new, context).await {
        Ok(allocated) => Ok(Allocated { node_ports, ..allocated }),
        Err(error) => {
            node_ports::free_ports(registry, &node_ports).await;
            Err(error)
        }
    }
}

/// Frees what the old object had and the new one has not.
pub async fn after_update(registry: &Registry, entry: &Entry, new: &Object, old: &Object) {
    if is_service(entry) {
        let before = object::text_at(old, &["spec", "clusterIP"]);
        if before != object::text_at(new, &["spec", "clusterIP"]) {
            free(registry, before).await;
        }
        node_ports::free(registry, old, Some(new)).await;
    }
}

/// Frees what a deleted object had.
pub async fn after_delete(registry: &Registry, entry: &Entry, object: &Object) {
    if is_service(entry) {
        free(registry, object::text_at(object, &["spec", "clusterIP"])).await;
        node_ports::free(registry, object, None).await;
    }
}

pub async fn give_back(registry: &Registry, allocated: &Allocated) {
    if let Some(key) = &allocated.address_key {
        delete(registry, key).await;
    }
    node_ports::free_ports(registry, &allocated.node_ports).await;
}

async fn free(registry: &Registry, address: &str) {
    if address.parse::<Ipv4Addr>().is_ok() {
        delete(registry, &address_key(address)).await;
    }
}

/// Deletes a key whatever its version. A failure leaves an address taken that nobody has; the
/// service itself is gone, so there is nobody to tell.
async fn delete(registry: &Registry, key: &str) {
    let Ok((Some(stored), _)) = registry.storage.get(key.as_bytes()).await else { return };
    let write =
        Write { key: stored.key, expected_revision: stored.revision, value: None, ttl_seconds: 0 };
    let _ignored = registry.storage.write(write).await;
}

fn address_key(address: &str) -> String {
    keys::object("ipaddresses", "", address)
}

async fn give_address(
    registry: &Registry,
    entry: &Entry,
    service: &mut Object,
    context: &WriteContext,
) -> Result<Allocated, ApiError> {
    let asked = object::text_at(service, &["spec", "clusterIP"]).to_owned();
    let asked = match asked.as_str() {
        "" => object::list_at(service, &["spec", "clusterIPs"])
            .first()
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned(),
        _ => asked,
    };
    let (address, allocated) = match asked.as_str() {
        "None" => ("None".to_owned(), Allocated::default()),
        "" => take_any(registry, entry, service, context).await?,
        asked => take_one(registry, entry, service, asked, context).await?,
    };
    let spec = object::map_mut(service, "spec");
    spec.insert("clusterIP".to_owned(), address.as_str().into());
    spec.insert("clusterIPs".to_owned(), json!([address]));
    // Who is behind a service without a selector may have addresses of both families.
    let is_headless = object::text(spec, "clusterIP") == "None";
    let selects = object::map(spec, "selector").is_some_and(|selector| !selector.is_empty());
    if is_headless && !selects && object::text(spec, "ipFamilyPolicy").is_empty() {
        spec.insert("ipFamilyPolicy".to_owned(), "RequireDualStack".into());
        let mut families = object::list(spec, "ipFamilies").to_vec();
        for family in ["IPv4", "IPv6"] {
            if !families.iter().any(|own| own == family) {
                families.push(family.into());
            }
        }
        spec.insert("ipFamilies".to_owned(), families.into());
    }
    if object::list(spec, "ipFamilies").is_empty() {
        spec.insert("ipFamilies".to_owned(), json!(["IPv4"]));
    }
    object::default_text(spec, "ipFamilyPolicy", "SingleStack");
    Ok(allocated)
}

async fn take_one(
    registry: &Registry,
    entry: &Entry,
    service: &Object,
    asked: &str,
    context: &WriteContext,
) -> Result<(String, Allocated), ApiError> {
    let invalid = |why: String| {
        let errors = [FieldError::invalid("spec.clusterIPs", json!([asked]), why)];
        Err(ApiError::invalid(entry.named_kind(), object::name(service), &errors))
    };
    let Ok(address) = asked.parse::<Ipv4Addr>() else {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        let errors = [FieldError::invalid("spec.clusterIPs[0]", asked, why)];
        return Err(ApiError::invalid(entry.named_kind(), object::name(service), &errors));
    };
    if !registry.service_addresses.contains(address) {
        return invalid(format!(
            "failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range"
        ));
    }
    if take(registry, service, address, context).await? {
        Ok((asked.to_owned(), Allocated::address(asked)))
    } else {
        invalid(format!("failed to allocate IP {asked}: provided IP is already allocated"))
    }
}

async fn take_any(
    registry: &Registry,
    entry: &Entry,
    service: &Object,
    context: &WriteContext,
) -> Result<(String, Allocated), ApiError> {
    let range = registry.service_addresses;
    let usable = range.usable();
    let start = registry.random.below(u64::from(usable)) as u32;
    let random = (0..RANDOM_TRIES).map(|_| registry.random.below(u64::from(usable)) as u32);
    let search = (0..usable).map(|step| (start + step) % usable);
    for index in random.chain(search) {
        let address = range.address(index);
        // The first address is that of the service `kubernetes`.
        if index == 0 && object::name(service) != "kubernetes" {
            continue;
        }
        if take(registry, service, address, context).await? {
            let text = address.to_string();
            let allocated = Allocated::address(&text);
            return Ok((text, allocated));
        }
    }
    let message = format!(
        "failed to allocate a serviceIP for {} \"{}\": range is full",
        entry.resource.plural,
        object::name(service)
    );
    Err(ApiError::internal(message))
}

/// Takes an address for a service; `false` when somebody has it.
async fn take(
    registry: &Registry,
    service: &Object,
    address: Ipv4Addr,
    context: &WriteContext,
) -> Result<bool, ApiError> {
    let text = address.to_string();
    let object = into_object(json!({
        "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": text,
            "uid": registry.random.uuid(),
            "creationTimestamp": context.now.seconds(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {
            "resource": "services",
            "namespace": object::namespace(service),
            "name": object::name(service),
        }},
    }));
    let write = Write {
        key: Bytes::from(address_key(&text)),
        expected_revision: 0,
        value: Some(value::encode(&object)),
        ttl_seconds: 0,
    };
    let written = registry.storage.write(write).await.map_err(storage_error)?;
    Ok(matches!(written, Written::Done(_)))
}
