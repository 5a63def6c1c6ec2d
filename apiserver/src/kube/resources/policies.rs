//! Admission policies and webhooks, priorities and fairness, roles, and other groups whose
//! resources have a few defaults and no more.

use serde_json::{Value, json};

use super::Strategy;
use crate::kube::object::{self, Object};
use crate::kube::registry::names;

pub(super) fn strategy(group: &str, plural: &str) -> Strategy {
    let usual = Strategy::default();
    match (group, plural) {
        ("admissionregistration.k8s.io", _) => Strategy {
            defaults: match plural {
                "mutatingwebhookconfigurations" => default_mutating_webhooks,
                "validatingwebhookconfigurations" => default_webhooks,
                "mutatingadmissionpolicies" | "validatingadmissionpolicies" => default_policy,
                _ => default_binding,
            },
            generation: true,
            unconditional_update: false,
            ..usual
        },
        ("apiregistration.k8s.io", _) => Strategy { defaults: default_api_service, ..usual },
        ("autoscaling", _) => Strategy { defaults: default_autoscaler, ..usual },
        // Who asked for a certificate, and for what, is settled with the request.
        ("certificates.k8s.io", _) => {
            Strategy { prepare_update: |new, old| object::copy_field(old, new, "spec"), ..usual }
        }
        ("coordination.k8s.io", "leases") => {
            Strategy { create_on_update: true, unconditional_update: false, ..usual }
        }
        ("discovery.k8s.io", "endpointslices") => Strategy {
            defaults: default_endpoint_slice,
            generation: true,
            generation_counts: &["labels"],
            ..usual
        },
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => Strategy {
            defaults: |schema| {
                let spec = object::map_mut(schema, "spec");
                if object::integer_at(spec, &["matchingPrecedence"]) == 0 {
                    spec.insert("matchingPrecedence".to_owned(), 1000.into());
                }
            },
            generation: true,
            ..usual
        },
        ("flowcontrol.apiserver.k8s.io", _) => {
            Strategy { defaults: default_priority_level, generation: true, ..usual }
        }
        ("networking.k8s.io", "networkpolicies") => {
            Strategy { defaults: default_network_policy, generation: true, ..usual }
        }
        ("networking.k8s.io", "ingresses") => Strategy { generation: true, ..usual },
        ("networking.k8s.io", "ingressclasses") => Strategy {
            defaults: |class| {
                let spec = object::map_mut(class, "spec");
                if let Some(Value::Object(parameters)) = spec.get_mut("parameters") {
                    object::default_text(parameters, "scope", "Cluster");
                }
            },
            generation: true,
            ..usual
        },
        ("node.k8s.io", "runtimeclasses") => Strategy { unconditional_update: false, ..usual },
        ("policy", "poddisruptionbudgets") => {
            Strategy { generation: true, unconditional_update: false, ..usual }
        }
        ("rbac.authorization.k8s.io", _) => Strategy {
            defaults: default_role_binding,
            create_on_update: true,
            name_rule: names::path_segment,
            ..usual
        },
        ("resource.k8s.io", "deviceclasses") => {
            Strategy { generation: true, returns_deleted: true, ..usual }
        }
        ("resource.k8s.io", "resourceslices") => Strategy { generation: true, ..usual },
        ("resource.k8s.io", "resourceclaims") => Strategy {
            defaults: |claim| default_devices(object::map_mut(claim, "spec")),
            returns_deleted: true,
            ..usual
        },
        ("resource.k8s.io", _) => Strategy {
            defaults: |template| {
                let spec = object::map_mut(template, "spec");
                default_devices(object::map_mut(spec, "spec"));
            },
            returns_deleted: true,
            ..usual
        },
        ("scheduling.k8s.io", "priorityclasses") => Strategy {
            defaults: |class| {
                object::default_text(class, "preemptionPolicy", "PreemptLowerPriority");
            },
            generation: true,
            generation_is_fixed: true,
            ..usual
        },
        _ => usual,
    }
}

fn each(object: &mut Object, field: &str, change: impl Fn(&mut Object)) {
    if let Some(Value::Array(elements)) = object.get_mut(field) {
        elements.iter_mut().filter_map(Value::as_object_mut).for_each(change);
    }
}

fn default_rules(object: &mut Object, field: &str) {
    each(object, field, |rule| object::default_text(rule, "scope", "*"));
}

fn default_webhooks(configuration: &mut Object) {
    each(configuration, "webhooks", |webhook| {
        object::default_text(webhook, "failurePolicy", "Fail");
        object::default_text(webhook, "matchPolicy", "Equivalent");
        object::default(webhook, "namespaceSelector", json!({}));
        object::default(webhook, "objectSelector", json!({}));
        object::default(webhook, "timeoutSeconds", 10);
        if let Some(Value::Object(client)) = webhook.get_mut("clientConfig")
            && let Some(Value::Object(service)) = client.get_mut("service")
        {
            object::default(service, "port", 443);
        }
        default_rules(webhook, "rules");
    });
}

fn default_mutating_webhooks(configuration: &mut Object) {
    default_webhooks(configuration);
    each(configuration, "webhooks", |webhook| {
        object::default_text(webhook, "reinvocationPolicy", "Never");
    });
}

fn default_match(resources: &mut Object) {
    object::default_text(resources, "matchPolicy", "Equivalent");
    object::default(resources, "namespaceSelector", json!({}));
    object::default(resources, "objectSelector", json!({}));
    default_rules(resources, "resourceRules");
    default_rules(resources, "excludeResourceRules");
}

fn default_policy(policy: &mut Object) {
    let spec = object::map_mut(policy, "spec");
    object::default_text(spec, "failurePolicy", "Fail");
    if let Some(Value::Object(constraints)) = spec.get_mut("matchConstraints") {
        default_match(constraints);
    }
}

fn default_binding(binding: &mut Object) {
    let spec = object::map_mut(binding, "spec");
    if let Some(Value::Object(resources)) = spec.get_mut("matchResources") {
        default_match(resources);
    }
}

fn default_api_service(service: &mut Object) {
    let spec = object::map_mut(service, "spec");
    if let Some(Value::Object(service)) = spec.get_mut("service") {
        object::default(service, "port", 443);
    }
}

fn default_autoscaler(autoscaler: &mut Object) {
    let old_version = object::text(autoscaler, "apiVersion") == "autoscaling/v1";
    let spec = object::map_mut(autoscaler, "spec");
    object::default(spec, "minReplicas", 1);
    if !old_version && object::list(spec, "metrics").is_empty() {
        let processor = json!({"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
        }});
        spec.insert("metrics".to_owned(), json!([processor]));
    }
}

fn default_endpoint_slice(slice: &mut Object) {
    each(slice, "ports", |port| {
        object::default(port, "name", "");
        object::default_text(port, "protocol", "TCP");
    });
}

fn default_priority_level(level: &mut Object) {
    let spec = object::map_mut(level, "spec");
    if let Some(Value::Object(exempt)) = spec.get_mut("exempt") {
        object::default(exempt, "nominalConcurrencyShares", 0);
        object::default(exempt, "lendablePercent", 0);
    }
    let Some(Value::Object(limited)) = spec.get_mut("limited") else { return };
    object::default(limited, "nominalConcurrencyShares", 30);
    object::default(limited, "lendablePercent", 0);
    let Some(Value::Object(response)) = limited.get_mut("limitResponse") else { return };
    if let Some(Value::Object(queuing)) = response.get_mut("queuing") {
        for (field, value) in [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)] {
            if object::integer_at(queuing, &[field]) == 0 {
                queuing.insert(field.to_owned(), value.into());
            }
        }
    }
}

fn default_network_policy(policy: &mut Object) {
    let spec = object::map_mut(policy, "spec");
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| {
            each(rule, "ports", |port| object::default_text(port, "protocol", "TCP"));
        });
    }
    if object::list(spec, "policyTypes").is_empty() {
        let mut types = vec!["Ingress"];
        if !object::list(spec, "egress").is_empty() {
            types.push("Egress");
        }
        spec.insert("policyTypes".to_owned(), json!(types));
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn default_role_binding(binding: &mut Object) {
    if let Some(Value::Object(role)) = binding.get_mut("roleRef") {
        object::default_text(role, "apiGroup", RBAC);
    }
    each(binding, "subjects", |subject| {
        if matches!(object::text(subject, "kind"), "User" | "Group") {
            object::default_text(subject, "apiGroup", RBAC);
        }
    });
}

fn default_devices(spec: &mut Object) {
    let Some(Value::Object(devices)) = spec.get_mut("devices") else { return };
    let exact = |request: &mut Object| {
        object::default_text(request, "allocationMode", "ExactCount");
        if object::text(request, "allocationMode") == "ExactCount"
            && object::integer_at(request, &["count"]) == 0
        {
            request.insert("count".to_owned(), 1.into());
        }
    };
    each(devices, "requests", |request| {
        if let Some(Value::Object(exactly)) = request.get_mut("exactly") {
            exact(exactly);
        }
        each(request, "firstAvailable", exact);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    #[test]
    fn network_policies_get_their_types() {
        for (spec, expected) in [
            (json!({}), json!(["Ingress"])),
            (json!({"egress": [{}]}), json!(["Ingress", "Egress"])),
            (json!({"policyTypes": ["Egress"]}), json!(["Egress"])),
        ] {
            let mut policy = into_object(json!({"spec": spec}));
            default_network_policy(&mut policy);
            assert_eq!(policy["spec"]["policyTypes"], expected);
        }
    }

    #[test]
    fn webhooks_get_their_defaults() {
        let mut configuration =
            into_object(json!({"webhooks": [{"clientConfig": {"service": {}}, "rules": [{}]}]}));
        default_mutating_webhooks(&mut configuration);
        let webhook = &configuration["webhooks"][0];
        assert_eq!(webhook["clientConfig"]["service"]["port"], 443);
        assert_eq!(webhook["rules"][0]["scope"], "*");
        assert_eq!(webhook["reinvocationPolicy"], "Never");
    }
}
