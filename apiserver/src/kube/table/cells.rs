//! The functions that `columns.txt` names, by their words.

use serde_json::Value;

use super::{access, events, jobs, metrics, network, nodes, pods, storage, workloads};
use crate::kube::object::Object;

/// Makes a cell of an object; the time is now, in seconds since 1970.
pub(super) type CellFunction = fn(&Object, i64) -> Value;

/// The function of this word.
pub(super) fn function(word: &str) -> Option<CellFunction> {
    Some(match word {
        "pod_ready" => pods::ready,
        "pod_status" => pods::status,
        "pod_restarts" => pods::restarts,
        "pod_address" => pods::address,
        "pod_readiness_gates" => pods::readiness_gates,
        "node_status" => nodes::status,
        "node_roles" => nodes::roles,
        "node_internal_address" => |object, _| nodes::address(object, "InternalIP"),
        "node_external_address" => |object, _| nodes::address(object, "ExternalIP"),
        "component_status" => |object, _| nodes::component(object, "status"),
        "component_message" => |object, _| nodes::component(object, "message"),
        "component_error" => |object, _| nodes::component(object, "error"),
        "event_last_seen" => events::last_seen,
        "event_first_seen" => events::first_seen,
        "event_object" => events::about,
        "event_part" => events::part,
        "event_source" => events::source,
        "event_message" => events::message,
        "event_count" => events::count,
        "ready_of_desired" => workloads::ready_of_desired,
        "revision_controller" => workloads::revision_controller,
        "config_map_entries" => workloads::config_map_entries,
        "quota_requests" => |object, _| workloads::quota(object, false),
        "quota_limits" => |object, _| workloads::quota(object, true),
        "resource_claim_state" => workloads::resource_claim_state,
        "autoscaler_reference" => metrics::reference,
        "autoscaler_targets" => metrics::targets,
        "job_status" => jobs::status,
        "job_completions" => jobs::completions,
        "job_duration" => jobs::duration,
        "cron_job_suspended" => jobs::suspended,
        "cron_job_last" => jobs::last_schedule,
        "service_address" => network::service_address,
        "service_external_address" => network::service_external_address,
        "service_ports" => network::service_ports,
        "endpoints" => network::endpoints,
        "slice_ports" => network::slice_ports,
        "slice_addresses" => network::slice_addresses,
        "ingress_hosts" => network::ingress_hosts,
        "ingress_ports" => network::ingress_ports,
        "load_balancer_addresses" => |object, _| network::load_balancer_addresses(object).into(),
        "ingress_class_parameters" => network::ingress_class_parameters,
        "address_parent" => network::address_parent,
        "volume_access_modes" => |object, _| storage::access_modes(object, &["spec"]),
        "volume_phase" => storage::phase,
        "volume_claim" => storage::volume_claim,
        "volume_class" => storage::class_of,
        "claim_capacity" => storage::claim_capacity,
        "claim_access_modes" => storage::claim_access_modes,
        "storage_class_name" => {
            |object, _| storage::class_name(object, "storageclass.kubernetes.io/is-default-class")
        }
        "attributes_class_name" => |object, _| {
            storage::class_name(
                object,
                "volumeattributesclass.alpha.kubernetes.io/is-default-class",
            )
        },
        "certificate_duration" => access::certificate_duration,
        "certificate_condition" => access::certificate_condition,
        "binding_role" => access::binding_role,
        "binding_users" => |object, _| access::subjects(object, "User"),
        "binding_groups" => |object, _| access::subjects(object, "Group"),
        "binding_service_accounts" => |object, _| access::subjects(object, "ServiceAccount"),
        "flow_schema_dangling" => access::flow_schema_dangling,
        "policy_parameter_kind" => access::policy_parameter_kind,
        "policy_parameter" => access::policy_parameter,
        "api_service_reference" => access::api_service_reference,
        "api_service_available" => access::api_service_available,
        _ => return None,
    })
}
