//! Node ports of services: which are taken is one bitmap in storage, kept as kube-apiserver keeps
//! it (a `RangeAllocation` whose data is a big number, bit for bit).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::kube::limits::UPDATE_TRIES;
use crate::kube::object::{self, Object};
use crate::kube::registry::{Registry, into_object, storage_error};
use crate::kube::status::{ApiError, FieldError};
use crate::kube::storage::{Write, Written, value};

const KEY: &str = "/registry/ranges/servicenodeports";
const FIRST: u32 = 30_000;
const COUNT: u32 = 2768;
const RANGE: &str = "30000-32767";

/// A set of ports of the range.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bitmap(Vec<bool>);

impl Bitmap {
    fn decode(text: &str) -> Bitmap {
        let bytes = STANDARD.decode(text).unwrap_or_default();
        let bit = |index: usize| {
            let byte = bytes.len().checked_sub(1 + index / 8).and_then(|at| bytes.get(at));
            byte.is_some_and(|byte| byte & (1 << (index % 8)) != 0)
        };
        Bitmap((0..COUNT as usize).map(bit).collect())
    }

    /// A big-endian number without leading zeros.
    fn encode(&self) -> String {
        let mut bytes = vec![0u8; self.0.len().div_ceil(8)];
        let length = bytes.len();
        for (index, _) in self.0.iter().enumerate().filter(|(_, taken)| **taken) {
            bytes[length - 1 - index / 8] |= 1 << (index % 8);
        }
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(length);
        STANDARD.encode(&bytes[first..])
    }

    fn place(port: i64) -> Option<usize> {
        let index = u32::try_from(port).ok()?.checked_sub(FIRST)?;
        (index < COUNT).then_some(index as usize)
    }
}

fn has_node_ports(service: &Object) -> bool {
    let spec = |name: &str| object::text_at(service, &["spec", name]);
    match spec("type") {
        "NodePort" => true,
        "LoadBalancer" => {
            object::at(service, &["spec", "allocateLoadBalancerNodePorts"])
                != Some(&Value::Bool(false))
        }
        _ => false,
    }
}

/// The node ports that a service has.
fn ports_of(service: &Object) -> Vec<i64> {
    let ports = object::list_at(service, &["spec", "ports"]).iter();
    let numbers = ports.filter_map(|port| port.get("nodePort").and_then(Value::as_i64));
    let mut numbers: Vec<i64> = numbers.filter(|port| *port != 0).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Gives `service` the node ports that it wants and has not; `old` is what is stored of it. With
/// `dry_run` nothing is taken. Gives the ports that were taken: they are the caller's to free when
/// the service is not stored.
pub(super) async fn give(
    registry: &Registry,
    service: &mut Object,
    old: Option<&Object>,
    dry_run: bool,
) -> Result<Vec<i64>, ApiError> {
    if !has_node_ports(service) {
        drop_ports(service);
        return Ok(Vec::new());
    }
    let had = old.map(ports_of).unwrap_or_default();
    for _ in 0..UPDATE_TRIES {
        let (mut bitmap, revision) = load(registry).await?;
        let mut attempt = service.clone();
        let taken = take(registry, &mut bitmap, &mut attempt, &had)?;
        if taken.is_empty() || dry_run || store(registry, &bitmap, revision).await? {
            *service = attempt;
            return Ok(if dry_run { Vec::new() } else { taken });
        }
    }
    Err(ApiError::too_many_requests("too many services want node ports at once", 1))
}

/// Marks the ports in the bitmap and writes them into the service; gives those that are new.
fn take(
    registry: &Registry,
    bitmap: &mut Bitmap,
    service: &mut Object,
    had: &[i64],
) -> Result<Vec<i64>, ApiError> {
    let name = object::name(service).to_owned();
    let mut taken = Vec::new();
    let start = registry.random.below(u64::from(COUNT)) as usize;
    let spec = object::map_mut(service, "spec");
    let Some(Value::Array(ports)) = spec.get_mut("ports") else { return Ok(taken) };
    let mut same_service: Vec<i64> = Vec::new();
    for (index, port) in ports.iter_mut().filter_map(Value::as_object_mut).enumerate() {
        let asked = object::integer_at(port, &["nodePort"]);
        if asked == 0 {
            let count = bitmap.0.len();
            let free = (0..count).map(|step| (start + step) % count).find(|at| !bitmap.0[*at]);
            let Some(place) = free else {
                return Err(ApiError::internal("failed to allocate a nodePort: range is full"));
            };
            bitmap.0[place] = true;
            let number = i64::from(FIRST) + place as i64;
            port.insert("nodePort".to_owned(), number.into());
            taken.push(number);
            continue;
        }
        if had.contains(&asked) || same_service.contains(&asked) {
            continue;
        }
        let refused = |why: &str| {
            let field = format!("spec.ports[{index}].nodePort");
            let kind = crate::kube::status::Named { group: "", kind: "Service" };
            ApiError::invalid(kind, &name, &[FieldError::invalid(field, asked, why)])
        };
        let Some(place) = Bitmap::place(asked) else {
            return Err(refused(&format!(
                "provided port is not in the valid range. The range of valid ports is {RANGE}"
            )));
        };
        if bitmap.0[place] {
            return Err(refused("provided port is already allocated"));
        }
        bitmap.0[place] = true;
        same_service.push(asked);
        taken.push(asked);
    }
    Ok(taken)
}

/// A service of another type has no node ports.
fn drop_ports(service: &mut Object) {
    if object::text_at(service, &["spec", "type"]) == "LoadBalancer" {
        return;
    }
    let spec = object::map_mut(service, "spec");
    if let Some(Value::Array(ports)) = spec.get_mut("ports") {
        for port in ports.iter_mut().filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
    }
}

/// Frees the ports that `before` had and `after` has not.
pub(super) async fn free(registry: &Registry, before: &Object, after: Option<&Object>) {
    let kept = after.map(ports_of).unwrap_or_default();
    let gone: Vec<i64> = ports_of(before).into_iter().filter(|port| !kept.contains(port)).collect();
    free_ports(registry, &gone).await;
}

/// Frees ports. What can't be freed stays taken: its service is gone, so there is nobody to tell.
pub(super) async fn free_ports(registry: &Registry, gone: &[i64]) {
    if gone.is_empty() {
        return;
    }
    for _ in 0..UPDATE_TRIES {
        let Ok((mut bitmap, revision)) = load(registry).await else { return };
        for place in gone.iter().filter_map(|port| Bitmap::place(*port)) {
            bitmap.0[place] = false;
        }
        match store(registry, &bitmap, revision).await {
            Ok(false) => {}
            Ok(true) | Err(_) => return,
        }
    }
}

async fn load(registry: &Registry) -> Result<(Bitmap, i64), ApiError> {
    let (stored, _) = registry.storage.get(KEY.as_bytes()).await.map_err(storage_error)?;
    let Some(stored) = stored else { return Ok((Bitmap(vec![false; COUNT as usize]), 0)) };
    let allocation = value::decode(&stored.key, &stored.value, stored.revision)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    Ok((Bitmap::decode(object::text(&allocation, "data")), stored.revision))
}

async fn store(registry: &Registry, bitmap: &Bitmap, revision: i64) -> Result<bool, ApiError> {
    let allocation = into_object(json!({
        "kind": "RangeAllocation", "apiVersion": "v1", "metadata": {},
        "range": RANGE, "data": bitmap.encode(),
    }));
    let write = Write {
        key: Bytes::from_static(KEY.as_bytes()),
        expected_revision: revision,
        value: Some(value::encode(&allocation)),
        ttl_seconds: 0,
    };
    let written = registry.storage.write(write).await.map_err(storage_error)?;
    Ok(matches!(written, Written::Done(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_come_back() {
        let mut bitmap = Bitmap(vec![false; COUNT as usize]);
        assert_eq!(bitmap.encode(), "");
        for place in [0, 7, 8, 100, COUNT as usize - 1] {
            bitmap.0[place] = true;
            assert_eq!(Bitmap::decode(&bitmap.encode()), bitmap);
        }
        let mut first = Bitmap(vec![false; COUNT as usize]);
        first.0[0] = true;
        first.0[9] = true;
        assert_eq!(STANDARD.decode(first.encode()).unwrap(), [0b10, 0b1]);
    }

    #[test]
    fn ports_have_places() {
        for (port, expected) in
            [(29_999, None), (30_000, Some(0)), (32_767, Some(2767)), (32_768, None)]
        {
            assert_eq!(Bitmap::place(port), expected);
        }
    }
}
