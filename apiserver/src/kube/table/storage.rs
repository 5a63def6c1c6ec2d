//! Cells of volumes, claims and classes of storage.

use serde_json::Value;

use crate::kube::object::{self, Object};

/// The access modes, in the order in which they are told, and how people write them.
const ACCESS_MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

/// `accessModes` below a path.
pub(super) fn access_modes(object: &Object, path: &[&str]) -> Value {
    let modes = object::at(object, path).and_then(|owner| owner.get("accessModes"));
    let has = |mode: &str| {
        modes.and_then(Value::as_array).is_some_and(|modes| modes.iter().any(|one| one == mode))
    };
    let short = ACCESS_MODES.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short);
    short.collect::<Vec<_>>().join(",").into()
}

pub(super) fn phase(object: &Object, _now: i64) -> Value {
    match object::is_being_deleted(object) {
        true => "Terminating".into(),
        false => object::text_at(object, &["status", "phase"]).into(),
    }
}

pub(super) fn volume_claim(object: &Object, _now: i64) -> Value {
    let claim = object::at(object, &["spec", "claimRef"]).and_then(Value::as_object);
    let told = claim.map(|claim| {
        format!("{}/{}", object::text(claim, "namespace"), object::text(claim, "name"))
    });
    told.unwrap_or_default().into()
}

/// The class of a volume or claim. An annotation was its place once, and comes first.
pub(super) fn class_of(object: &Object, _now: i64) -> Value {
    const ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
    let annotated = object::at(object, &["metadata", "annotations", ANNOTATION]);
    match annotated.and_then(Value::as_str) {
        Some(class) => class.into(),
        None => object::text_at(object, &["spec", "storageClassName"]).into(),
    }
}

fn is_bound(claim: &Object) -> bool {
    !object::text_at(claim, &["spec", "volumeName"]).is_empty()
}

/// What the claim's volume holds, once it has one.
pub(super) fn claim_capacity(object: &Object, _now: i64) -> Value {
    match object::text_at(object, &["status", "capacity", "storage"]) {
        _ if !is_bound(object) => "".into(),
        "" => "0".into(),
        capacity => capacity.into(),
    }
}

pub(super) fn claim_access_modes(object: &Object, _now: i64) -> Value {
    if is_bound(object) { access_modes(object, &["status"]) } else { "".into() }
}

/// The name of a class, and whether it is the default one.
pub(super) fn class_name(object: &Object, annotation: &str) -> Value {
    let is_marked = |annotation: &str| {
        object::text_at(object, &["metadata", "annotations", annotation]) == "true"
    };
    let older = annotation.replace(".kubernetes", ".beta.kubernetes");
    let name = object::name(object);
    match is_marked(annotation) || is_marked(&older) {
        true => format!("{name} (default)").into(),
        false => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn claims_show_what_they_have() {
        let mut claim = into_object(json!({
            "spec": {"volumeName": "pv", "storageClassName": "fast"},
            "status": {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadOnlyMany", "ReadWriteOnce"]},
        }));
        assert_eq!(claim_capacity(&claim, 0), "2Gi");
        assert_eq!(claim_access_modes(&claim, 0), "RWO,ROX");
        assert_eq!(class_of(&claim, 0), "fast");
        claim.insert("spec".to_owned(), json!({}));
        assert_eq!(claim_capacity(&claim, 0), "");
        assert_eq!(claim_access_modes(&claim, 0), "");
    }

    #[test]
    fn default_classes_say_so() {
        const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
        for annotation in [DEFAULT, "storageclass.beta.kubernetes.io/is-default-class"] {
            let class = json!({"metadata": {"name": "c", "annotations": {annotation: "true"}}});
            assert_eq!(class_name(&into_object(class), DEFAULT), "c (default)");
        }
        let class = into_object(json!({"metadata": {"name": "c"}}));
        assert_eq!(class_name(&class, DEFAULT), "c");
    }
}
