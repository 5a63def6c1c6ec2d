//! Rules of requests for certificates, and of servers that serve groups of their own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::place::{Errors, Place};
use super::{admission, common};
use crate::kube::object::{self, Object};
use crate::kube::registry::names;
use crate::kube::status::{FieldError, quoted};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const LEAST_SECONDS: i64 = 600;

/// A new request for a certificate.
pub fn request(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    let pem = spec.child("request");
    if !is_request(pem.text()) {
        errors.push(pem.invalid_text("PEM block type must be CERTIFICATE REQUEST"));
    }
    let usages = spec.child("usages");
    common::required(&usages, &mut errors);
    for usage in usages.items() {
        common::listed(&usage, &USAGES, &mut errors);
    }
    let texts = usages.texts();
    for (index, usage) in usages.items().iter().enumerate() {
        if texts[..index].contains(&usage.text()) {
            errors.push(usage.duplicate());
        }
    }
    let signer = spec.child("signerName");
    if signer.text() == LEGACY_SIGNER {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(signer.invalid(why));
    } else {
        signer_name(&signer, &mut errors);
    }
    let seconds = spec.child("expirationSeconds");
    if seconds.number().is_some_and(|number| number < LEAST_SECONDS) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(seconds.invalid(why));
    }
    errors
}

fn is_request(base64_text: &str) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE REQUEST-----";
    let bytes = STANDARD.decode(base64_text).unwrap_or_default();
    bytes.windows(BEGIN.len()).any(|window| window == BEGIN)
}

/// `domain/path`, with at least two labels in the domain.
fn signer_name(place: &Place<'_>, errors: &mut Errors) {
    let text = place.text();
    if text.is_empty() {
        errors.push(place.required(""));
        return;
    }
    let parts: Vec<&str> = text.split('/').collect();
    let [domain, path] = parts[..] else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(place.invalid(why));
        return;
    };
    labels_of(domain, names::dns_label, place, errors);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(place.invalid_as(domain, why));
    }
    labels_of(path, names::dns_subdomain, place, errors);
}

/// Tells of the first label that breaks a rule.
fn labels_of(part: &str, rule: names::NameRule, place: &Place<'_>, errors: &mut Errors) {
    let mut checked = part.split('.').map(|label| (label, rule(label)));
    if let Some((label, all)) = checked.find(|(_, why)| !why.is_empty()) {
        for why in all {
            let why = format!("validating label {}: {why}", quoted(label));
            errors.push(place.invalid_as(part, why));
        }
    }
}

/// A group and version that another server serves.
pub fn api_service(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    let (group, version) = (spec.child("group"), spec.child("version"));
    let (name, wanted) = (object::name(object), format!("{}.{}", version.text(), group.text()));
    if names::path_segment(name).is_empty() && !name.is_empty() && name != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {}", quoted(&wanted));
        errors.push(FieldError::invalid("metadata.name", name, why));
    }
    if group.is_empty() && version.text() != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        errors.push(group.required(why));
    }
    common::named_if_set(&group, names::dns_subdomain, &mut errors);
    common::named(&version, names::dns_1035_label, &mut errors);
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.child(field);
        if !(1..=most).contains(&priority.number_or_zero()) {
            let why = format!("must be positive and less than {most}");
            errors.push(priority.invalid_number(why));
        }
    }
    let (service, insecure, bundle) =
        (spec.child("service"), spec.child("insecureSkipTLSVerify"), spec.child("caBundle"));
    if !service.is_set() {
        if !bundle.is_empty() {
            let bytes = STANDARD.decode(bundle.text()).map_or(0, |bytes| bytes.len());
            let why = "local APIServices may not have a caBundle";
            errors.push(bundle.invalid_as(format!("{bytes} bytes"), why));
        }
        if insecure.is_true() {
            errors.push(insecure.invalid("local APIServices may not have insecureSkipTLSVerify"));
        }
        return errors;
    }
    common::required(&service.child("namespace"), &mut errors);
    common::required(&service.child("name"), &mut errors);
    admission::webhook_port(&service, &mut errors);
    if insecure.is_true() && !bundle.is_empty() {
        errors.push(insecure.invalid("may not be true if caBundle is present"));
    }
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
    fn requests_are_checked() {
        let pem = STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----\n");
        for (more, expected) in [
            (json!({}), &[][..]),
            (json!({"request": "eA=="}), &["spec.request"]),
            (json!({"usages": ["x"]}), &["spec.usages[0]"]),
            (json!({"signerName": "nodomain"}), &["spec.signerName"]),
            (json!({"signerName": "A/b"}), &["spec.signerName", "spec.signerName"]),
            (json!({"expirationSeconds": 5}), &["spec.expirationSeconds"]),
        ] {
            let mut spec = into_object(json!({
                "request": pem, "usages": ["client auth"], "signerName": "example.com/signer",
            }));
            spec.extend(into_object(more.clone()));
            assert_eq!(fields(request, json!({"spec": spec})), expected, "{more}");
        }
    }

    #[test]
    fn servers_are_checked() {
        let service = |name: &str, priority: i64| {
            json!({"metadata": {"name": name}, "spec": {
                "group": "example.org", "version": "v1", "groupPriorityMinimum": priority,
                "versionPriority": 1, "service": {"name": "s", "namespace": "n", "port": 443},
            }})
        };
        assert!(fields(api_service, service("v1.example.org", 1)).is_empty());
        assert_eq!(
            fields(api_service, service("wrong", 0)),
            ["metadata.name", "spec.groupPriorityMinimum"]
        );
    }
}
