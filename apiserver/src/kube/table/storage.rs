//! Tables of volumes, claims and storage classes.

use serde_json::Value;

use super::{AGE, Cells, Column, Layout, NAME, age_cell, column, name_cell};
use crate::kube::object::{self, Object};

pub(super) fn layout(plural: &str) -> Option<Layout> {
    Some(match plural {
        "persistentvolumes" => Layout { columns: VOLUME, cells: volume },
        "persistentvolumeclaims" => Layout { columns: CLAIM, cells: claim },
        "storageclasses" => Layout { columns: CLASS, cells: class },
        _ => return None,
    })
}

const SPEC: &str = "io.k8s.api.core.v1.PersistentVolumeSpec";
const STATUS: &str = "io.k8s.api.core.v1.PersistentVolumeStatus";
const CLAIM_SPEC: &str = "io.k8s.api.core.v1.PersistentVolumeClaimSpec";
const CLAIM_STATUS: &str = "io.k8s.api.core.v1.PersistentVolumeClaimStatus";
const STORAGE_CLASS: &str = "io.k8s.api.storage.v1.StorageClass";

const VOLUME: &[Column] = &[
    NAME,
    column("Capacity", "string", 0, "How much it holds.").of(SPEC, "capacity"),
    column("Access Modes", "string", 0, "How it can be mounted.").of(SPEC, "accessModes"),
    column("Reclaim Policy", "string", 0, "What becomes of it when its claim is gone.")
        .of(SPEC, "persistentVolumeReclaimPolicy"),
    column("Status", "string", 0, "Whether it is free, bound or released.").of(STATUS, "phase"),
    column("Claim", "string", 0, "Who has it.").of(SPEC, "claimRef"),
    column("StorageClass", "string", 0, "The class that it is of."),
    column("VolumeAttributesClass", "string", 0, "The attributes that it has."),
    column("Reason", "string", 0, "Why it is in this state, in a word.").of(STATUS, "reason"),
    AGE,
    column("VolumeMode", "string", 1, "A file system or a block device.").of(SPEC, "volumeMode"),
];

/// Access modes as people write them: `RWO,ROX`.
fn access_modes(object: &Object, path: &[&str]) -> String {
    let short = |mode: &str| match mode {
        "ReadWriteOnce" => Some("RWO"),
        "ReadOnlyMany" => Some("ROX"),
        "ReadWriteMany" => Some("RWX"),
        "ReadWriteOncePod" => Some("RWOP"),
        _ => None,
    };
    let modes = object::list_at(object, path);
    modes.iter().filter_map(Value::as_str).filter_map(short).collect::<Vec<_>>().join(",")
}

fn volume_mode(object: &Object) -> Value {
    match object::text_at(object, &["spec", "volumeMode"]) {
        "" => "<unset>".into(),
        mode => mode.into(),
    }
}

fn attributes_class(object: &Object) -> Value {
    match object::text_at(object, &["spec", "volumeAttributesClassName"]) {
        "" => "<unset>".into(),
        name => name.into(),
    }
}

fn phase(object: &Object) -> Value {
    match object::is_being_deleted(object) {
        true => "Terminating".into(),
        false => object::text_at(object, &["status", "phase"]).into(),
    }
}

fn volume(object: &Object, now: i64) -> Cells {
    let text = |path: &[&str]| Value::from(object::text_at(object, path));
    let claim = object::at(object, &["spec", "claimRef"]).and_then(Value::as_object);
    let claim = claim.map(|claim| {
        format!("{}/{}", object::text(claim, "namespace"), object::text(claim, "name"))
    });
    vec![
        name_cell(object),
        text(&["spec", "capacity", "storage"]),
        access_modes(object, &["spec", "accessModes"]).into(),
        text(&["spec", "persistentVolumeReclaimPolicy"]),
        phase(object),
        claim.unwrap_or_default().into(),
        text(&["spec", "storageClassName"]),
        attributes_class(object),
        text(&["status", "reason"]),
        age_cell(object, now),
        volume_mode(object),
    ]
}

const CLAIM: &[Column] = &[
    NAME,
    column("Status", "string", 0, "Whether it has a volume.").of(CLAIM_STATUS, "phase"),
    column("Volume", "string", 0, "The volume that it has.").of(CLAIM_SPEC, "volumeName"),
    column("Capacity", "string", 0, "How much its volume holds.").of(CLAIM_STATUS, "capacity"),
    column("Access Modes", "string", 0, "How it can be mounted.").of(CLAIM_STATUS, "accessModes"),
    column("StorageClass", "string", 0, "The class that it asks for."),
    column("VolumeAttributesClass", "string", 0, "The attributes that it asks for."),
    AGE,
    column("VolumeMode", "string", 1, "A file system or a block device.")
        .of(CLAIM_SPEC, "volumeMode"),
];

fn claim(object: &Object, now: i64) -> Cells {
    let text = |path: &[&str]| Value::from(object::text_at(object, path));
    let bound = !object::text_at(object, &["spec", "volumeName"]).is_empty();
    let (capacity, modes) = match bound {
        true => (
            text(&["status", "capacity", "storage"]),
            access_modes(object, &["status", "accessModes"]),
        ),
        false => ("".into(), String::new()),
    };
    vec![
        name_cell(object),
        phase(object),
        text(&["spec", "volumeName"]),
        capacity,
        modes.into(),
        text(&["spec", "storageClassName"]),
        attributes_class(object),
        age_cell(object, now),
        volume_mode(object),
    ]
}

const CLASS: &[Column] = &[
    NAME,
    column("Provisioner", "string", 0, "What makes its volumes.").of(STORAGE_CLASS, "provisioner"),
    column("ReclaimPolicy", "string", 0, "What becomes of volumes when claims are gone.")
        .of(STORAGE_CLASS, "reclaimPolicy"),
    column("VolumeBindingMode", "string", 0, "When claims get their volumes.")
        .of(STORAGE_CLASS, "volumeBindingMode"),
    column("AllowVolumeExpansion", "string", 0, "Whether volumes can grow.")
        .of(STORAGE_CLASS, "allowVolumeExpansion"),
    AGE,
];

fn class(object: &Object, now: i64) -> Cells {
    const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
    let is_default = object::text_at(object, &["metadata", "annotations", DEFAULT]) == "true";
    let name = object::name(object);
    let expands = object.get("allowVolumeExpansion") == Some(&Value::Bool(true));
    vec![
        if is_default { format!("{name} (default)").into() } else { name.into() },
        object::text(object, "provisioner").into(),
        object::text(object, "reclaimPolicy").into(),
        object::text(object, "volumeBindingMode").into(),
        expands.to_string().into(),
        age_cell(object, now),
    ]
}
