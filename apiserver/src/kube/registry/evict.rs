//! Eviction: the deletion of a pod that asks the disruption budgets first.

use serde_json::{Value, json};

use super::context::{Now, WriteContext};
use super::delete::Deleted;
use super::{Registry, Target, storage_error};
use crate::kube::limits::{DISRUPTED_PODS, UPDATE_TRIES};
use crate::kube::object::{self, Object};
use crate::kube::request::options::DeleteOptions;
use crate::kube::resources::selector_matches;
use crate::kube::status::ApiError;
use crate::kube::storage::{Stored, value};

const VIOLATED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const PROCESSING_RETRY_SECONDS: u32 = 10;

impl Registry {
    /// Deletes a pod if its disruption budget, if any, has room for that.
    pub async fn evict(
        &self,
        pod: &Target,
        eviction: &Object,
        mut options: DeleteOptions,
        context: &WriteContext,
    ) -> Result<Deleted, ApiError> {
        if object::name(eviction) != pod.name {
            let why = "name in URL does not match name in Eviction object";
            return Err(ApiError::bad_request(why));
        }
        options.dry_run |= context.options.dry_run;
        let (found, _) = self.load(pod).await?;
        if !is_free_to_go(&found) {
            self.disrupt(pod, &found, options.dry_run, context.now).await?;
        }
        self.delete(pod, &options, context.now).await
    }

    /// Takes one disruption from the pod's budget.
    async fn disrupt(
        &self,
        pod: &Target,
        found: &Object,
        dry_run: bool,
        now: Now,
    ) -> Result<(), ApiError> {
        let Some(entry) = self.catalog.entry("policy", "v1", "poddisruptionbudgets") else {
            return Ok(());
        };
        for _ in 0..UPDATE_TRIES {
            let mut budgets = self.budgets_of(pod, found).await?;
            let Some((budget, stored)) = budgets.pop() else { return Ok(()) };
            if !budgets.is_empty() {
                let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(ApiError::internal(why));
            }
            if may_go_unhealthy(found, &budget) {
                return Ok(());
            }
            let target = Target {
                entry: entry.clone(),
                name: object::name(&budget).to_owned(),
                namespace: pod.namespace.clone(),
                subresource: String::new(),
            };
            let new = disrupted(&target, &pod.name, &budget, now)?;
            if dry_run {
                return Ok(());
            }
            let bytes = value::encode(&entry.to_stored(new));
            if self.write_over(&target, &stored, Some(bytes)).await?.is_some() {
                return Ok(());
            }
        }
        Err(ApiError::too_many_requests(VIOLATED, 0))
    }

    /// The budgets whose selectors select the pod.
    async fn budgets_of(
        &self,
        pod: &Target,
        found: &Object,
    ) -> Result<Vec<(Object, Stored)>, ApiError> {
        let Some(entry) = self.catalog.entry("policy", "v1", "poddisruptionbudgets") else {
            return Ok(Vec::new());
        };
        let directory = entry.directory(&pod.namespace);
        let directory = directory.as_bytes();
        let page = self.storage.range(directory, directory, 0, 0).await.map_err(storage_error)?;
        let nothing = Object::new();
        let labels = object::labels(found).unwrap_or(&nothing);
        let mut budgets = Vec::new();
        for stored in page.items {
            let budget = self.decode(entry, &stored)?;
            let selector = object::at(&budget, &["spec", "selector"]).and_then(Value::as_object);
            if selector.is_some_and(|selector| selector_matches(selector, labels)) {
                budgets.push((budget, stored));
            }
        }
        Ok(budgets)
    }
}

/// A pod that does not run, or is on its way already, disrupts nothing.
fn is_free_to_go(pod: &Object) -> bool {
    let phase = object::text_at(pod, &["status", "phase"]);
    object::is_being_deleted(pod) || matches!(phase, "Succeeded" | "Failed" | "Pending")
}

/// A pod that is not ready may go when the policy says so, or when the healthy ones suffice.
fn may_go_unhealthy(pod: &Object, budget: &Object) -> bool {
    let conditions = object::list_at(pod, &["status", "conditions"]);
    let ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
    let number = |name: &str| object::integer_at(budget, &["status", name]);
    let enough =
        number("desiredHealthy") > 0 && number("currentHealthy") >= number("desiredHealthy");
    match object::text_at(budget, &["spec", "unhealthyPodEvictionPolicy"]) {
        _ if ready => false,
        "AlwaysAllow" => true,
        _ => enough,
    }
}

fn refused(message: String, retry_seconds: u32) -> ApiError {
    let error = ApiError::too_many_requests(VIOLATED, retry_seconds);
    let mut details = error.status().details.clone().unwrap_or_default();
    if retry_seconds == 0 {
        details.remove("retryAfterSeconds");
    }
    let cause = json!([{"reason": "DisruptionBudget", "message": message}]);
    details.insert("causes".to_owned(), cause);
    error.with_details(details)
}

/// The budget after one more disruption.
fn disrupted(target: &Target, pod: &str, budget: &Object, now: Now) -> Result<Object, ApiError> {
    let name = object::name(budget);
    let number = |path: &[&str]| object::integer_at(budget, path);
    if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(why, PROCESSING_RETRY_SECONDS));
    }
    let allowed = number(&["status", "disruptionsAllowed"]);
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return Err(ApiError::forbidden(target.resource(), name, why));
    }
    let under_way = object::at(budget, &["status", "disruptedPods"]).and_then(Value::as_object);
    if under_way.is_some_and(|pods| pods.len() > DISRUPTED_PODS) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(ApiError::forbidden(target.resource(), name, why));
    }
    if allowed == 0 {
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number(&["status", "desiredHealthy"]),
            number(&["status", "currentHealthy"]),
        );
        return Err(refused(why, 0));
    }
    let mut new = budget.clone();
    let status = object::map_mut(&mut new, "status");
    status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
    object::map_mut(status, "disruptedPods").insert(pod.to_owned(), now.seconds().into());
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn pods_that_do_not_run_may_go() {
        for (status, expected) in [
            (json!({"phase": "Running"}), false),
            (json!({"phase": "Pending"}), true),
            (json!({"phase": "Failed"}), true),
        ] {
            assert_eq!(is_free_to_go(&into_object(json!({"status": status}))), expected);
        }
    }

    #[test]
    fn pods_that_are_not_ready_follow_the_policy() {
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let counts = json!({"desiredHealthy": 2, "currentHealthy": 2});
        for (pod, budget, expected) in [
            (ready, json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}), false),
            (json!({}), json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}), true),
            (json!({}), json!({"status": counts}), true),
            (json!({}), json!({"status": {"desiredHealthy": 2, "currentHealthy": 1}}), false),
        ] {
            assert_eq!(may_go_unhealthy(&into_object(pod), &into_object(budget)), expected);
        }
    }
}
