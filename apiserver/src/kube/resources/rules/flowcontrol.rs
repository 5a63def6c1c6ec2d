//! Rules of flow schemas and priority levels.

use super::common;
use super::place::{Errors, Place};
use crate::kube::object::{self, Object};
use crate::kube::registry::names;
use crate::kube::status::{FieldError, quoted};

const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const MOST_PRECEDENCE: i64 = 10_000;
const MOST_QUEUES: i64 = 10_000_000;
/// Bits that the choice of queues may take of a hash.
const MOST_HASH_BITS: u32 = 60;
const AMOUNT: &str = "must be a non-negative integer";

pub fn schema(schema: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(schema, "spec");
    let precedence = spec.child("matchingPrecedence");
    let number = precedence.number_or_zero();
    if number <= 0 {
        errors.push(precedence.invalid_number("must be a positive value"));
    }
    if number > MOST_PRECEDENCE {
        errors.push(precedence.invalid(format!("must not be greater than {MOST_PRECEDENCE}")));
    }
    if number == 1 && object::name(schema) != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(precedence.invalid(why));
    }
    let method = spec.below(&["distinguisherMethod", "type"]);
    let methods = ["ByNamespace", "ByUser"];
    if spec.child("distinguisherMethod").is_set() && !methods.contains(&method.text()) {
        let shown = format!("{{\"Type\":{}}}", quoted(method.text()));
        errors.push(FieldError::not_supported_raw(method.path(), &shown, &methods));
    }
    let level = spec.below(&["priorityLevelConfiguration", "name"]);
    match level.is_empty() {
        true => errors.push(level.required("must reference a priority level")),
        false => common::named(&level, names::dns_subdomain, &mut errors),
    }
    for rule in spec.child("rules").items() {
        schema_rule(&rule, &mut errors);
    }
    errors
}

fn schema_rule(rule: &Place<'_>, errors: &mut Errors) {
    let subjects = rule.child("subjects");
    if subjects.is_empty() {
        errors.push(subjects.required("subjects must contain at least one value"));
    }
    for subject in subjects.items() {
        one_subject(&subject, errors);
    }
    let (resources, paths) = (rule.child("resourceRules"), rule.child("nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(rule.required(why));
    }
    for rule in resources.items() {
        resource_rule(&rule, errors);
    }
    for rule in paths.items() {
        path_rule(&rule, errors);
    }
}

fn one_subject(subject: &Place<'_>, errors: &mut Errors) {
    const FIELDS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = subject.child("kind");
    let Some((_, own)) = FIELDS.iter().find(|(name, _)| *name == kind.text()) else {
        errors.push(kind.unsupported(&["Group", "ServiceAccount", "User"]));
        return;
    };
    let place = subject.child(own);
    if !place.is_set() {
        let why = format!("{own} is required when subject kind is '{}'", kind.text());
        errors.push(place.required(&why));
    } else {
        let name = place.child("name");
        common::required(&name, errors);
        if *own == "serviceAccount" {
            if !name.is_empty() && name.text() != "*" {
                common::named(&name, names::dns_subdomain, errors);
            }
            let namespace = place.child("namespace");
            match namespace.is_empty() {
                true => {
                    errors.push(namespace.required("must specify namespace for service account"));
                }
                false => common::named(&namespace, names::dns_label, errors),
            }
        }
    }
    for (name, field) in FIELDS.iter().filter(|(_, field)| field != own) {
        if subject.child(field).is_set() {
            let why = format!("{field} is forbidden when subject kind is not '{name}'");
            errors.push(subject.child(field).forbidden(why));
        }
    }
}

/// A list that must hold something; `*` stands alone.
fn some_or_all(place: &Place<'_>, missing: &str, what: &str, errors: &mut Errors) -> bool {
    let texts = place.texts();
    if texts.is_empty() {
        errors.push(place.required(missing));
    } else if texts.contains(&"*") && texts.len() > 1 {
        errors.push(place.invalid(format!("if '*' is present, must not specify other {what}")));
    }
    !texts.contains(&"*")
}

fn verbs(rule: &Place<'_>, errors: &mut Errors) {
    let place = rule.child("verbs");
    let missing = "verbs must contain at least one value";
    let named = some_or_all(&place, missing, "verbs", errors);
    if named && place.texts().iter().any(|verb| !VERBS.contains(verb)) {
        errors.push(FieldError::not_supported(place.path(), place.value().clone(), &VERBS));
    }
}

fn resource_rule(rule: &Place<'_>, errors: &mut Errors) {
    verbs(rule, errors);
    let why = "resource rules must supply at least one api group";
    some_or_all(&rule.child("apiGroups"), why, "api groups", errors);
    let why = "resource rules must supply at least one resource";
    some_or_all(&rule.child("resources"), why, "resources", errors);
    let namespaces = rule.child("namespaces");
    if namespaces.is_empty() && rule.child("clusterScope").is_true() {
        return;
    }
    let why = "resource rules that are not cluster scoped must supply at least one namespace";
    if some_or_all(&namespaces, why, "namespaces", errors) {
        for namespace in namespaces.items() {
            let why = names::dns_label(namespace.text());
            let intro = "each member of this list must be '*' or a DNS-1123 label; ";
            errors.extend(why.iter().map(|why| namespace.invalid(format!("{intro}{why}"))));
        }
    }
}

fn path_rule(rule: &Place<'_>, errors: &mut Errors) {
    verbs(rule, errors);
    let paths = rule.child("nonResourceURLs");
    let why = "nonResourceURLs must contain at least one value";
    if !some_or_all(&paths, why, "non-resource URLs", errors) {
        return;
    }
    for path in paths.items() {
        let text = path.text();
        let stars = text.matches('*').count();
        let why = match text {
            "/" => continue,
            "" => "must not be empty",
            _ if !text.starts_with('/') => "must start with slash",
            _ if text.contains(' ') => "must not contain white-space",
            _ if text.contains("//") => "must not contain double slash",
            _ if stars > 1 || (stars == 1 && !text.ends_with("/*")) => {
                "wildcard can only do suffix matching"
            }
            _ => continue,
        };
        errors.push(path.invalid(why));
    }
}

pub fn level(level: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(level, "spec");
    let (kind, limited, exempt) = (spec.child("type"), spec.child("limited"), spec.child("exempt"));
    if (object::name(level) == "exempt") != (kind.text() == "Exempt") {
        let why = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.push(kind.invalid_text(why));
    }
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                errors.push(limited.forbidden("must be nil if the type is not Limited"));
            }
            shares(&exempt, &mut errors);
            lendable(&exempt, &mut errors);
        }
        "Limited" => {
            if exempt.is_set() {
                errors.push(exempt.forbidden("must be nil if the type is Limited"));
            }
            match limited.is_set() {
                true => limits(&limited, &mut errors),
                false => errors.push(limited.required("must not be empty when type is Limited")),
            }
        }
        _ => {
            // The rule above has told of the same place; the type is the reason.
            errors.push(kind.unsupported(&["Exempt", "Limited"]));
        }
    }
    errors
}

fn shares(place: &Place<'_>, errors: &mut Errors) {
    let shares = place.child("nominalConcurrencyShares");
    if shares.number_or_zero() < 0 {
        errors.push(shares.invalid(AMOUNT));
    }
}

fn lendable(place: &Place<'_>, errors: &mut Errors) {
    common::within(&place.child("lendablePercent"), 0, 100, errors);
}

fn limits(place: &Place<'_>, errors: &mut Errors) {
    shares(place, errors);
    let response = place.child("limitResponse");
    let (kind, queuing) = (response.child("type"), response.child("queuing"));
    match kind.text() {
        "Reject" if queuing.is_set() => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(queuing.forbidden(why));
        }
        "Reject" => {}
        "Queue" if !queuing.is_set() => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(queuing.required(why));
        }
        "Queue" => queues(&queuing, errors),
        _ => errors.push(kind.unsupported(&["Queue", "Reject"])),
    }
    lendable(place, errors);
    let borrowing = place.child("borrowingLimitPercent");
    if borrowing.number_or_zero() < 0 {
        errors.push(borrowing.invalid("if specified, must be a non-negative integer"));
    }
}

fn queues(place: &Place<'_>, errors: &mut Errors) {
    let [length, queues, hand] =
        ["queueLengthLimit", "queues", "handSize"].map(|name| place.child(name));
    if length.number_or_zero() <= 0 {
        errors.push(length.invalid_number("must be positive"));
    }
    let (count, size) = (queues.number_or_zero(), hand.number_or_zero());
    if count <= 0 {
        errors.push(queues.invalid_number("must be positive"));
    } else if count > MOST_QUEUES {
        errors.push(queues.invalid(format!("must not be greater than {MOST_QUEUES}")));
    }
    if size <= 0 {
        errors.push(hand.invalid_number("must be positive"));
    } else if size > count {
        errors.push(hand.invalid(format!("should not be greater than queues ({count})")));
    } else if entropy_bits(count, size) > MOST_HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {count} and handSize {size} should not be greater than {MOST_HASH_BITS}"
        );
        errors.push(hand.invalid(why));
    }
}

/// Bits that say which `hand` of `deck` cards are drawn, in which order.
fn entropy_bits(deck: i64, hand: i64) -> u32 {
    // More than 64 draws of at least one bit each are too many anyway.
    let bits: f64 = (0..hand.min(64)).map(|drawn| ((deck - drawn) as f64).log2()).sum();
    bits.ceil() as u32
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn flow_control_is_checked() {
        type Rule = fn(&Object) -> Errors;
        let queuing = |more: Value| json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": more}}}});
        let cases: Vec<(Rule, Value, &[&str])> = vec![
            (
                schema,
                json!({"spec": {"matchingPrecedence": 2, "priorityLevelConfiguration": {"name": "p"}}}),
                &[],
            ),
            (
                schema,
                json!({"spec": {"matchingPrecedence": 1, "priorityLevelConfiguration": {}}}),
                &["spec.matchingPrecedence", "spec.priorityLevelConfiguration.name"],
            ),
            (
                schema,
                json!({"spec": {"matchingPrecedence": 2, "priorityLevelConfiguration": {"name": "p"}, "rules": [{}]}}),
                &["spec.rules[0].subjects", "spec.rules[0]"],
            ),
            (level, queuing(json!({"queues": 64, "handSize": 8, "queueLengthLimit": 50})), &[]),
            (
                level,
                queuing(json!({"queues": 1, "handSize": 5, "queueLengthLimit": 50})),
                &["spec.limited.limitResponse.queuing.handSize"],
            ),
            (
                level,
                queuing(json!({"queues": 1000, "handSize": 7, "queueLengthLimit": 0})),
                &[
                    "spec.limited.limitResponse.queuing.queueLengthLimit",
                    "spec.limited.limitResponse.queuing.handSize",
                ],
            ),
            (
                level,
                json!({"spec": {"type": "Exempt", "limited": {}}}),
                &["spec.type", "spec.limited"],
            ),
        ];
        for (rule, object, expected) in cases {
            let errors = rule(&into_object(object.clone()));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, expected, "{object}");
        }
    }
}
