//! LimitRanger: what containers may ask for in a namespace, and what they ask for when they say
//! nothing.

use serde_json::{Value, json};

use crate::kube::object::{self, Object};
use crate::kube::registry::{Registry, Target, storage_error};
use crate::kube::resources::rules::place::Place;
use crate::kube::schema::quantity::Quantity;
use crate::kube::status::ApiError;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
const CONTAINERS: [&str; 2] = ["initContainers", "containers"];

/// Sets what a new pod leaves out and refuses what it may not ask for.
pub(super) async fn create_pod(
    registry: &Registry,
    target: &Target,
    pod: &mut Object,
) -> Result<(), ApiError> {
    let ranges = ranges(registry, &target.namespace).await?;
    ranges.iter().for_each(|range| set_defaults(pod, range));
    let name = object::name(pod).to_owned();
    for range in &ranges {
        refuse(target, &name, check_pod(pod, range))?;
    }
    Ok(())
}

/// Refuses a claim that asks for too much or too little.
pub(super) async fn create_claim(
    registry: &Registry,
    target: &Target,
    claim: &Object,
) -> Result<(), ApiError> {
    let spec = Place::of(claim, "spec");
    for range in ranges(registry, &target.namespace).await? {
        let mut problems = Vec::new();
        for limit in limits(&range, "PersistentVolumeClaim") {
            let requests = spec.below(&["resources", "requests"]);
            let nothing = Place::at("", &Value::Null);
            check(&limit, "PersistentVolumeClaim", &requests, &nothing, &mut problems);
        }
        refuse(target, object::name(claim), problems)?;
    }
    Ok(())
}

fn refuse(target: &Target, name: &str, problems: Vec<String>) -> Result<(), ApiError> {
    let why = match problems.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(ApiError::forbidden(target.resource(), name, &why))
}

async fn ranges(registry: &Registry, namespace: &str) -> Result<Vec<Object>, ApiError> {
    let Some(entry) = registry.catalog.entry("", "v1", "limitranges") else {
        return Ok(Vec::new());
    };
    let directory = entry.directory(namespace);
    let directory = directory.as_bytes();
    let page = registry.storage.range(directory, directory, 0, 0).await.map_err(storage_error)?;
    page.items.iter().map(|stored| registry.decode(entry, stored)).collect()
}

/// The limits of a range for one type of things.
fn limits<'a>(range: &'a Object, kind: &str) -> Vec<Place<'a>> {
    let all = Place::of(range, "spec").child("limits").items();
    all.into_iter().filter(|limit| limit.child("type").text() == kind).collect()
}

/// Gives containers the requests and limits that they don't have, and notes it on the pod.
fn set_defaults(pod: &mut Object, range: &Object) {
    let mut notes = Vec::new();
    for limit in limits(range, "Container") {
        let (requests, limits) = (limit.child("defaultRequest"), limit.child("default"));
        let spec = object::map_mut(pod, "spec");
        for field in ["containers", "initContainers"] {
            let what = if field == "containers" { "container" } else { "init container" };
            let Some(Value::Array(containers)) = spec.get_mut(field) else { continue };
            for container in containers.iter_mut().filter_map(Value::as_object_mut) {
                let name = object::text(container, "name").to_owned();
                for (kind, defaults) in [("request", &requests), ("limit", &limits)] {
                    let set = add_missing(container, &format!("{kind}s"), defaults);
                    if !set.is_empty() {
                        notes.push(format!("{} {kind} for {what} {name}", set.join(", ")));
                    }
                }
            }
        }
    }
    if !notes.is_empty() {
        let annotations = object::map_mut(object::metadata_mut(pod), "annotations");
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        annotations.insert(ANNOTATION.to_owned(), note.into());
    }
}

fn add_missing(container: &mut Object, kind: &str, defaults: &Place<'_>) -> Vec<String> {
    let mut set = Vec::new();
    if defaults.is_empty() {
        return set;
    }
    let resources = object::map_mut(container, "resources");
    let mut own = object::map(resources, kind).cloned().unwrap_or_default();
    for (name, amount) in defaults.entries() {
        if !own.contains_key(name) {
            own.insert(name.to_owned(), amount.value().clone());
            set.push(name.to_owned());
        }
    }
    if !set.is_empty() {
        resources.insert(kind.to_owned(), Value::Object(own));
    }
    set
}

fn check_pod(pod: &Object, range: &Object) -> Vec<String> {
    let mut problems = Vec::new();
    let spec = Place::of(pod, "spec");
    for limit in limits(range, "Container") {
        for container in CONTAINERS.iter().rev().flat_map(|field| spec.child(field).items()) {
            let resources = container.child("resources");
            let (requests, limits) = (resources.child("requests"), resources.child("limits"));
            check(&limit, "Container", &requests, &limits, &mut problems);
        }
    }
    for limit in limits(range, "Pod") {
        let (requests, limits) = (total(&spec, "requests"), total(&spec, "limits"));
        let (requests, limits) = (Place::at("", &requests), Place::at("", &limits));
        check(&limit, "Pod", &requests, &limits, &mut problems);
    }
    problems
}

/// What all containers of a pod ask for together; what one of them leaves open is open.
fn total(spec: &Place<'_>, kind: &str) -> Value {
    let mut sums = Object::new();
    for container in spec.child("containers").items() {
        for (name, amount) in container.below(&["resources", kind]).entries() {
            let own = Quantity::parse(amount.text()).ok();
            let sum = sums.get(name).and_then(Value::as_str).map(Quantity::parse);
            let sum = match (own, sum) {
                (Some(own), Some(Ok(sum))) => sum.plus(&own),
                (Some(own), _) => own,
                _ => continue,
            };
            sums.insert(name.to_owned(), sum.to_string().into());
        }
    }
    json!(sums)
}

fn check(
    limit: &Place<'_>,
    kind: &str,
    requests: &Place<'_>,
    limits: &Place<'_>,
    problems: &mut Vec<String>,
) {
    let amount = |place: &Place<'_>| Quantity::parse(place.text()).ok();
    for (name, bound) in limit.child("min").entries() {
        let (Some(wanted), shown) = (amount(&bound), bound.text()) else { continue };
        for (what, place) in [("request", requests.child(name)), ("limit", limits.child(name))] {
            let least = format!("minimum {name} usage per {kind} is {shown}");
            match amount(&place) {
                Some(own) if own.compare(&wanted).is_lt() => {
                    problems.push(format!("{least}, but {what} is {}", place.text()));
                }
                None if what == "request" => {
                    problems.push(format!("{least}.  No request is specified"));
                }
                _ => {}
            }
        }
    }
    for (name, bound) in limit.child("max").entries() {
        let (Some(wanted), shown) = (amount(&bound), bound.text()) else { continue };
        let most = format!("maximum {name} usage per {kind} is {shown}");
        let own = limits.child(name);
        let is_claim = kind == "PersistentVolumeClaim";
        match amount(&own) {
            Some(amount) if amount.compare(&wanted).is_gt() => {
                problems.push(format!("{most}, but limit is {}", own.text()));
            }
            None if !is_claim => problems.push(format!("{most}.  No limit is specified")),
            _ => {}
        }
        let request = requests.child(name);
        if amount(&request).is_some_and(|amount| amount.compare(&wanted).is_gt()) {
            problems.push(format!("{most}, but request is {}", request.text()));
        }
    }
    for (name, bound) in limit.child("maxLimitRequestRatio").entries() {
        let Some(wanted) = amount(&bound) else { continue };
        let text = format!("{name} max limit to request ratio per {kind} is {}", bound.text());
        let request = amount(&requests.child(name)).filter(|amount| !amount.is_zero());
        let own = amount(&limits.child(name)).filter(|amount| !amount.is_zero());
        let (Some(request), Some(own)) = (&request, &own) else {
            let (what, which) =
                if request.is_none() { ("request", "request") } else { ("limit", "limit") };
            problems.push(format!("{text}, but no {what} is specified or {which} is 0"));
            continue;
        };
        let ratio = own.to_f64() / request.to_f64();
        if ratio > wanted.to_f64() {
            problems.push(format!("{text}, but provided ratio is {ratio:.6}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    fn range(limit: Value) -> Object {
        into_object(json!({"spec": {"limits": [limit]}}))
    }

    #[test]
    fn containers_get_their_defaults() {
        let range =
            range(json!({"type": "Container", "default": {"cpu": "500m", "memory": "512Mi"},
            "defaultRequest": {"cpu": "100m"}}));
        let mut pod = into_object(json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": "1m"}}}]}}));
        set_defaults(&mut pod, &range);
        let resources = &pod["spec"]["containers"][0]["resources"];
        assert_eq!(resources["requests"]["cpu"], "1m");
        assert_eq!(resources["limits"], json!({"cpu": "500m", "memory": "512Mi"}));
        let note = "LimitRanger plugin set: cpu, memory limit for container c";
        assert_eq!(pod["metadata"]["annotations"][ANNOTATION], note);
    }

    #[test]
    fn problems_are_told_as_recorded() {
        let range = range(json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"},
            "maxLimitRequestRatio": {"memory": "2"}}));
        for (resources, expected) in [
            (
                json!({"requests": {"cpu": "50m", "memory": "1Mi"}, "limits": {"cpu": "2", "memory": "1Mi"}}),
                &[
                    "minimum cpu usage per Container is 100m, but request is 50m",
                    "maximum cpu usage per Container is 1, but limit is 2",
                ][..],
            ),
            (
                json!({"requests": {"cpu": "200m"}, "limits": {"cpu": "1"}}),
                &[
                    "memory max limit to request ratio per Container is 2, but no request is specified or request is 0",
                ],
            ),
            (
                json!({"requests": {"cpu": "200m", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "4Mi"}}),
                &[
                    "memory max limit to request ratio per Container is 2, but provided ratio is 4.000000",
                ],
            ),
        ] {
            let pod = into_object(
                json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}),
            );
            assert_eq!(check_pod(&pod, &range), expected);
        }
    }
}
