//! What is asked before a write: may this object be made, changed, deleted, and what is added to
//! it? Each plugin is a file; this one is their order.

mod certificates;
mod namespace_lifecycle;
mod pods;
mod priority;
mod service_account;

use super::authz::escalation;
use super::object::Object;
use super::registry::context::WriteContext;
use super::registry::{Registry, Target};
use super::status::ApiError;

pub async fn create(
    registry: &Registry,
    target: &Target,
    object: &mut Object,
    context: &WriteContext,
) -> Result<(), ApiError> {
    escalation::check(registry, target, &context.user, object, None)?;
    namespace_lifecycle::create(registry, target, object).await?;
    if target.entry.resource.group == "certificates.k8s.io" {
        certificates::create(object, &context.user);
    }
    if is_pod(target) {
        service_account::create(registry, target, object).await?;
        pods::set_priority(registry, target, object).await?;
        pods::tolerate_for_a_while(object);
    }
    Ok(())
}

pub async fn update(
    registry: &Registry,
    target: &Target,
    new: &mut Object,
    old: &Object,
    context: &WriteContext,
) -> Result<(), ApiError> {
    escalation::check(registry, target, &context.user, new, Some(old))?;
    if is_pod(target) && target.subresource.is_empty() {
        pods::tolerate_for_a_while(new);
    }
    Ok(())
}

pub async fn delete(_registry: &Registry, target: &Target) -> Result<(), ApiError> {
    priority::delete(target)?;
    namespace_lifecycle::delete(target)
}

fn is_pod(target: &Target) -> bool {
    target.entry.resource.group.is_empty() && target.entry.resource.plural == "pods"
}
