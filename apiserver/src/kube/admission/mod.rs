//! What is asked before a write: may this object be made, changed, deleted?
//! Each plugin is a file; this one is their order.

mod namespace_lifecycle;

use super::object::Object;
use super::registry::{Registry, Target};
use super::status::ApiError;

pub async fn create(
    registry: &Registry,
    target: &Target,
    object: &mut Object,
) -> Result<(), ApiError> {
    namespace_lifecycle::create(registry, target, object).await
}

pub async fn update(
    _registry: &Registry,
    _target: &Target,
    _new: &mut Object,
    _old: &Object,
) -> Result<(), ApiError> {
    Ok(())
}

pub async fn delete(_registry: &Registry, target: &Target) -> Result<(), ApiError> {
    namespace_lifecycle::delete(target)
}
