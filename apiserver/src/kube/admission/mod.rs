//! What is asked before a write: may this object be made, changed, deleted, and what is added to
//! it? Each plugin is a file; this one is their order.

mod certificates;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod pods;
mod priority;
mod quota;
mod service_account;

use super::authn::User;
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
    node_restriction::write(target, &context.user, object, None)?;
    if target.entry.resource.group == "certificates.k8s.io" {
        certificates::create(object, &context.user);
    }
    if is_claim(target) {
        limit_ranger::create_claim(registry, target, object).await?;
    }
    if is_pod(target) {
        limit_ranger::create_pod(registry, target, object).await?;
        service_account::create(registry, target, object).await?;
        pods::set_priority(registry, target, object).await?;
        pods::tolerate_for_a_while(object);
    }
    quota::charge(registry, target, object, None, context).await
}

pub async fn update(
    registry: &Registry,
    target: &Target,
    new: &mut Object,
    old: &Object,
    context: &WriteContext,
) -> Result<(), ApiError> {
    escalation::check(registry, target, &context.user, new, Some(old))?;
    node_restriction::write(target, &context.user, new, Some(old))?;
    if is_pod(target) && target.subresource.is_empty() {
        pods::tolerate_for_a_while(new);
    }
    // Nothing else can come to use more than when it was made.
    match is_pod(target) || is_claim(target) || is_service(target) {
        true => quota::charge(registry, target, new, Some(old), context).await,
        false => Ok(()),
    }
}

pub async fn delete(registry: &Registry, target: &Target, user: &User) -> Result<(), ApiError> {
    node_restriction::delete(registry, target, user, false).await?;
    priority::delete(target)?;
    namespace_lifecycle::delete(target)
}

/// An eviction deletes a pod.
pub async fn evict(registry: &Registry, target: &Target, user: &User) -> Result<(), ApiError> {
    node_restriction::delete(registry, target, user, true).await
}

fn is_service(target: &Target) -> bool {
    target.entry.resource.group.is_empty() && target.entry.resource.plural == "services"
}

fn is_claim(target: &Target) -> bool {
    let row = &target.entry.resource;
    row.group.is_empty() && row.plural == "persistentvolumeclaims"
}

fn is_pod(target: &Target) -> bool {
    target.entry.resource.group.is_empty() && target.entry.resource.plural == "pods"
}
