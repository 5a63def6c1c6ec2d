//! Rules of volumes, claims, classes and what drivers of storage say of themselves.

use std::cmp::Ordering;

use super::place::{Errors, Place};
use super::{common, compute, selectors, volumes};
use crate::kube::object::Object;
use crate::kube::registry::names;
use crate::kube::status::FieldError;

const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const RECLAIM_POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
const MOST_DRIVER_NAME_BYTES: usize = 63;
const MOST_PARAMETERS: usize = 512;
const MOST_PARAMETER_BYTES: usize = 256 * 1024;
const MOST_NODE_ID_BYTES: usize = 192;
const SOURCES: [(&str, &[&str]); 19] = [
    ("hostPath", &[]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("quobyte", &["registry", "volume"]),
    ("cephfs", &["monitors"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];
const LATER_SOURCES: [&str; 3] = ["local", "storageos", "csi"];

/// The name of a CSI driver.
pub fn driver_name(place: &Place<'_>, errors: &mut Errors) {
    if place.is_empty() {
        errors.push(place.required(""));
        return;
    }
    if place.text().len() > MOST_DRIVER_NAME_BYTES {
        errors.push(place.too_long(MOST_DRIVER_NAME_BYTES));
    }
    let why = names::dns_subdomain(&place.text().to_lowercase());
    errors.extend(why.into_iter().map(|why| place.invalid_text(why)));
}

fn access_modes(place: &Place<'_>, errors: &mut Errors) {
    for mode in place.texts().iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.push(FieldError::not_supported(place.path(), *mode, &ACCESS_MODES));
    }
    let known: Vec<&str> =
        place.texts().into_iter().filter(|mode| ACCESS_MODES.contains(mode)).collect();
    let single = known.contains(&"ReadWriteOncePod");
    if single && known.iter().any(|mode| *mode != "ReadWriteOncePod") {
        errors.push(place.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// The spec of a claim, also of one in a template.
pub fn claim_spec(spec: &Place<'_>, errors: &mut Errors) {
    let modes = spec.child("accessModes");
    if modes.is_empty() {
        errors.push(modes.required("at least 1 access mode is required"));
    }
    selectors::label_selector(&spec.child("selector"), errors);
    access_modes(&modes, errors);
    let size = spec.below(&["resources", "requests", "storage"]);
    let place = size.called(format!("{}.resources[storage]", spec.path()));
    if !size.is_set() {
        errors.push(place.required(""));
    } else if common::sign(&size) != Ordering::Greater {
        errors.push(place.invalid(common::NOT_POSITIVE));
    }
    common::named_if_set(&spec.child("storageClassName"), names::dns_subdomain, errors);
    common::one_of_if_set(&spec.child("volumeMode"), &VOLUME_MODES, errors);
    let [source, reference] = ["dataSource", "dataSourceRef"].map(|name| spec.child(name));
    for place in [&source, &reference] {
        if place.is_set() {
            data_source(place, errors);
        }
    }
    if !reference.child("namespace").is_empty() {
        if source.is_set() {
            let why = "may not be specified when dataSourceRef.namespace is specified";
            errors.push(spec.invalid_as(source.path(), why));
        }
    } else if source.is_set() && reference.is_set() {
        let same = |name: &str| source.child(name).text() == reference.child(name).text();
        if !["name", "kind", "apiGroup"].into_iter().all(same) {
            errors.push(spec.invalid_as(source.path(), "must match dataSourceRef"));
        }
    }
    common::named_if_set(&spec.child("volumeAttributesClassName"), names::dns_subdomain, errors);
}

fn data_source(place: &Place<'_>, errors: &mut Errors) {
    common::required(&place.child("name"), errors);
    common::required(&place.child("kind"), errors);
    let (kind, group) = (place.child("kind").text(), place.child("apiGroup"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(place.invalid_as(kind, why));
    }
    common::named_if_set(&group, names::dns_subdomain, errors);
    common::named_if_set(&place.child("namespace"), names::dns_label, errors);
}

pub fn claim(object: &Object) -> Errors {
    let mut errors = Errors::new();
    claim_spec(&Place::of(object, "spec"), &mut errors);
    errors
}

pub fn volume(object: &Object) -> Errors {
    let mut errors = Errors::new();
    volume_spec(&Place::of(object, "spec"), &mut errors);
    errors
}

/// What a volume is made of stays.
pub fn volume_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    let kinds = SOURCES.iter().map(|(kind, _)| *kind).chain(LATER_SOURCES);
    let source = |spec: &Place<'_>, kind: &str| {
        let mut value = spec.child(kind).value().clone();
        // A secret for making a volume larger may come later, once.
        let expand = "controllerExpandSecretRef";
        if before.child("csi").child(expand).value().is_null()
            && let Some(fields) = value.as_object_mut()
        {
            fields.remove(expand);
        }
        value
    };
    if kinds.into_iter().any(|kind| source(&now, kind) != source(&before, kind)) {
        let why = "spec.persistentvolumesource is immutable after creation";
        errors.push(FieldError::forbidden("spec.persistentvolumesource", why));
    }
    let mode = |spec: &Place<'_>| spec.child("volumeMode").value().clone();
    if mode(&now) != mode(&before) {
        errors.push(now.child("volumeMode").called("volumeMode").invalid(common::IMMUTABLE));
    }
    errors
}

/// A claim gets its volume once; what is bound may grow.
pub fn claim_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    let bound = Place::of(new, "status").child("phase").text() == "Bound";
    let mut changeable: Vec<&str> = Vec::new();
    if before.child("volumeName").is_empty() {
        changeable.push("volumeName");
    }
    if !before.child("storageClassName").is_set() {
        changeable.push("storageClassName");
    }
    if bound {
        changeable.extend(["resources", "volumeAttributesClassName"]);
    }
    if !super::same_but_for(new, old, &changeable) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden("spec", why));
    }
    let size =
        |place: &Place<'_>| common::quantity(&place.below(&["resources", "requests", "storage"]));
    let capacity = common::quantity(&Place::of(old, "status").below(&["capacity", "storage"]));
    if let (Some(now_size), Some(old_size)) = (size(&now), size(&before))
        && now_size.compare(&old_size).is_lt()
        && capacity.is_some_and(|capacity| now_size.compare(&capacity).is_le())
    {
        let why = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden("spec.resources.requests.storage", why));
    }
    errors
}

fn volume_spec(spec: &Place<'_>, errors: &mut Errors) {
    common::required(&spec.child("accessModes"), errors);
    access_modes(&spec.child("accessModes"), errors);
    let capacity = spec.child("capacity");
    common::required(&capacity, errors);
    if !capacity.child("storage").is_set() || capacity.len() > 1 {
        let shown = capacity.value().clone();
        errors.push(FieldError::not_supported(capacity.path(), shown, &["storage"]));
    }
    for (_, amount) in capacity.entries() {
        let sign = common::sign(&amount);
        if sign == Ordering::Less {
            let shown = common::quantity(&amount).map(|own| own.to_string()).unwrap_or_default();
            let why = "must be a valid resource quantity";
            errors.push(FieldError::invalid_raw(amount.path(), &shown, why));
        }
        if sign != Ordering::Greater {
            errors.push(amount.invalid(common::NOT_POSITIVE));
        }
    }
    let policy = spec.child("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        common::listed(&policy, &RECLAIM_POLICIES, errors);
    }
    let affinity = spec.child("nodeAffinity");
    let required = affinity.child("required");
    if required.is_set() {
        selectors::node_selector(&required, errors);
    } else if affinity.is_set() {
        errors.push(required.required("must specify required node constraints"));
    }
    volume_source(spec, errors);
    let root = spec.below(&["hostPath", "path"]).text();
    let is_root = root.starts_with('/') && root.split('/').all(|part| matches!(part, "" | "."));
    if is_root && policy.text() == "Recycle" {
        errors.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
    common::named_if_set(&spec.child("storageClassName"), names::dns_subdomain, errors);
    common::one_of_if_set(&spec.child("volumeMode"), &VOLUME_MODES, errors);
    let class = spec.child("volumeAttributesClassName");
    if class.is_set() {
        match class.is_empty() {
            true => errors.push(class.required("an empty string is disallowed")),
            false => common::named(&class, names::dns_subdomain, errors),
        }
        if !spec.child("csi").is_set() {
            let why = "has to be specified when using volumeAttributesClassName";
            errors.push(spec.child("csi").required(why));
        }
    }
}

fn volume_source(spec: &Place<'_>, errors: &mut Errors) {
    let mut count = 0;
    let later = LATER_SOURCES.iter().map(|name| (*name, &[][..]));
    for (kind, needed) in SOURCES.into_iter().chain(later) {
        let place = spec.child(kind);
        if !place.is_set() {
            continue;
        }
        count += 1;
        if count > 1 {
            errors.push(place.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        for field in needed {
            common::required(&place.child(field), errors);
        }
        match kind {
            "hostPath" => volumes::host_path(&place, errors),
            "nfs" if !place.child("path").text().starts_with('/') => {
                errors.push(place.child("path").invalid_text("must be an absolute path"));
            }
            "local" => {
                common::required(&place.child("path"), errors);
                common::no_backsteps(&place.child("path"), errors);
                if !spec.child("nodeAffinity").is_set() {
                    let why = "Local volume requires node affinity";
                    errors.push(spec.child("nodeAffinity").required(why));
                }
            }
            "csi" => csi_source(&place, errors),
            _ => {}
        }
    }
    if count == 0 {
        errors.push(spec.required("must specify a volume type"));
    }
}

fn csi_source(place: &Place<'_>, errors: &mut Errors) {
    driver_name(&place.child("driver"), errors);
    common::required(&place.child("volumeHandle"), errors);
    for name in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let secret = place.child(name);
        if secret.is_set() {
            common::required_name(&secret.child("name"), names::dns_subdomain, errors);
            common::required_name(&secret.child("namespace"), names::dns_label, errors);
        }
    }
}

fn provisioner(place: &Place<'_>, errors: &mut Errors) {
    common::required(place, errors);
    if !place.is_empty() {
        let why = names::qualified_name(&place.text().to_lowercase());
        errors.extend(why.into_iter().map(|why| place.invalid_text(why)));
    }
}

fn parameters(place: &Place<'_>, errors: &mut Errors) {
    if place.len() > MOST_PARAMETERS {
        errors.push(place.too_long(MOST_PARAMETERS));
        return;
    }
    let entries = place.entries();
    for _ in entries.iter().filter(|(key, _)| key.is_empty()) {
        errors.push(place.invalid_as("", "field can not be empty."));
    }
    let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.text().len()).sum();
    if bytes > MOST_PARAMETER_BYTES {
        errors.push(place.too_long(MOST_PARAMETER_BYTES));
    }
}

pub fn class(object: &Object) -> Errors {
    let mut errors = Errors::new();
    provisioner(&Place::of(object, "provisioner"), &mut errors);
    parameters(&Place::of(object, "parameters"), &mut errors);
    let policy = Place::of(object, "reclaimPolicy");
    if !policy.is_empty() {
        common::listed(&policy, &["Delete", "Retain"], &mut errors);
    }
    let mode = Place::of(object, "volumeBindingMode");
    common::required_value(&mode, &mut errors);
    common::one_of_if_set(&mode, &["Immediate", "WaitForFirstConsumer"], &mut errors);
    for term in Place::of(object, "allowedTopologies").items() {
        topology(&term, &mut errors);
    }
    errors
}

fn topology(term: &Place<'_>, errors: &mut Errors) {
    let mut keys: Vec<&str> = Vec::new();
    for requirement in term.child("matchLabelExpressions").items() {
        let (values, key) = (requirement.child("values"), requirement.child("key"));
        common::required(&values, errors);
        let texts = values.texts();
        for (index, value) in values.items().iter().enumerate() {
            if texts[..index].contains(&value.text()) {
                errors.push(value.duplicate());
            }
        }
        common::named(&key, names::qualified_name, errors);
        if keys.contains(&key.text()) {
            errors.push(key.duplicate());
        }
        keys.push(key.text());
    }
}

pub fn attributes_class(object: &Object) -> Errors {
    let mut errors = Errors::new();
    provisioner(&Place::of(object, "driverName"), &mut errors);
    let place = Place::of(object, "parameters");
    parameters(&place, &mut errors);
    if place.is_empty() {
        errors.push(place.required("must contain at least one key/value pair"));
    }
    errors
}

pub fn attachment(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    driver_name(&spec.child("attacher"), &mut errors);
    let source = spec.child("source");
    let [inline, name] =
        ["inlineVolumeSpec", "persistentVolumeName"].map(|field| source.child(field));
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.is_set(), name.is_set()) {
        (false, false) => errors.push(source.required(why)),
        (true, true) => errors.push(source.forbidden(why)),
        (false, true) if name.is_empty() => {
            errors.push(name.required("must specify non empty persistentVolumeName"));
        }
        (false, true) => {}
        (true, false) => inline_volume(&inline, &mut errors),
    }
    common::named(&spec.child("nodeName"), names::dns_subdomain, &mut errors);
    if name.is_set() {
        common::named(&name, names::dns_subdomain, &mut errors);
    }
    errors
}

fn inline_volume(spec: &Place<'_>, errors: &mut Errors) {
    let context = "in the context of inline volumes";
    for field in ["claimRef", "capacity"] {
        if !spec.child(field).is_empty() {
            errors.push(spec.child(field).forbidden(format!("may not be specified {context}")));
        }
    }
    let csi = spec.child("csi");
    match csi.is_set() {
        false => errors.push(csi.required(&format!("has to be specified {context}"))),
        true => csi_source(&csi, errors),
    }
    common::required(&spec.child("accessModes"), errors);
    access_modes(&spec.child("accessModes"), errors);
}

pub fn csi_node(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let mut seen: Vec<&str> = Vec::new();
    for driver in Place::of(object, "spec").child("drivers").items() {
        let (name, node) = (driver.child("name"), driver.child("nodeID"));
        driver_name(&name, &mut errors);
        common::required(&node, &mut errors);
        if node.text().len() > MOST_NODE_ID_BYTES {
            let why = format!("must be {MOST_NODE_ID_BYTES} characters or less");
            errors.push(node.invalid_text(why));
        }
        common::non_negative(&driver.below(&["allocatable", "count"]), &mut errors);
        if seen.contains(&name.text()) {
            errors.push(name.duplicate_of(name.text()));
        }
        seen.push(name.text());
        let keys = driver.child("topologyKeys").texts();
        for (index, key) in keys.iter().enumerate() {
            if key.is_empty() {
                errors.push(driver.required(""));
            }
            if keys[..index].contains(key) {
                errors.push(driver.duplicate_of(*key));
            }
            let why = names::qualified_name(key);
            errors.extend(why.into_iter().map(|why| driver.invalid_as(*key, why)));
        }
    }
    errors
}

/// Drivers of a node that it had before stay as they are, but for what can be allocated.
pub fn csi_node_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let drivers = |object| Place::of(object, "spec").child("drivers").items();
    for before in drivers(old) {
        for now in drivers(new) {
            let name = now.child("name").text();
            if name != before.child("name").text() {
                continue;
            }
            let fixed = ["nodeID", "topologyKeys"];
            let same = |field: &&str| {
                let (now, before) = (now.child(field), before.child(field));
                crate::kube::object::same(Some(now.value()), Some(before.value()))
            };
            if !fixed.iter().all(same) {
                let keys = match now.child("topologyKeys").is_empty() {
                    true => "null".to_owned(),
                    false => now.child("topologyKeys").value().to_string(),
                };
                let shown = format!(
                    "{{\"Name\":{},\"NodeID\":{},\"TopologyKeys\":{keys},\"Allocatable\":null}}",
                    crate::kube::status::quoted(name),
                    crate::kube::status::quoted(now.child("nodeID").text()),
                );
                errors.push(FieldError::invalid_raw("spec.drivers", &shown, common::IMMUTABLE));
            }
        }
    }
    errors
}

pub fn csi_driver(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    let policy = spec.child("fsGroupPolicy");
    common::one_of_if_set(&policy, &["File", "None", "ReadWriteOnceWithFSType"], &mut errors);
    let mut audiences: Vec<&str> = Vec::new();
    for request in spec.child("tokenRequests").items() {
        let audience = request.child("audience");
        if audiences.contains(&audience.text()) {
            errors.push(audience.duplicate_of(audience.text()));
            continue;
        }
        audiences.push(audience.text());
        let seconds = request.child("expirationSeconds");
        if seconds.number().is_some_and(|number| number < 600) {
            errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
        }
        if seconds.number().is_some_and(|number| number > 1 << 32) {
            errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
        }
    }
    let modes = spec.child("volumeLifecycleModes");
    for mode in modes.items() {
        common::listed(&mode.called(modes.path()), &["Persistent", "Ephemeral"], &mut errors);
    }
    let period = spec.child("nodeAllocatableUpdatePeriodSeconds");
    if period.number().is_some_and(|seconds| seconds < 10) {
        errors.push(period.invalid("must be greater than or equal to 10 seconds"));
    }
    let in_secrets = spec.child("serviceAccountTokenInSecrets");
    if in_secrets.is_set() && spec.child("tokenRequests").is_empty() {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(in_secrets.invalid(why));
    }
    errors
}

pub fn capacity(object: &Object) -> Errors {
    let mut errors = Errors::new();
    selectors::label_selector(&Place::of(object, "nodeTopology"), &mut errors);
    common::named(&Place::of(object, "storageClassName"), names::dns_subdomain, &mut errors);
    common::non_negative_quantity(&Place::of(object, "capacity"), &mut errors);
    errors
}

/// The amounts of a node.
pub fn node_resources(status: &Place<'_>, errors: &mut Errors) {
    for field in ["capacity", "allocatable"] {
        for (name, amount) in status.child(field).entries() {
            let place = amount.called(format!("{}.{field}.{name}", status.path()));
            compute::amount(name, &place, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn storage_is_checked() {
        type Rule = fn(&Object) -> Errors;
        let claim_with = |more: Value| {
            let mut spec = into_object(json!({
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            }));
            spec.extend(into_object(more));
            json!({"spec": spec})
        };
        let volume_with = |more: Value| {
            let mut spec = into_object(json!({
                "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                "hostPath": {"path": "/a"},
            }));
            spec.extend(into_object(more));
            json!({"spec": spec})
        };
        let cases: Vec<(Rule, Value, &[&str])> = vec![
            (claim, claim_with(json!({})), &[]),
            (claim, claim_with(json!({"accessModes": []})), &["spec.accessModes"]),
            (claim, claim_with(json!({"resources": {}})), &["spec.resources[storage]"]),
            (
                claim,
                claim_with(json!({"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]})),
                &["spec.accessModes"],
            ),
            (
                claim,
                claim_with(json!({"dataSource": {"name": "a", "kind": "Pod"}})),
                &["spec.dataSource"],
            ),
            (volume, volume_with(json!({})), &[]),
            (volume, volume_with(json!({"capacity": {}})), &["spec.capacity", "spec.capacity"]),
            (volume, volume_with(json!({"hostPath": null})), &["spec"]),
            (
                volume,
                volume_with(
                    json!({"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"}),
                ),
                &["spec.persistentVolumeReclaimPolicy"],
            ),
            (
                class,
                json!({"provisioner": "p", "volumeBindingMode": "Immediate", "parameters": {"": "x"}}),
                &["parameters"],
            ),
            (class, json!({"volumeBindingMode": "X"}), &["provisioner", "volumeBindingMode"]),
            (
                attachment,
                json!({"spec": {"attacher": "a", "nodeName": "n", "source": {}}}),
                &["spec.source"],
            ),
            (
                csi_node,
                json!({"spec": {"drivers": [{"name": "d", "nodeID": "n"}, {"name": "d", "nodeID": ""}]}}),
                &["spec.drivers[1].nodeID", "spec.drivers[1].name"],
            ),
        ];
        for (rule, object, expected) in cases {
            let errors = rule(&into_object(object.clone()));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{object}");
        }
    }

    #[test]
    fn what_of_volumes_and_claims_may_change() {
        type Rule = fn(&Object, &Object) -> Errors;
        let sized = |size: &str, phase: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}, "status": {"phase": phase}});
        let cases: Vec<(Rule, Value, Value, &[&str])> = vec![
            (
                volume_change,
                json!({"spec": {"hostPath": {"path": "/a"}}}),
                json!({"spec": {"hostPath": {"path": "/a"}}}),
                &[],
            ),
            (
                volume_change,
                json!({"spec": {"hostPath": {"path": "/b"}}}),
                json!({"spec": {"hostPath": {"path": "/a"}}}),
                &["spec.persistentvolumesource"],
            ),
            (
                volume_change,
                json!({"spec": {"volumeMode": "Block"}}),
                json!({"spec": {"volumeMode": "Filesystem"}}),
                &["volumeMode"],
            ),
            (claim_change, json!({"spec": {"volumeName": "v"}}), json!({"spec": {}}), &[]),
            (
                claim_change,
                json!({"spec": {"volumeName": "v"}}),
                json!({"spec": {"volumeName": "w"}}),
                &["spec"],
            ),
            (claim_change, sized("2Gi", "Bound"), sized("1Gi", "Bound"), &[]),
            (claim_change, sized("2Gi", "Pending"), sized("1Gi", "Pending"), &["spec"]),
        ];
        for (rule, new, old, expected) in cases {
            let errors = rule(&into_object(new.clone()), &into_object(old));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{new}");
        }
    }
}
