//! The rules that writes of built-in resources keep, one small file for each group.
//!
//! A rule looks at one object (or at the new and the old one) and tells what is wrong, by field, in
//! the order and the words of kube-apiserver. [`attach`] says which resource has which.

pub mod access;
pub mod addresses;
pub mod admission;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod cluster;
pub mod common;
pub mod compute;
pub mod containers;
pub mod cron;
pub mod devices;
pub mod discovery;
pub mod environment;
pub mod events;
pub mod flowcontrol;
pub mod networking;
pub mod place;
pub mod pod_change;
pub mod pods;
pub mod quotas;
pub mod scheduling;
pub mod security;
pub mod selectors;
pub mod services;
pub mod storage;
pub mod volumes;
pub mod workloads;

use place::{Errors, Place};

use super::{Check, CheckChange, Strategy};
use crate::kube::object::{self, Object};
use crate::kube::registry::names;

/// What is checked of one resource.
struct Rules {
    /// At creation and update.
    every: Check,
    /// At creation only, after the others.
    new: Check,
    /// At an update.
    change: CheckChange,
    /// At an update, what it leads to is told before what it changes.
    change_last: bool,
}

const NONE: Rules = Rules {
    every: |_| Errors::new(),
    new: |_| Errors::new(),
    change: |_, _| Errors::new(),
    change_last: true,
};

fn every(every: Check) -> Rules {
    Rules { every, ..NONE }
}

/// Adds the rules of the resource `plural` of `group` to its strategy.
pub fn attach(group: &str, plural: &str, strategy: &mut Strategy) {
    let found = match group {
        "" => core(plural),
        "apps" => apps(plural),
        _ => other(group, plural),
    };
    if let Some(rules) = found {
        strategy.validate = rules.every;
        strategy.validate_new = rules.new;
        strategy.validate_update = rules.change;
        strategy.checks_change_last = rules.change_last;
    }
    attach_status(group, plural, strategy);
}

fn core(plural: &str) -> Option<Rules> {
    Some(match plural {
        "pods" => {
            Rules { every: pods::pod, new: pods::new_pod, change: pod_change::change, ..NONE }
        }
        "podtemplates" => every(|object| {
            let mut errors = Errors::new();
            pods::template(&Place::of(object, "template"), &[], &mut errors);
            errors
        }),
        "replicationcontrollers" => every(workloads::replication_controller),
        "services" => Rules {
            every: services::service,
            new: services::new_service,
            change: services::service_change,
            change_last: false,
        },
        "endpoints" => every(discovery::endpoints),
        "events" => every(events::core_event),
        "limitranges" => every(quotas::limit_range),
        "resourcequotas" => Rules { every: quotas::quota, change: quotas::quota_change, ..NONE },
        "nodes" => Rules { every: cluster::new_node, change: cluster::node_change, ..NONE },
        "persistentvolumes" => {
            Rules { every: storage::volume, change: storage::volume_change, ..NONE }
        }
        "persistentvolumeclaims" => {
            Rules { every: storage::claim, change: storage::claim_change, ..NONE }
        }
        _ => return None,
    })
}

fn apps(plural: &str) -> Option<Rules> {
    let selecting = |every| Rules { every, change: workloads::selector_change, ..NONE };
    Some(match plural {
        "deployments" => selecting(workloads::deployment),
        "replicasets" => selecting(workloads::replica_set),
        "daemonsets" => Rules { change_last: false, ..selecting(workloads::daemon_set) },
        "statefulsets" => Rules {
            // A new one has all rules at once; an old one may break some that came later.
            every: workloads::stateful_set,
            new: workloads::of_new_stateful_sets,
            change: workloads::stateful_set_change,
            ..NONE
        },
        "controllerrevisions" => every(workloads::controller_revision),
        _ => return None,
    })
}

fn other(group: &str, plural: &str) -> Option<Rules> {
    Some(match (group, plural) {
        ("admissionregistration.k8s.io", _) => every(match plural {
            "mutatingadmissionpolicies" => admission::mutating_policy,
            "mutatingadmissionpolicybindings" => admission::mutating_binding,
            "validatingadmissionpolicies" => admission::validating_policy,
            "validatingadmissionpolicybindings" => admission::validating_binding,
            _ => admission::webhooks,
        }),
        ("apiregistration.k8s.io", "apiservices") => every(certificates::api_service),
        ("autoscaling", _) => every(autoscaling::autoscaler),
        ("batch", "jobs") => Rules {
            every: batch::existing_job,
            new: batch::new_job,
            change: batch::job_change,
            ..NONE
        },
        ("batch", "cronjobs") => Rules { every: batch::cron_job, new: batch::new_cron_job, ..NONE },
        ("certificates.k8s.io", "certificatesigningrequests") => {
            Rules { new: certificates::request, ..NONE }
        }
        ("coordination.k8s.io", "leases") => every(cluster::lease),
        ("discovery.k8s.io", "endpointslices") => {
            Rules { every: discovery::slice, change: discovery::slice_change, ..NONE }
        }
        ("events.k8s.io", "events") => Rules {
            every: events::event,
            new: events::new_event,
            change: events::event_change,
            ..NONE
        },
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => every(flowcontrol::schema),
        ("flowcontrol.apiserver.k8s.io", _) => every(flowcontrol::level),
        ("networking.k8s.io", "ingresses") => {
            Rules { every: networking::ingress, new: networking::new_ingress, ..NONE }
        }
        ("networking.k8s.io", "ingressclasses") => {
            Rules { every: networking::ingress_class, change_last: false, ..NONE }
        }
        ("networking.k8s.io", "ipaddresses") => every(networking::address),
        ("networking.k8s.io", "networkpolicies") => every(networking::policy),
        ("networking.k8s.io", "servicecidrs") => Rules {
            new: networking::service_ranges,
            change: networking::service_ranges_change,
            ..NONE
        },
        ("node.k8s.io", "runtimeclasses") => every(cluster::runtime_class),
        ("policy", "poddisruptionbudgets") => every(cluster::disruption_budget),
        ("rbac.authorization.k8s.io", "roles") => every(access::role),
        ("rbac.authorization.k8s.io", "clusterroles") => every(access::cluster_role),
        ("rbac.authorization.k8s.io", "rolebindings") => {
            Rules { every: access::role_binding, change: access::binding_change, ..NONE }
        }
        ("rbac.authorization.k8s.io", "clusterrolebindings") => {
            Rules { every: access::cluster_role_binding, change: access::binding_change, ..NONE }
        }
        ("resource.k8s.io", "deviceclasses") => every(devices::class),
        ("resource.k8s.io", "resourceclaims") => {
            Rules { every: devices::claim, change: devices::spec_change, ..NONE }
        }
        ("resource.k8s.io", "resourceclaimtemplates") => {
            Rules { every: devices::template, change: devices::spec_change, ..NONE }
        }
        ("resource.k8s.io", "resourceslices") => every(devices::slice),
        ("scheduling.k8s.io", "priorityclasses") => {
            Rules { new: cluster::priority_class, change: cluster::priority_class_change, ..NONE }
        }
        ("storage.k8s.io", "storageclasses") => every(storage::class),
        ("storage.k8s.io", "volumeattributesclasses") => {
            Rules { every: storage::attributes_class, change_last: false, ..NONE }
        }
        ("storage.k8s.io", "volumeattachments") => every(storage::attachment),
        ("storage.k8s.io", "csinodes") => {
            Rules { every: storage::csi_node, change: storage::csi_node_change, ..NONE }
        }
        ("storage.k8s.io", "csidrivers") => every(storage::csi_driver),
        ("storage.k8s.io", "csistoragecapacities") => Rules { new: storage::capacity, ..NONE },
        _ => return None,
    })
}

/// Rules of statuses and of subresources, and of names.
fn attach_status(group: &str, plural: &str, strategy: &mut Strategy) {
    match (group, plural) {
        ("", "pods") => {
            strategy.validate_status_update = pod_change::status;
            strategy.validate_subresource = |name, new, old| match name {
                "ephemeralcontainers" => pod_change::ephemeral_change(new, old),
                "resize" => pod_change::resize(new, old),
                _ => Errors::new(),
            };
        }
        ("", "services") => strategy.validate_status_update = |new, _| services::status(new),
        ("apps", _) => strategy.validate_status_update = workloads::status_change,
        ("autoscaling", _) => {
            strategy.validate_status_update = |new, _| autoscaling::status(new);
        }
        ("networking.k8s.io", "ingresses") => {
            strategy.validate_status_update = |new, _| networking::ingress_status(new);
        }
        ("networking.k8s.io", "ipaddresses") => strategy.name_rule = networking::address_name,
        ("apiregistration.k8s.io", _) | ("certificates.k8s.io", _) => {
            strategy.name_rule = names::path_segment;
        }
        ("policy", "poddisruptionbudgets") => strategy.name_rule = names::path_segment,
        _ => {}
    }
}

/// Whether two specs are the same but for these fields.
fn same_but_for(new: &Object, old: &Object, fields: &[&str]) -> bool {
    let empty = Object::new();
    let (now, before) =
        (object::map(new, "spec").unwrap_or(&empty), object::map(old, "spec").unwrap_or(&empty));
    now.keys()
        .chain(before.keys())
        .filter(|name| !fields.contains(&name.as_str()))
        .all(|name| object::same(now.get(name), before.get(name)))
}
