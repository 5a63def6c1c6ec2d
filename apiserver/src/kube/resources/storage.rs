//! Volumes, claims, storage classes and what belongs to them.

use serde_json::{Value, json};

use super::Strategy;
use crate::kube::object::{self, Object};

/// Resources of the core group.
pub(super) fn core_strategy(plural: &str) -> Strategy {
    let usual = Strategy { returns_deleted: true, ..Strategy::default() };
    match plural {
        "persistentvolumes" => Strategy {
            defaults: default_volume,
            prepare_create: |volume| {
                protect(volume, "kubernetes.io/pv-protection");
                let now = object::meta_text(volume, "creationTimestamp").to_owned();
                let status = json!({"phase": "Pending", "lastPhaseTransitionTime": now});
                volume.insert("status".to_owned(), status);
            },
            ..usual
        },
        _ => Strategy {
            defaults: |claim| {
                object::default_text(object::map_mut(claim, "spec"), "volumeMode", "Filesystem");
            },
            prepare_create: |claim| {
                protect(claim, "kubernetes.io/pvc-protection");
                drop_unknown_source(object::map_mut(claim, "spec"));
                claim.insert("status".to_owned(), json!({"phase": "Pending"}));
            },
            ..usual
        },
    }
}

/// Resources of `storage.k8s.io`.
pub(super) fn strategy(plural: &str) -> Strategy {
    let usual = Strategy::default();
    match plural {
        "csinodes" | "volumeattachments" => {
            Strategy { unconditional_update: false, returns_deleted: true, ..usual }
        }
        "csistoragecapacities" => Strategy { unconditional_update: false, ..usual },
        "storageclasses" => Strategy {
            defaults: |class| {
                object::default_text(class, "reclaimPolicy", "Delete");
                object::default_text(class, "volumeBindingMode", "Immediate");
            },
            returns_deleted: true,
            ..usual
        },
        "csidrivers" => Strategy { defaults: default_driver, ..usual },
        "volumeattributesclasses" => Strategy {
            prepare_create: |class| protect(class, "kubernetes.io/vac-protection"),
            returns_deleted: true,
            ..usual
        },
        _ => usual,
    }
}

/// `dataSource` names a claim or a snapshot; anything else is for `dataSourceRef` alone.
fn drop_unknown_source(spec: &mut Object) {
    let Some(source) = object::map(spec, "dataSource") else { return };
    let known = [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
    let own = (object::text(source, "apiGroup"), object::text(source, "kind"));
    if !known.contains(&own) && !spec.contains_key("dataSourceRef") {
        spec.remove("dataSource");
    }
}

/// StorageObjectInUseProtection: what is in use does not vanish.
fn protect(object: &mut Object, finalizer: &str) {
    let mut finalizers = object::finalizers(object);
    if !finalizers.iter().any(|own| own == finalizer) {
        finalizers.push(finalizer.to_owned());
        object::metadata_mut(object).insert("finalizers".to_owned(), json!(finalizers));
    }
}

fn default_volume(volume: &mut Object) {
    let spec = object::map_mut(volume, "spec");
    object::default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    object::default_text(spec, "volumeMode", "Filesystem");
    if let Some(Value::Object(host_path)) = spec.get_mut("hostPath") {
        object::default(host_path, "type", "");
    }
}

fn default_driver(driver: &mut Object) {
    let spec = object::map_mut(driver, "spec");
    object::default(spec, "attachRequired", true);
    object::default_text(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    for field in ["podInfoOnMount", "requiresRepublish", "seLinuxMount", "storageCapacity"] {
        object::default(spec, field, false);
    }
    if object::list(spec, "volumeLifecycleModes").is_empty() {
        spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
    }
}
