//! Rules of pods and pod templates.

use serde_json::Value;

use super::containers::{self, Pod};
use super::place::{Errors, Place};
use super::volumes::Volumes;
use super::{addresses, common, compute, scheduling, security, selectors};
use crate::kube::object::Object;
use crate::kube::registry::names;

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const MOST_NAME_SERVERS: usize = 3;
const MOST_SEARCH_PATHS: usize = 32;
const MOST_SEARCH_BYTES: usize = 2048;
const MOST_HOST_NAME_BYTES: usize = 64;

/// Where a spec stands: in a pod of this name (it may have none yet), or in a template.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    Pod(&'a str),
    Template,
}

/// On what a kubelet shows of the pods that it runs from files.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// The rules of a pod template whose place is `template`; `claims` are volumes from elsewhere.
pub fn template(place: &Place<'_>, claims: &[String], errors: &mut Errors) {
    let metadata = place.child("metadata");
    selectors::labels(&metadata.child("labels").called(format!("{}.labels", place.path())), errors);
    let annotations = format!("{}.annotations", place.path());
    selectors::annotations(&metadata.child("annotations").called(annotations), errors);
    let spec = place.child("spec");
    spec_rules(&spec, Owner::Template, claims, errors);
    if !spec.child("ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(spec.child("ephemeralContainers").forbidden(why));
    }
}

/// The template of a workload that starts its pods again and again.
pub fn restarted(spec: &Place<'_>, kind: &str, errors: &mut Errors) {
    let policy = spec.child("restartPolicy");
    if policy.text() != "Always" {
        errors.push(policy.unsupported(&["Always"]));
    }
    let deadline = spec.child("activeDeadlineSeconds");
    if deadline.is_set() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(deadline.forbidden(why));
    }
}

/// The rules of a pod.
pub fn pod(pod: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(pod, "spec");
    let annotations = Place::of(pod, "metadata").child("annotations").entries();
    let mirror = annotations.iter().find(|(key, _)| *key == MIRROR_ANNOTATION);
    if let Some((_, mirror)) = mirror.filter(|_| spec.child("nodeName").is_empty()) {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(mirror.invalid_text(why));
    }
    spec_rules(&spec, Owner::Pod(crate::kube::object::name(pod)), &[], &mut errors);
    if spec.child("serviceAccountName").is_empty() {
        for source in spec
            .child("volumes")
            .items()
            .iter()
            .flat_map(|volume| volume.below(&["projected", "sources"]).items())
        {
            let token = source.child("serviceAccountToken");
            if token.is_set() {
                let why = "must not be specified when serviceAccountName is not set";
                errors.push(token.forbidden(why));
            }
        }
    }
    for field in ["containers", "initContainers"] {
        for container in spec.child(field).items() {
            trimmed_image(&container, &mut errors);
        }
    }
    errors
}

pub(super) fn trimmed_image(container: &Place<'_>, errors: &mut Errors) {
    let image = container.child("image");
    if image.text().trim() != image.text() {
        errors.push(image.invalid_text("must not have leading or trailing whitespace"));
    }
}

/// The rules of a new pod.
pub fn new_pod(pod: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(pod, "spec");
    if !spec.child("ephemeralContainers").is_empty() {
        errors.push(spec.child("ephemeralContainers").forbidden("cannot be set on create"));
    }
    if !spec.child("nodeName").is_empty() && !spec.child("schedulingGates").is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(spec.child("nodeName").forbidden(why));
    }
    errors
}

fn spec_rules(spec: &Place<'_>, owner: Owner<'_>, claims: &[String], errors: &mut Errors) {
    common::required_value(&spec.child("terminationGracePeriodSeconds"), errors);
    let name = match owner {
        Owner::Pod(name) => name,
        Owner::Template => "",
    };
    let mut volumes = Volumes::check(&spec.child("volumes"), name, errors);
    volumes.add_claims(claims.iter().cloned());
    claim_rules(&spec.child("resourceClaims"), errors);
    let claims = spec.child("resourceClaims").items();
    let pod = Pod {
        volumes,
        claims: claims.iter().map(|claim| claim.child("name").text()).collect(),
        grace_seconds: spec.child("terminationGracePeriodSeconds").number(),
        restart_policy: spec.child("restartPolicy").text(),
        host_users: !spec.child("hostUsers").is_false(),
    };
    let list = spec.child("containers");
    containers::containers(&list, &pod, errors);
    containers::init_containers(&spec.child("initContainers"), &list, &pod, errors);
    containers::ephemeral_containers(&spec.child("ephemeralContainers"), spec, &pod, errors);
    if spec.child("resources").is_set() {
        compute::pod_requirements(&spec.child("resources"), errors);
    }
    host_network(spec, owner, errors);
    common::one_of(&spec.child("restartPolicy"), &RESTART_POLICIES, errors);
    common::one_of(&spec.child("dnsPolicy"), &DNS_POLICIES, errors);
    selectors::labels(&spec.child("nodeSelector"), errors);
    security::pod(spec, errors);
    scheduling::affinity(&spec.child("affinity"), errors);
    dns(spec, errors);
    for gate in spec.child("readinessGates").items() {
        common::named(&gate.child("conditionType"), names::qualified_name, errors);
    }
    gates(&spec.child("schedulingGates"), errors);
    scheduling::spread(&spec.child("topologySpreadConstraints"), errors);
    host_users(spec, errors);
    host_names(spec, errors);
    scheduling::tolerations(&spec.child("tolerations"), errors);
    for alias in spec.child("hostAliases").items() {
        addresses::lenient_address(&alias.child("ip"), errors);
        for name in alias.child("hostnames").items() {
            common::named(&name, names::dns_subdomain, errors);
        }
    }
    rest(spec, errors);
}

/// What remains: names of other objects, priority, overhead, system.
fn rest(spec: &Place<'_>, errors: &mut Errors) {
    common::named_if_set(&spec.child("priorityClassName"), names::dns_subdomain, errors);
    let class = spec.child("runtimeClassName");
    if class.is_set() {
        common::named(&class, names::dns_subdomain, errors);
    }
    let policy = spec.child("preemptionPolicy");
    if policy.is_set() {
        common::one_of(&policy, &["PreemptLowerPriority", "Never"], errors);
    }
    for (name, amount) in spec.child("overhead").entries() {
        compute::resource_name(name, &amount, errors);
        compute::amount(name, &amount, errors);
    }
    let system = spec.child("os");
    let name = system.child("name");
    if system.is_set() && name.is_empty() {
        errors.push(name.required(""));
    } else if system.is_set() && !["linux", "windows"].contains(&name.text()) {
        errors.push(name.called(system.path()).unsupported(&["linux", "windows"]));
    }
}

fn claim_rules(place: &Place<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for claim in place.items() {
        let name = claim.child("name");
        if seen.contains(&name.text()) && !name.is_empty() {
            errors.push(name.duplicate());
        } else {
            common::required_name(&name, names::dns_label, errors);
            seen.push(name.text());
        }
        let own =
            ["resourceClaimName", "resourceClaimTemplateName"].map(|field| claim.child(field));
        let shown = || {
            format!(
                "{{\"Name\":{},\"ResourceClaimName\":{},\"ResourceClaimTemplateName\":{}}}",
                crate::kube::status::quoted(name.text()),
                own[0].value(),
                own[1].value()
            )
        };
        let why = match (own[0].is_set(), own[1].is_set()) {
            (true, true) => {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            }
            (false, false) => {
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            }
            _ => "",
        };
        if !why.is_empty() {
            let error = crate::kube::status::FieldError::invalid_raw(claim.path(), &shown(), why);
            errors.push(error);
        }
        for field in own.iter().filter(|field| field.is_set()) {
            common::named(field, names::dns_subdomain, errors);
        }
    }
}

fn host_network(spec: &Place<'_>, owner: Owner<'_>, errors: &mut Errors) {
    if !spec.child("hostNetwork").is_true() {
        return;
    }
    let list = spec.child("containers").items();
    for port in list.iter().flat_map(|container| container.child("ports").items()) {
        let host = port.child("hostPort");
        let (host_number, number) =
            (host.number_or_zero(), port.child("containerPort").number_or_zero());
        if (owner != Owner::Template || host_number != 0) && host_number != number {
            let why = "must match `containerPort` when `hostNetwork` is true";
            errors.push(host.invalid_number(why));
        }
    }
}

fn dns(spec: &Place<'_>, errors: &mut Errors) {
    let config = spec.child("dnsConfig");
    let servers = config.child("nameservers");
    if spec.child("dnsPolicy").text() == "None" {
        if !config.is_set() {
            errors.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(servers.required(why));
            return;
        }
    }
    if servers.len() > MOST_NAME_SERVERS {
        let why = format!("must not have more than {MOST_NAME_SERVERS} nameservers");
        errors.push(servers.invalid(why));
    }
    for server in servers.items() {
        addresses::lenient_address(&server, errors);
    }
    let searches = config.child("searches");
    if searches.len() > MOST_SEARCH_PATHS {
        let why = format!("must not have more than {MOST_SEARCH_PATHS} search paths");
        errors.push(searches.invalid(why));
    }
    if searches.texts().join(" ").len() > MOST_SEARCH_BYTES {
        let why = format!(
            "must not have more than {MOST_SEARCH_BYTES} characters (including spaces) in the search list"
        );
        errors.push(searches.invalid(why));
    }
    for search in searches.items().iter().filter(|search| search.text() != ".") {
        let domain = search.text().strip_suffix('.').unwrap_or(search.text());
        let why = names::relaxed_subdomain(domain);
        errors.extend(why.into_iter().map(|why| search.invalid_as(domain, why)));
    }
    for option in config.child("options").items() {
        if option.child("name").is_empty() {
            errors.push(option.required("must not be empty"));
        }
    }
}

fn gates(place: &Place<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for gate in place.items() {
        let name = gate.child("name").text();
        let why = names::qualified_name(name);
        errors.extend(why.into_iter().map(|why| gate.invalid_as(name, why)));
        if seen.contains(&name) {
            errors.push(gate.duplicate_of(name));
        }
        seen.push(name);
    }
}

fn host_users(spec: &Place<'_>, errors: &mut Errors) {
    if !spec.child("hostUsers").is_false() {
        return;
    }
    let why = "when `hostUsers` is false";
    for (field, shown) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
    {
        if spec.child(field).is_true() {
            errors.push(spec.child(shown).forbidden(why));
        }
    }
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.child(field).items() {
            if !container.child("volumeDevices").is_empty() {
                errors.push(container.child("volumeDevices").forbidden(why));
            }
        }
    }
}

fn host_names(spec: &Place<'_>, errors: &mut Errors) {
    let own = spec.child("hostnameOverride");
    if own.is_set() {
        if spec.child("setHostnameAsFQDN").is_true() {
            errors.push(own.forbidden("may not be specified when setHostnameAsFQDN is true"));
        }
        if spec.child("hostNetwork").is_true() {
            errors.push(own.forbidden("may not be specified when hostNetwork is true"));
        }
        if own.text().len() > MOST_HOST_NAME_BYTES {
            errors.push(own.too_long(MOST_HOST_NAME_BYTES));
        }
        common::named(&own, names::dns_subdomain, errors);
    }
    common::named_if_set(&spec.child("serviceAccountName"), names::dns_subdomain, errors);
    common::named_if_set(&spec.child("nodeName"), names::dns_subdomain, errors);
    common::within(&spec.child("activeDeadlineSeconds"), 1, i64::from(i32::MAX), errors);
    common::named_if_set(&spec.child("hostname"), names::dns_label, errors);
    common::named_if_set(&spec.child("subdomain"), names::dns_label, errors);
}

/// The template of `object`, whose labels a selector must match.
pub fn labels_of_template(template: &Place<'_>) -> Object {
    template.below(&["metadata", "labels"]).map().cloned().unwrap_or_default()
}

/// The template's labels as messages show them: null when there are none.
pub fn shown_labels(template: &Place<'_>) -> Value {
    template.below(&["metadata", "labels"]).value().clone()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    fn fields(more: Value) -> Vec<String> {
        let container = json!({
            "name": "c", "image": "i", "imagePullPolicy": "Always",
            "terminationMessagePolicy": "File",
        });
        let mut spec = into_object(json!({
            "containers": [container], "restartPolicy": "Always", "dnsPolicy": "Default",
            "terminationGracePeriodSeconds": 30, "serviceAccountName": "default",
        }));
        spec.extend(into_object(more));
        let object = into_object(json!({"metadata": {"name": "p"}, "spec": spec}));
        pod(&object).into_iter().chain(new_pod(&object)).map(|error| error.field).collect()
    }

    #[test]
    fn pods_are_checked() {
        for (more, expected) in [
            (json!({}), &[][..]),
            (json!({"containers": []}), &["spec.containers"]),
            (json!({"restartPolicy": "Sometimes"}), &["spec.restartPolicy"]),
            (json!({"dnsPolicy": "None"}), &["spec.dnsConfig"]),
            (
                json!({"dnsConfig": {"nameservers": ["x"], "searches": ["a_b.", "A"]}}),
                &["spec.dnsConfig.nameservers[0]", "spec.dnsConfig.searches[1]"],
            ),
            (json!({"hostname": "A_B"}), &["spec.hostname"]),
            (
                json!({"schedulingGates": [{"name": "g"}, {"name": "g"}], "nodeName": "n"}),
                &["spec.schedulingGates[1]", "spec.nodeName"],
            ),
            (
                json!({"ephemeralContainers": [{"name": "e", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]}),
                &["spec.ephemeralContainers"],
            ),
            (json!({"os": {"name": "plan9"}}), &["spec.os"]),
            (json!({"resourceClaims": [{"name": "a"}]}), &["spec.resourceClaims[0]"]),
            (json!({"activeDeadlineSeconds": 0}), &["spec.activeDeadlineSeconds"]),
        ] {
            assert_eq!(fields(more.clone()), expected, "{more}");
        }
    }
}
