//! Reviews: may somebody do something, what may I do, and who am I. Nothing of them is stored.

use serde_json::{Value, json};

use super::rule::Rule;
use super::{Attributes, decide};
use crate::kube::authn::User;
use crate::kube::object::{self, Object};
use crate::kube::registry::context::WriteContext;
use crate::kube::registry::{Registry, Target, managed};
use crate::kube::status::{ApiError, FieldError, Named};

/// Answers a review of the target's kind; its spec says what is asked.
pub fn review(
    registry: &Registry,
    target: &Target,
    user: &User,
    mut review: Object,
    context: &WriteContext,
) -> Result<Object, ApiError> {
    let kind = target.entry.resource.kind.as_str();
    match kind {
        "SelfSubjectReview" => {
            let time = context.now.seconds();
            object::metadata_mut(&mut review).insert("creationTimestamp".to_owned(), time.into());
            review.insert("status".to_owned(), json!({"userInfo": user_info(user)}));
            return Ok(review);
        }
        "SelfSubjectRulesReview" => {
            let status = rules_status(registry, user, &review)?;
            review.insert("spec".to_owned(), json!({}));
            review.insert("status".to_owned(), status);
            return Ok(review);
        }
        _ => {}
    }
    check(kind, target, &review)?;
    let asked_of = match kind {
        "SelfSubjectAccessReview" => user.clone(),
        _ => user_of(&review),
    };
    let spec = object::map(&review, "spec").cloned().unwrap_or_default();
    let status = match decide(&registry.policy, &asked_of, &attributes(&spec)) {
        Ok(reason) if reason.is_empty() => json!({"allowed": true}),
        Ok(reason) => json!({"allowed": true, "reason": reason}),
        Err(missing) if missing.is_empty() => json!({"allowed": false}),
        Err(missing) => json!({"allowed": false, "reason": super::missing_text(&missing)}),
    };
    review.remove("status");
    managed::track_update(target.entry.schema(), target, None, &mut review, context);
    review.insert("status".to_owned(), status);
    Ok(review)
}

/// A user as objects tell one.
pub fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn user_of(review: &Object) -> User {
    let groups = object::list_at(review, &["spec", "groups"]).iter();
    User {
        name: object::text_at(review, &["spec", "user"]).to_owned(),
        groups: groups.filter_map(Value::as_str).map(str::to_owned).collect(),
        ..User::default()
    }
}

fn attributes(spec: &Object) -> Attributes<'_> {
    if let Some(asked) = object::map(spec, "nonResourceAttributes") {
        let (verb, path) = (object::text(asked, "verb"), object::text(asked, "path"));
        return Attributes { verb, path, ..Attributes::default() };
    }
    let text = |name: &str| object::text_at(spec, &["resourceAttributes", name]);
    Attributes {
        verb: text("verb"),
        group: text("group"),
        resource: text("resource"),
        subresource: text("subresource"),
        name: text("name"),
        namespace: text("namespace"),
        path: "",
    }
}

fn check(kind: &str, target: &Target, review: &Object) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    let set = |name: &str| object::at(review, &["spec", name]).filter(|value| value.is_object());
    match (set("resourceAttributes"), set("nonResourceAttributes")) {
        (Some(_), Some(other)) => {
            let text = |name: &str| other.get(name).cloned().unwrap_or_else(|| "".into());
            let shown = format!("{{\"Path\":{},\"Verb\":{}}}", text("path"), text("verb"));
            let why = "cannot be specified in combination with resourceAttributes";
            errors.push(FieldError::invalid_raw("spec.nonResourceAttributes", &shown, why));
        }
        (None, None) => {
            let why =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid("spec.resourceAttributes", Value::Null, why));
        }
        _ => {}
    }
    let is_nobody = object::text_at(review, &["spec", "user"]).is_empty()
        && object::list_at(review, &["spec", "groups"]).is_empty();
    if kind != "SelfSubjectAccessReview" && is_nobody {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid("spec.user", "", why));
    }
    if kind == "LocalSubjectAccessReview" {
        let namespace = object::text_at(review, &["spec", "resourceAttributes", "namespace"]);
        if namespace != target.namespace {
            let field = "spec.resourceAttributes.namespace";
            errors.push(FieldError::invalid(field, namespace, "must match metadata.namespace"));
        }
        if set("nonResourceAttributes").is_some() {
            let why = "disallowed on this kind of request";
            errors.push(FieldError::invalid("spec.nonResourceAttributes", Value::Null, why));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let group = &target.entry.resource.group;
    Err(ApiError::invalid(Named { group, kind: "" }, "", &errors))
}

fn rules_status(registry: &Registry, user: &User, review: &Object) -> Result<Value, ApiError> {
    let namespace = object::text_at(review, &["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let rules = registry.policy.rules_of(user, namespace);
    let (paths, resources): (Vec<Rule>, Vec<Rule>) =
        rules.into_iter().partition(|rule| !rule.urls.is_empty());
    let values = |rules: Vec<Rule>| rules.iter().map(Rule::to_value).collect::<Vec<Value>>();
    Ok(json!({
        "resourceRules": values(resources), "nonResourceRules": values(paths), "incomplete": false,
    }))
}
