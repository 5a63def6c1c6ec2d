//! The rules of definitions.

use serde_json::Value;

use super::{flag, is_same_everywhere, schema_rules, word};
use crate::kube::object::{self, Object};
use crate::kube::registry::names;
use crate::kube::resources::rules::common;
use crate::kube::resources::rules::place::{Errors, Place};
use crate::kube::status::FieldError;

const SCOPES: [&str; 2] = ["Cluster", "Namespaced"];
const SELECTABLE_FIELDS: usize = 8;

/// A new or changed definition.
pub fn definition(definition: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(definition, "spec");
    let name = object::name(definition);
    let wanted =
        format!("{}.{}", spec.below(&["names", "plural"]).text(), spec.child("group").text());
    if !name.is_empty() && name != wanted {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", name, why));
    }
    group(&spec.child("group"), &mut errors);
    common::one_of(&spec.child("scope"), &SCOPES, &mut errors);
    versions(&spec, &mut errors);
    if spec.child("preserveUnknownFields").is_true() {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(spec.child("preserveUnknownFields").invalid(why));
    }
    kind_names(&spec.child("names"), &mut errors);
    conversion(&spec.child("conversion"), &mut errors);
    stored_versions(definition, &mut errors);
    errors
}

/// What may not change once a definition is established.
pub fn change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    for path in [&["group"][..], &["names", "plural"]] {
        common::immutable(&now.below(path), &before.below(path), &mut errors);
    }
    if super::definition::is_true(old, "Established") {
        for path in [&["scope"][..], &["names", "kind"]] {
            common::immutable(&now.below(path), &before.below(path), &mut errors);
        }
    }
    errors
}

fn group(group: &Place<'_>, errors: &mut Errors) {
    if group.is_empty() {
        errors.push(group.required(""));
        return;
    }
    let why = names::dns_subdomain(group.text());
    if !why.is_empty() {
        errors.push(group.invalid_text(why.join(",")));
    } else if !group.text().contains('.') {
        errors.push(group.invalid_text("should be a domain with at least one dot"));
    }
}

fn versions(spec: &Place<'_>, errors: &mut Errors) {
    let list = spec.child("versions");
    let versions = list.items();
    let lifted = |field: &str| is_same_everywhere(list.value(), field);
    for version in &versions {
        let name = version.child("name");
        errors.extend(names::dns_1035_label(name.text()).iter().map(|why| name.invalid_text(why)));
    }
    for version in &versions {
        let schema = version.below(&["schema", "openAPIV3Schema"]);
        if !schema.is_set() {
            errors.push(schema.required(""));
        }
    }
    let stored = versions.iter().filter(|version| flag(version.value(), "storage")).count();
    let count = versions.iter().map(|version| version.child("name").text());
    let unique: std::collections::BTreeSet<&str> = count.collect();
    if unique.len() < versions.len() {
        errors.push(told(&list, "must contain unique version names"));
    }
    if stored != 1 {
        errors.push(told(&list, "must have exactly one version marked as storage version"));
    }
    if let Some(first) = versions.first() {
        let name = first.child("name").called("spec.version");
        errors.extend(names::dns_1035_label(name.text()).iter().map(|why| name.invalid_text(why)));
    }
    for version in &versions {
        let place = |field: &str, lifted_name: &str| match lifted(field) {
            true => format!("spec.{lifted_name}"),
            false => format!("{}.{field}", version.path()),
        };
        let path = format!("{}.openAPIV3Schema", place("schema", "validation"));
        let schema = version.below(&["schema", "openAPIV3Schema"]);
        if schema.is_set() {
            schema_rules::schema(&schema.called(path), errors);
        }
        columns(version, &place("additionalPrinterColumns", "additionalPrinterColumns"), errors);
        selectable_fields(version, &place("selectableFields", "selectableFields"), errors);
        subresources(version, &place("subresources", "subresources"), errors);
        if lifted("schema") {
            break;
        }
    }
}

/// The versions as they are told: by the names that Go has for their fields.
fn told(list: &Place<'_>, why: &str) -> FieldError {
    let versions: Vec<String> = list
        .items()
        .iter()
        .map(|version| {
            let value = version.value();
            let shown = |name: &str| {
                let is_lifted = is_same_everywhere(list.value(), name);
                value.get(name).filter(|_| !is_lifted).map_or("null".to_owned(), Value::to_string)
            };
            format!(
                "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
                Value::from(word(value, "name")),
                flag(value, "served"),
                flag(value, "storage"),
                flag(value, "deprecated"),
                shown("deprecationWarning"),
                shown("schema"),
                shown("subresources"),
                shown("additionalPrinterColumns"),
                shown("selectableFields"),
            )
        })
        .collect();
    FieldError::invalid_raw(list.path(), &format!("[{}]", versions.join(",")), why)
}

fn columns(version: &Place<'_>, path: &str, errors: &mut Errors) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 9] =
        ["binary", "byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for column in version.child("additionalPrinterColumns").called(path).items() {
        common::required(&column.child("name"), errors);
        match column.child("type") {
            kind if kind.is_empty() => {
                let supported = TYPES.join(",");
                errors.push(kind.required(&format!("must be one of {supported}")));
            }
            kind if !TYPES.contains(&kind.text()) => {
                errors.push(kind.invalid_text(format!("must be one of {}", TYPES.join(","))));
            }
            _ => {}
        }
        let format = column.child("format");
        if !format.is_empty() && !FORMATS.contains(&format.text()) {
            errors.push(format.invalid_text(format!("must be one of {}", FORMATS.join(","))));
        }
        let json_path = column.child("jsonPath");
        if json_path.is_empty() {
            errors.push(json_path.required(""));
        }
    }
}

fn selectable_fields(version: &Place<'_>, path: &str, errors: &mut Errors) {
    let fields = version.child("selectableFields").called(path);
    if fields.len() > SELECTABLE_FIELDS {
        errors.push(FieldError::too_many(path, fields.len(), SELECTABLE_FIELDS));
    }
    let schema = version.below(&["schema", "openAPIV3Schema"]);
    let mut seen = Vec::new();
    for field in fields.items() {
        let json_path = field.child("jsonPath");
        let text = json_path.text();
        if text.is_empty() {
            errors.push(json_path.required(""));
            continue;
        }
        if seen.contains(&text) {
            errors.push(FieldError::duplicate(json_path.path(), text));
        }
        seen.push(text);
        match schema_rules::selected(schema.value(), text) {
            Ok(()) => {}
            Err(why) => errors.push(json_path.invalid_text(why)),
        }
    }
}

fn subresources(version: &Place<'_>, path: &str, errors: &mut Errors) {
    let scale = version.below(&["subresources", "scale"]).called(format!("{path}.scale"));
    if !scale.is_set() {
        return;
    }
    for (name, root) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let field = scale.child(name);
        if field.is_empty() {
            errors.push(field.required(""));
        } else if !field.text().starts_with(root) {
            errors.push(field.invalid_text(format!("should be a json path under {root}")));
        }
    }
    let selector = scale.child("labelSelectorPath");
    let text = selector.text();
    if !text.is_empty() && !text.starts_with(".spec.") && !text.starts_with(".status.") {
        errors.push(selector.invalid_text("should be a json path under either .spec. or .status."));
    }
}

fn kind_names(kinds: &Place<'_>, errors: &mut Errors) {
    let required = |name: &str, errors: &mut Errors| common::required(&kinds.child(name), errors);
    required("plural", errors);
    required("singular", errors);
    required("kind", errors);
    required("listKind", errors);
    for name in ["plural", "singular"] {
        let field = kinds.child(name);
        if !field.is_empty() {
            let why = names::dns_1035_label(field.text());
            if !why.is_empty() {
                errors.push(field.invalid_text(why.join(",")));
            }
        }
    }
    for name in ["kind", "listKind"] {
        let field = kinds.child(name);
        if !field.is_empty() {
            let why = names::dns_1035_label(&field.text().to_lowercase());
            if !why.is_empty() {
                let why =
                    format!("may have mixed case, but should otherwise match: {}", why.join(","));
                errors.push(field.invalid_text(why));
            }
        }
    }
    for short in kinds.child("shortNames").items() {
        let why = names::dns_1035_label(short.text());
        if !why.is_empty() {
            errors.push(short.invalid_text(why.join(",")));
        }
    }
    let (kind, list) = (kinds.child("kind"), kinds.child("listKind"));
    if !kind.is_empty() && kind.text() == list.text() {
        errors.push(list.invalid_text("kind and listKind may not be the same"));
    }
    for category in kinds.child("categories").items() {
        let why = names::dns_1035_label(category.text());
        if !why.is_empty() {
            errors.push(category.invalid_text(why.join(",")));
        }
    }
}

fn conversion(conversion: &Place<'_>, errors: &mut Errors) {
    common::one_of(&conversion.child("strategy"), &["None", "Webhook"], errors);
    let webhook = conversion.child("webhook");
    if conversion.child("strategy").text() == "Webhook" {
        let client = webhook.child("clientConfig").called("spec.conversion.webhookClientConfig");
        if !client.is_set() {
            errors.push(client.required("required when strategy is set to Webhook"));
        }
        let versions = webhook.child("conversionReviewVersions");
        if versions.is_empty() {
            errors.push(versions.called("spec.conversion.conversionReviewVersions").required(""));
        }
    } else if webhook.is_set() {
        let client = webhook.called("spec.conversion.webhookClientConfig");
        errors.push(client.forbidden("should not be set when strategy is not set to Webhook"));
    }
}

fn stored_versions(definition: &Object, errors: &mut Errors) {
    let stored = Place::of(definition, "status").child("storedVersions");
    let versions = object::list_at(definition, &["spec", "versions"]);
    if stored.is_empty() {
        errors.push(FieldError::invalid_raw(
            "status.storedVersions",
            "null",
            "must have at least one stored version",
        ));
        return;
    }
    let storage = versions.iter().find(|version| flag(version, "storage"));
    let storage = storage.map_or("", |version| word(version, "name"));
    let known = |name: &str| versions.iter().any(|version| word(version, "name") == name);
    for version in stored.items() {
        if !known(version.text()) {
            errors.push(version.invalid_text("must appear in spec.versions"));
        }
    }
    if !storage.is_empty() && !stored.texts().contains(&storage) {
        let why = format!("must have the storage version {storage}");
        errors.push(stored.invalid(why));
    }
}
