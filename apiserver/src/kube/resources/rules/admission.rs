//! Rules of webhooks and admission policies, but for the expressions that these hold.

use super::place::{Errors, Place};
use super::{common, selectors};
use crate::kube::object::{self, Object};
use crate::kube::registry::names;

const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const URL_FORM: &str = "; desired format: https://host[/path]";
const MOST_CONDITIONS: usize = 64;
const MOST_ANNOTATIONS: usize = 20;
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

/// A configuration of webhooks of either kind.
pub fn webhooks(configuration: &Object) -> Errors {
    let mut errors = Errors::new();
    let mut seen: Vec<&str> = Vec::new();
    for hook in Place::of(configuration, "webhooks").items() {
        webhook(&hook, &mut errors);
        review_versions(&hook.child("admissionReviewVersions"), &mut errors);
        let name = hook.child("name");
        if !name.is_empty() && seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
    }
    errors
}

fn webhook(hook: &Place<'_>, errors: &mut Errors) {
    common::qualified_domain(&hook.child("name"), errors);
    for rule in hook.child("rules").items() {
        operations_and_rule(&rule, errors);
    }
    common::one_of_if_set(&hook.child("failurePolicy"), &FAILURE_POLICIES, errors);
    common::one_of_if_set(&hook.child("matchPolicy"), &MATCH_POLICIES, errors);
    let effects = hook.child("sideEffects");
    match effects.is_set() {
        true => common::listed(&effects, &SIDE_EFFECTS, errors),
        false => errors.push(effects.required("must specify one of None, NoneOnDryRun")),
    }
    let timeout = hook.child("timeoutSeconds");
    if timeout.number().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    selectors::label_selector(&hook.child("namespaceSelector"), errors);
    selectors::label_selector(&hook.child("objectSelector"), errors);
    common::one_of_if_set(&hook.child("reinvocationPolicy"), &REINVOCATION_POLICIES, errors);
    let client = hook.child("clientConfig");
    let (url, service) = (client.child("url"), client.child("service"));
    if url.is_set() == service.is_set() {
        errors.push(client.required("exactly one of url or service is required"));
    } else if url.is_set() {
        webhook_url(&url, errors);
    } else {
        webhook_service(&service, errors);
    }
    conditions(&hook.child("matchConditions"), errors);
}

/// The parts of a URL that matter here.
fn webhook_url(place: &Place<'_>, errors: &mut Errors) {
    let (text, fragment) = place.text().split_once('#').unwrap_or((place.text(), ""));
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or("") };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{URL_FORM}");
        errors.push(place.invalid_as(scheme, why));
    }
    if host.is_empty() {
        errors.push(place.invalid_as("", format!("host must be specified{URL_FORM}")));
    }
    for (part, why) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            errors.push(place.invalid_as(part, why));
        }
    }
}

/// The port of a service behind a webhook.
pub fn webhook_port(service: &Place<'_>, errors: &mut Errors) {
    let port = service.child("port");
    if !(1..=65_535).contains(&port.number_or_zero()) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(port.invalid_number(why));
    }
}

/// The service behind a webhook.
fn webhook_service(service: &Place<'_>, errors: &mut Errors) {
    common::required(&service.child("name"), errors);
    common::required(&service.child("namespace"), errors);
    webhook_port(service, errors);
    let path = service.child("path");
    let text = path.text();
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        errors.push(path.invalid("segment[0] may not be empty"));
        return;
    }
    let Some(rest) = text.strip_prefix('/') else {
        errors.push(path.invalid("must start with a '/'"));
        return;
    };
    for (index, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.push(path.invalid(format!("segment[{index}] may not be empty")));
            continue;
        }
        for why in names::dns_subdomain(step) {
            errors.push(path.invalid(format!("segment[{index}]: {why}")));
        }
    }
}

fn review_versions(place: &Place<'_>, errors: &mut Errors) {
    let versions = place.texts();
    if versions.is_empty() {
        errors.push(place.required("must specify one of v1, v1beta1"));
        return;
    }
    for (index, version) in place.items().iter().enumerate() {
        if versions[..index].contains(&version.text()) {
            errors.push(version.invalid("duplicate version"));
            continue;
        }
        common::named(version, names::dns_1035_label, errors);
    }
    if !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        errors.push(place.invalid("must include at least one of v1, v1beta1"));
    }
}

/// A list in which `*` stands alone.
fn alone(place: &Place<'_>, what: &str, errors: &mut Errors) {
    common::required(place, errors);
    let texts = place.texts();
    if texts.len() > 1 && texts.contains(&"*") {
        errors.push(place.invalid(format!("if '*' is present, must not specify other {what}")));
    }
}

fn operations_and_rule(rule: &Place<'_>, errors: &mut Errors) {
    let operations = rule.child("operations");
    alone(&operations, "operations", errors);
    for operation in operations.items() {
        common::listed(&operation, &OPERATIONS, errors);
    }
    alone(&rule.child("apiGroups"), "API groups", errors);
    let versions = rule.child("apiVersions");
    alone(&versions, "API versions", errors);
    for version in versions.items() {
        common::required(&version, errors);
    }
    resources(&rule.child("resources"), errors);
    common::one_of_if_set(&rule.child("scope"), &SCOPES, errors);
}

fn resources(place: &Place<'_>, errors: &mut Errors) {
    common::required(place, errors);
    let texts = place.texts();
    let (mut whole, mut parts): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for item in place.items() {
        let text = item.text();
        common::required(&item, errors);
        let Some((resource, part)) = text.split_once('/') else { continue };
        for (known, word, form) in
            [(&whole, resource, format!("{resource}/*")), (&parts, part, format!("*/{part}"))]
        {
            if known.contains(&word) {
                let why = format!("if '{form}' is present, must not specify {text}");
                errors.push(item.invalid(why));
            }
        }
        if part == "*" {
            whole.push(resource);
        }
        if resource == "*" {
            parts.push(part);
        }
    }
    if texts.len() > 1 && texts.contains(&"*/*") {
        errors.push(place.invalid("if '*/*' is present, must not specify other resources"));
    }
    let plain = |text: &&str| !text.is_empty() && !text.contains('/') && *text != "*";
    if texts.contains(&"*") && texts.iter().any(plain) {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(place.invalid(why));
    }
}

fn conditions(place: &Place<'_>, errors: &mut Errors) {
    if place.len() > MOST_CONDITIONS {
        errors.push(place.too_many(MOST_CONDITIONS));
    }
    let mut seen: Vec<&str> = Vec::new();
    for condition in place.items() {
        let (name, expression) = (condition.child("name"), condition.child("expression"));
        if expression.text().trim().is_empty() {
            errors.push(expression.required(""));
        }
        common::required_name(&name, names::qualified_name, errors);
        if !name.is_empty() && seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
    }
}

fn parameter_kind(place: &Place<'_>, errors: &mut Errors) {
    let (version, kind) = (place.child("apiVersion"), place.child("kind"));
    if version.is_empty() {
        errors.push(version.required(""));
    } else {
        let (group, number) = version.text().rsplit_once('/').unwrap_or(("", version.text()));
        let why = names::dns_subdomain(group);
        if !group.is_empty() && !why.is_empty() {
            errors.push(version.invalid_as(group, why.join(",")));
        }
        let why = names::dns_1035_label(number);
        if number.is_empty() {
            errors.push(version.invalid("version must be specified"));
        } else if !why.is_empty() {
            errors.push(version.invalid_as(number, why.join(",")));
        }
    }
    let why = names::dns_1035_label(&kind.text().to_lowercase());
    if kind.is_empty() {
        errors.push(kind.required(""));
    } else if !why.is_empty() {
        let intro = "may have mixed case, but should otherwise match: ";
        errors.push(kind.invalid(format!("{intro}{}", why.join(","))));
    }
}

fn match_resources(place: &Place<'_>, errors: &mut Errors) {
    let policy = place.child("matchPolicy");
    common::required_value(&policy, errors);
    common::one_of_if_set(&policy, &MATCH_POLICIES, errors);
    for field in ["namespaceSelector", "objectSelector"] {
        common::required_value(&place.child(field), errors);
        selectors::label_selector(&place.child(field), errors);
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in place.child(list).items() {
            let mut seen: Vec<&str> = Vec::new();
            for name in rule.child("resourceNames").items() {
                common::named(&name, names::path_segment, errors);
                if seen.contains(&name.text()) {
                    errors.push(name.duplicate());
                }
                seen.push(name.text());
            }
            operations_and_rule(&rule, errors);
        }
    }
}

/// What policies of both kinds have in common.
fn policy_basics(spec: &Place<'_>, errors: &mut Errors) {
    let failure = spec.child("failurePolicy");
    common::required_value(&failure, errors);
    common::one_of_if_set(&failure, &FAILURE_POLICIES, errors);
    if spec.child("paramKind").is_set() {
        parameter_kind(&spec.child("paramKind"), errors);
    }
    let constraints = spec.child("matchConstraints");
    if !constraints.is_set() {
        errors.push(constraints.required(""));
        return;
    }
    match_resources(&constraints, errors);
    common::required(&constraints.child("resourceRules"), errors);
}

/// A policy that says yes or no.
pub fn validating_policy(policy: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(policy, "spec");
    policy_basics(&spec, &mut errors);
    conditions(&spec.child("matchConditions"), &mut errors);
    let (validations, annotations) = (spec.child("validations"), spec.child("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.push(validations.required(why));
        errors.push(annotations.required(why));
        return errors;
    }
    for validation in validations.items() {
        let (expression, message) = (validation.child("expression"), validation.child("message"));
        if expression.text().trim().is_empty() {
            errors.push(expression.required("expression is not specified"));
        }
        if !message.is_empty() && message.text().trim().is_empty() {
            let why = "message must be non-empty if specified";
            errors.push(message.invalid(why));
        } else if message.text().trim().contains('\n') {
            errors.push(message.invalid("message must not contain line breaks"));
        }
        let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
        common::one_of_if_set(&validation.child("reason"), &reasons, &mut errors);
    }
    audit_annotations(policy, &annotations, &mut errors);
    errors
}

fn audit_annotations(policy: &Object, place: &Place<'_>, errors: &mut Errors) {
    if place.len() > MOST_ANNOTATIONS {
        let why = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        errors.push(place.invalid(why));
    }
    let mut seen: Vec<&str> = Vec::new();
    for annotation in place.items() {
        let (key, value) = (annotation.child("key"), annotation.child("valueExpression"));
        if key.is_empty() {
            errors.push(key.required(""));
        } else {
            let full = format!("{}/{}", object::name(policy), key.text());
            let why = names::qualified_name(&full);
            errors.extend(why.into_iter().map(|why| key.invalid_as(full.as_str(), why)));
        }
        if value.text().trim().is_empty() {
            errors.push(value.required("valueExpression is not specified"));
        }
        if seen.contains(&key.text()) {
            errors.push(key.duplicate_of(key.text()));
        }
        seen.push(key.text());
    }
}

/// A policy that changes objects.
pub fn mutating_policy(policy: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(policy, "spec");
    policy_basics(&spec, &mut errors);
    let rules = spec.below(&["matchConstraints", "resourceRules"]);
    for operation in rules.items().iter().flat_map(|rule| rule.child("operations").items()) {
        let place = operation.called(format!("{}.operations", rules.path()));
        common::listed(&place, &MUTATING_OPERATIONS, &mut errors);
    }
    conditions(&spec.child("matchConditions"), &mut errors);
    let mutations = spec.child("mutations");
    if mutations.is_empty() {
        errors.push(mutations.required("mutations must contain at least one item"));
    }
    for mutation in mutations.items() {
        let kinds = ["ApplyConfiguration", "JSONPatch"];
        common::one_of(&mutation.child("patchType"), &kinds, &mut errors);
    }
    let again = spec.child("reinvocationPolicy");
    common::one_of(&again, &REINVOCATION_POLICIES, &mut errors);
    errors
}

fn binding_basics(spec: &Place<'_>, errors: &mut Errors) {
    common::required_name(&spec.child("policyName"), names::dns_subdomain, errors);
    let parameters = spec.child("paramRef");
    if parameters.is_set() {
        parameter_reference(&parameters, errors);
    }
    if spec.child("matchResources").is_set() {
        match_resources(&spec.child("matchResources"), errors);
    }
}

fn parameter_reference(place: &Place<'_>, errors: &mut Errors) {
    let (name, selector) = (place.child("name"), place.child("selector"));
    let both = "name and selector are mutually exclusive";
    common::named_if_set(&name, names::path_segment, errors);
    if !name.is_empty() && selector.is_set() {
        errors.push(name.forbidden(both));
    }
    selectors::label_selector(&selector, errors);
    if !name.is_empty() && selector.is_set() {
        errors.push(selector.forbidden(both));
    }
    if name.is_empty() && !selector.is_set() {
        errors.push(place.required("one of name or selector must be specified"));
    }
    common::one_of(&place.child("parameterNotFoundAction"), &["Deny", "Allow"], errors);
}

/// Where a validating policy counts, and what it leads to.
pub fn validating_binding(binding: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(binding, "spec");
    binding_basics(&spec, &mut errors);
    let actions = spec.child("validationActions");
    if actions.is_empty() {
        errors.push(actions.required("at least one validation action is required"));
    }
    let texts = actions.texts();
    for (index, action) in actions.items().iter().enumerate() {
        common::listed(action, &ACTIONS, &mut errors);
        if texts[..index].contains(&action.text()) {
            errors.push(action.duplicate());
        }
    }
    if texts.contains(&"Deny") && texts.contains(&"Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(actions.invalid(why));
    }
    errors
}

/// Where a mutating policy counts.
pub fn mutating_binding(binding: &Object) -> Errors {
    let mut errors = Errors::new();
    binding_basics(&Place::of(binding, "spec"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    fn fields(rule: fn(&Object) -> Errors, object: Value) -> Vec<String> {
        rule(&into_object(object)).into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn webhooks_are_checked() {
        for (more, expected) in [
            (json!({}), &[][..]),
            (json!({"name": "short"}), &["webhooks[0].name"]),
            (json!({"sideEffects": "Some"}), &["webhooks[0].sideEffects"]),
            (json!({"timeoutSeconds": 31}), &["webhooks[0].timeoutSeconds"]),
            (json!({"clientConfig": {}}), &["webhooks[0].clientConfig"]),
            (
                json!({"clientConfig": {"url": "http://x/y?z"}}),
                &["webhooks[0].clientConfig.url", "webhooks[0].clientConfig.url"],
            ),
            (
                json!({"clientConfig": {"service": {"name": "s", "namespace": "n", "port": 1, "path": "/a//b"}}}),
                &["webhooks[0].clientConfig.service.path"],
            ),
            (
                json!({"rules": [{"operations": ["*", "CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["a/*", "a/b"]}]}),
                &["webhooks[0].rules[0].operations", "webhooks[0].rules[0].resources[1]"],
            ),
        ] {
            let mut hook = into_object(json!({
                "name": "a.example.com", "sideEffects": "None",
                "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://x/y"},
            }));
            hook.extend(into_object(more.clone()));
            assert_eq!(fields(webhooks, json!({"webhooks": [hook]})), expected, "{more}");
        }
    }

    #[test]
    fn policies_are_checked() {
        let spec = json!({"spec": {"failurePolicy": "Fail"}});
        assert_eq!(
            fields(validating_policy, spec.clone()),
            ["spec.matchConstraints", "spec.validations", "spec.auditAnnotations"]
        );
        assert_eq!(
            fields(mutating_policy, spec),
            ["spec.matchConstraints", "spec.mutations", "spec.reinvocationPolicy"]
        );
        let binding = json!({"spec": {"policyName": "p", "paramRef": {}}});
        assert_eq!(
            fields(validating_binding, binding.clone()),
            ["spec.paramRef", "spec.paramRef.parameterNotFoundAction", "spec.validationActions"]
        );
        assert_eq!(fields(mutating_binding, binding).len(), 2);
    }
}
