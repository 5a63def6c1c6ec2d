//! Rules of a pod's volumes and of their places in containers.

use std::collections::BTreeMap;

use super::place::{Errors, Place};
use super::{common, environment, selectors, storage};
use crate::kube::registry::names;

/// Every kind of volume but `emptyDir` with what it can't be without, in the order of the checks.
const SOURCES: [(&str, &[&str]); 29] = [
    ("hostPath", &[]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &["registry", "volume"]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &[]),
    ("ephemeral", &[]),
    ("image", &[]),
];
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
const MOST_TOKEN_SECONDS: i64 = 1 << 32;
const LEAST_TOKEN_SECONDS: i64 = 600;
const KEY_TYPES: [&str; 6] =
    ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];

/// The volumes without mistakes of their own, by name; whether a block device can be one.
#[derive(Debug, Default)]
pub struct Volumes(BTreeMap<String, bool>);

impl Volumes {
    /// The rules of `volumes`; `pod` is the name of the pod, when it has one.
    pub fn check(place: &Place<'_>, pod: &str, errors: &mut Errors) -> Volumes {
        let mut volumes = Volumes::default();
        let made: Vec<String> = place
            .items()
            .iter()
            .filter(|volume| volume.child("ephemeral").is_set() && !pod.is_empty())
            .map(|volume| format!("{pod}-{}", volume.child("name").text()))
            .collect();
        for volume in place.items() {
            let mut own = Errors::new();
            source(&volume, pod, &mut own);
            let name = volume.child("name");
            common::required_name(&name, names::dns_label, &mut own);
            if volumes.0.contains_key(name.text()) {
                own.push(name.duplicate());
            }
            if own.is_empty() {
                let block = ["persistentVolumeClaim", "ephemeral"];
                let block = block.iter().any(|kind| volume.child(kind).is_set());
                volumes.0.insert(name.text().to_owned(), block);
            }
            errors.append(&mut own);
            let claim = volume.below(&["persistentVolumeClaim", "claimName"]);
            if made.iter().any(|name| name == claim.text()) {
                let why = "must not reference a PVC that gets created for an ephemeral volume";
                errors.push(claim.invalid_text(why));
            }
        }
        volumes
    }

    /// Volumes that come from elsewhere.
    pub fn add_claims(&mut self, names: impl Iterator<Item = String>) {
        self.0.extend(names.map(|name| (name, true)));
    }

    /// `volumeMounts` of a container.
    pub fn mounts(&self, container: &Place<'_>, errors: &mut Errors) {
        let list = container.child("volumeMounts");
        let devices = container.child("volumeDevices").items();
        let mut seen: Vec<&str> = Vec::new();
        for mount in list.items() {
            let (name, path) = (mount.child("name"), mount.child("mountPath"));
            common::required(&name, errors);
            if !self.0.contains_key(name.text()) {
                errors.push(name.not_found());
            }
            common::required(&path, errors);
            if seen.contains(&path.text()) {
                errors.push(path.invalid_text("must be unique"));
            }
            seen.push(path.text());
            if devices.iter().any(|device| device.child("name").text() == name.text()) {
                errors.push(name.invalid_text("must not already exist in volumeDevices"));
            }
            if devices.iter().any(|device| device.child("devicePath").text() == path.text()) {
                let why = "must not already exist as a path in volumeDevices";
                errors.push(path.invalid_text(why));
            }
            sub_paths(&mount, &list, errors);
            propagation(&mount, container, &list, errors);
        }
    }

    /// `volumeDevices` of a container.
    pub fn devices(&self, container: &Place<'_>, errors: &mut Errors) {
        let mounts = container.child("volumeMounts").items();
        let (mut names, mut paths): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        for device in container.child("volumeDevices").items() {
            let (name, path) = (device.child("name"), device.child("devicePath"));
            common::required(&name, errors);
            if names.contains(&name.text()) {
                errors.push(name.invalid_text("must be unique"));
            }
            match self.0.get(name.text()) {
                None => errors.push(name.not_found()),
                Some(true) => {}
                Some(false) => {
                    let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                    errors.push(name.invalid_text(why));
                }
            }
            common::required(&path, errors);
            if paths.contains(&path.text()) {
                errors.push(path.invalid_text("must be unique"));
            }
            if path.text().split('/').any(|part| part == "..") {
                errors.push(path.invalid_text("can not contain backsteps ('..')"));
            } else {
                paths.push(path.text());
            }
            if mounts.iter().any(|mount| mount.child("name").text() == name.text()) {
                errors.push(name.invalid_text("must not already exist in volumeMounts"));
            }
            if mounts.iter().any(|mount| mount.child("mountPath").text() == path.text()) {
                let why = "must not already exist as a path in volumeMounts";
                errors.push(path.invalid_text(why));
            }
            names.push(name.text());
        }
    }
}

fn sub_paths(mount: &Place<'_>, list: &Place<'_>, errors: &mut Errors) {
    let called = |field: &str| mount.child(field).called(format!("{}.{field}", list.path()));
    if !mount.child("subPath").is_empty() {
        common::descending_path(&called("subPath"), errors);
    }
    let expression = mount.child("subPathExpr");
    if !expression.is_empty() {
        if !mount.child("subPath").is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(expression.invalid_text(why));
        }
        common::descending_path(&called("subPathExpr"), errors);
    }
}

fn propagation(mount: &Place<'_>, container: &Place<'_>, list: &Place<'_>, errors: &mut Errors) {
    let own = mount.child("mountPropagation");
    let place = own.called(format!("{}.mountPropagation", list.path()));
    common::one_of_if_set(&place, &["Bidirectional", "HostToContainer", "None"], errors);
    let privileged = container.below(&["securityContext", "privileged"]).is_true();
    if place.text() == "Bidirectional" && !privileged {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(place.forbidden(why));
    }
    let read_only = mount.child("recursiveReadOnly");
    let place = read_only.called(format!("{}.recursiveReadOnly", list.path()));
    match place.text() {
        "" | "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.child("readOnly").is_true() {
                errors.push(place.forbidden("may only be specified when readOnly is true"));
            }
            if !matches!(own.text(), "" | "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(place.forbidden(why));
            }
        }
        _ => errors.push(place.unsupported(&["Disabled", "IfPossible", "Enabled"])),
    }
}

/// Exactly one kind, and the rules of that.
fn source(volume: &Place<'_>, pod: &str, errors: &mut Errors) {
    let mut count = 0;
    let empty = volume.child("emptyDir");
    if empty.is_set() {
        count += 1;
        if common::sign(&empty.child("sizeLimit")).is_lt() {
            let why = "SizeLimit field must be a valid resource quantity";
            errors.push(empty.child("sizeLimit").forbidden(why));
        }
    }
    for (kind, needed) in SOURCES {
        let place = volume.child(kind);
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
        kind_rules(kind, &place, errors);
        if kind == "ephemeral" && !pod.is_empty() && !volume.child("name").is_empty() {
            let name = volume.child("name");
            let claim = format!("{pod}-{}", name.text());
            let why = names::dns_subdomain(&claim).into_iter();
            errors.extend(why.map(|why| name.invalid_text(format!("PVC name \"{claim}\": {why}"))));
        }
    }
    if count == 0 {
        errors.push(volume.required("must specify a volume type"));
    }
}

fn kind_rules(kind: &str, place: &Place<'_>, errors: &mut Errors) {
    match kind {
        "hostPath" => host_path(place, errors),
        "secret" | "configMap" => {
            common::file_mode(&place.child("defaultMode"), errors);
            for item in place.child("items").items() {
                key_to_path(&item, errors);
            }
        }
        "nfs" if !place.child("path").text().starts_with('/') => {
            errors.push(place.child("path").invalid_text("must be an absolute path"));
        }
        "gitRepo" => common::descending_path(&place.child("directory"), errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            common::within(&place.child("partition"), 0, 255, errors);
        }
        "iscsi" => common::within(&place.child("lun"), 0, 255, errors),
        "downwardAPI" => {
            common::file_mode(&place.child("defaultMode"), errors);
            for file in place.child("items").items() {
                downward_file(&file, errors);
            }
        }
        "projected" => projected(place, errors),
        "csi" => {
            storage::driver_name(&place.child("driver"), errors);
            let secret = place.child("nodePublishSecretRef");
            if secret.is_set() {
                common::required(&secret.child("name"), errors);
            }
        }
        "ephemeral" => {
            let template = place.child("volumeClaimTemplate");
            match template.is_set() {
                true => storage::claim_spec(&template.child("spec"), errors),
                false => errors.push(template.required("")),
            }
        }
        "image" => {
            let policies = ["Always", "IfNotPresent", "Never"];
            common::one_of(&place.child("pullPolicy"), &policies, errors);
        }
        _ => {}
    }
}

/// A path of the node, which needs no type.
pub fn host_path(place: &Place<'_>, errors: &mut Errors) {
    let path = place.child("path");
    if path.is_empty() {
        errors.push(path.required(""));
        return;
    }
    common::no_backsteps(&path, errors);
    common::one_of_if_set(&place.child("type"), &HOST_PATH_TYPES, errors);
}

fn key_to_path(item: &Place<'_>, errors: &mut Errors) {
    common::required(&item.child("key"), errors);
    common::required(&item.child("path"), errors);
    common::unreserved_path(&item.child("path"), errors);
    common::file_mode(&item.child("mode"), errors);
}

fn downward_file(file: &Place<'_>, errors: &mut Errors) {
    common::required(&file.child("path"), errors);
    common::unreserved_path(&file.child("path"), errors);
    let (field, resource) = (file.child("fieldRef"), file.child("resourceFieldRef"));
    if field.is_set() {
        environment::field_of_file(&field, errors);
        if resource.is_set() {
            let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.push(file.invalid_as("resource", why));
        }
    } else if resource.is_set() {
        environment::resource_field(&resource, true, errors);
    } else {
        errors.push(file.required("one of fieldRef and resourceFieldRef is required"));
    }
    common::file_mode(&file.child("mode"), errors);
}

fn projected(place: &Place<'_>, errors: &mut Errors) {
    common::file_mode(&place.child("defaultMode"), errors);
    let mut paths: Vec<&str> = Vec::new();
    for source in place.child("sources").items() {
        let kinds = [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ];
        let set: Vec<&str> = kinds.into_iter().filter(|kind| source.child(kind).is_set()).collect();
        for kind in &set {
            projection(kind, &source.child(kind), place, &mut paths, errors);
        }
        if set.len() > 1 {
            errors.push(source.forbidden("may not specify more than 1 volume type per source"));
        }
    }
}

/// Two files can't have one path.
fn claim_path<'a>(
    path: &'a str,
    shown: &str,
    place: &Place<'_>,
    paths: &mut Vec<&'a str>,
    errors: &mut Errors,
) {
    if path.is_empty() {
        return;
    }
    if paths.contains(&path) {
        errors.push(place.invalid_as(shown, "conflicting duplicate paths"));
    } else {
        paths.push(path);
    }
}

fn projection<'a>(
    kind: &str,
    source: &Place<'a>,
    place: &Place<'_>,
    paths: &mut Vec<&'a str>,
    errors: &mut Errors,
) {
    match kind {
        "secret" | "configMap" => {
            let name = source.child("name");
            common::required(&name, errors);
            for item in source.child("items").items() {
                key_to_path(&item, errors);
                claim_path(item.child("path").text(), name.text(), place, paths, errors);
            }
        }
        "downwardAPI" => {
            for file in source.child("items").items() {
                downward_file(&file.called(source.path()), errors);
                let path = file.child("path").text();
                claim_path(path, path, place, paths, errors);
            }
        }
        "serviceAccountToken" => {
            let seconds = source.child("expirationSeconds");
            if seconds.number_or_zero() < LEAST_TOKEN_SECONDS {
                let why = "may not specify a duration less than 10 minutes";
                errors.push(seconds.invalid_number(why));
            }
            if seconds.number_or_zero() > MOST_TOKEN_SECONDS {
                let why = "may not specify a duration larger than 2^32 seconds";
                errors.push(seconds.invalid_number(why));
            }
            let path = source.child("path").called(format!("{}.path", place.path()));
            common::required(&path, errors);
            common::unreserved_path(&path, errors);
        }
        "clusterTrustBundle" => {
            let path = source.child("path");
            trust_bundle(source, errors);
            claim_path(path.text(), path.text(), place, paths, errors);
        }
        _ => {
            common::listed(&source.child("keyType"), &KEY_TYPES, errors);
            let files = ["credentialBundlePath", "keyPath", "certificateChainPath"];
            for file in files.map(|name| source.child(name)) {
                common::unreserved_path(&file, errors);
                claim_path(file.text(), file.text(), place, paths, errors);
            }
            if files.iter().all(|name| source.child(name).is_empty()) {
                let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
                errors.push(source.required(why));
            }
        }
    }
}

fn trust_bundle(source: &Place<'_>, errors: &mut Errors) {
    let (name, signer) = (source.child("name"), source.child("signerName"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => {
            errors.push(source.invalid("only one of name and signerName may be used"));
        }
        (true, false) if name.is_empty() => {
            errors.push(name.required("must be a valid object name"));
        }
        (true, false) => {}
        (false, true) => selectors::label_selector(&source.child("labelSelector"), errors),
        (false, false) => {
            errors.push(source.required("either name or signerName must be specified"));
        }
    }
    common::required(&source.child("path"), errors);
    common::unreserved_path(&source.child("path"), errors);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn volumes_are_checked() {
        for (volume, expected) in [
            (json!({"name": "v", "emptyDir": {}}), &[][..]),
            (json!({"name": "v"}), &["v[0]"]),
            (json!({"name": "V", "emptyDir": {}}), &["v[0].name"]),
            (json!({"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}), &["v[0].secret"]),
            (json!({"name": "v", "secret": {}}), &["v[0].secret.secretName"]),
            (
                json!({"name": "v", "hostPath": {"path": "/a/../b", "type": "X"}}),
                &["v[0].hostPath.path", "v[0].hostPath.type"],
            ),
            (
                json!({"name": "v", "configMap": {"name": "m", "defaultMode": 512}}),
                &["v[0].configMap.defaultMode"],
            ),
            (
                json!({"name": "v", "projected": {"sources": [
                    {"secret": {"name": "s", "items": [{"key": "a", "path": "p"}]}},
                    {"configMap": {"name": "m", "items": [{"key": "a", "path": "p"}]}},
                ]}}),
                &["v[0].projected"],
            ),
        ] {
            let list = json!([volume]);
            let mut errors = Errors::new();
            Volumes::check(&Place::at("v", &list), "p", &mut errors);
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{volume}");
        }
    }
}
