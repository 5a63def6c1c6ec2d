//! The priorities of the system's own pods stay.

use crate::kube::registry::Target;
use crate::kube::status::ApiError;

const OF_THE_SYSTEM: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

pub(super) fn delete(target: &Target) -> Result<(), ApiError> {
    let row = &target.entry.resource;
    let is_class = row.group == "scheduling.k8s.io" && row.plural == "priorityclasses";
    if is_class && OF_THE_SYSTEM.contains(&target.name.as_str()) {
        let why = "this is a system priority class and cannot be deleted";
        return Err(ApiError::forbidden(target.resource(), &target.name, why));
    }
    Ok(())
}
