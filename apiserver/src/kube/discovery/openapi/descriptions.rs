//! Descriptions of types and fields. They come from the crate k8s-openapi, whose generated schemas
//! carry them, and are read out at the first use.

use std::collections::HashMap;

/// Texts by type, and by type and field.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    types: HashMap<String, String>,
    fields: HashMap<String, HashMap<String, String>>,
}

impl Descriptions {
    pub(super) fn of_type(&self, name: &str) -> Option<&str> {
        self.types.get(name).map(String::as_str)
    }

    pub(super) fn of_field(&self, type_name: &str, field: &str) -> Option<&str> {
        self.fields.get(type_name)?.get(field).map(String::as_str)
    }
}

#[cfg(not(feature = "explain-docs"))]
pub(super) fn descriptions() -> &'static Descriptions {
    static NONE: std::sync::LazyLock<Descriptions> =
        std::sync::LazyLock::new(Descriptions::default);
    &NONE
}

#[cfg(feature = "explain-docs")]
pub(super) use generated::descriptions;

#[cfg(feature = "explain-docs")]
mod generated {
    use std::sync::LazyLock;

    use k8s_openapi::api::*;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
    use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
    use schemars::SchemaGenerator;
    use schemars::generate::SchemaSettings;
    use serde_json::Value;

    use super::Descriptions;

    pub(in super::super) fn descriptions() -> &'static Descriptions {
        static READ: LazyLock<Descriptions> = LazyLock::new(read);
        &READ
    }

    fn read() -> Descriptions {
        let mut generator = SchemaSettings::draft07().into_generator();
        visit_kinds(&mut generator);
        let mut descriptions = Descriptions::default();
        for (name, schema) in generator.take_definitions(false) {
            if let Some(text) = text_of(&schema) {
                descriptions.types.insert(name.clone(), text);
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            let texts = properties.into_iter().flatten();
            let texts = texts.filter_map(|(field, value)| Some((field.clone(), text_of(value)?)));
            descriptions.fields.insert(name, texts.collect());
        }
        descriptions
    }

    fn text_of(schema: &Value) -> Option<String> {
        schema.get("description")?.as_str().map(str::to_owned)
    }

    /// Makes the generator know the kinds and, through them, every type that they use.
    fn visit_kinds(generator: &mut SchemaGenerator) {
        macro_rules! visit {
            ($($kind:ty),* $(,)?) => { $( generator.subschema_for::<$kind>(); )* };
        }
        visit!(
            admissionregistration::v1::MutatingAdmissionPolicy,
            admissionregistration::v1::MutatingAdmissionPolicyBinding,
            admissionregistration::v1::MutatingWebhookConfiguration,
            admissionregistration::v1::ValidatingAdmissionPolicy,
            admissionregistration::v1::ValidatingAdmissionPolicyBinding,
            admissionregistration::v1::ValidatingWebhookConfiguration,
            apiextensions::CustomResourceDefinition,
            apiregistration::APIService,
            apps::v1::ControllerRevision,
            apps::v1::DaemonSet,
            apps::v1::Deployment,
            apps::v1::ReplicaSet,
            apps::v1::StatefulSet,
            authentication::v1::SelfSubjectReview,
            authentication::v1::TokenRequest,
            authentication::v1::TokenReview,
            authorization::v1::LocalSubjectAccessReview,
            authorization::v1::SelfSubjectAccessReview,
            authorization::v1::SelfSubjectRulesReview,
            authorization::v1::SubjectAccessReview,
            autoscaling::v1::HorizontalPodAutoscaler,
            autoscaling::v1::Scale,
            autoscaling::v2::HorizontalPodAutoscaler,
            batch::v1::CronJob,
            batch::v1::Job,
            certificates::v1::CertificateSigningRequest,
            coordination::v1::Lease,
            core::v1::Binding,
            core::v1::ComponentStatus,
            core::v1::ConfigMap,
            core::v1::Endpoints,
            core::v1::Event,
            core::v1::LimitRange,
            core::v1::Namespace,
            core::v1::Node,
            core::v1::PersistentVolume,
            core::v1::PersistentVolumeClaim,
            core::v1::Pod,
            core::v1::PodTemplate,
            core::v1::ReplicationController,
            core::v1::ResourceQuota,
            core::v1::Secret,
            core::v1::Service,
            core::v1::ServiceAccount,
            discovery::v1::EndpointSlice,
            events::v1::Event,
            flowcontrol::v1::FlowSchema,
            flowcontrol::v1::PriorityLevelConfiguration,
            networking::v1::IPAddress,
            networking::v1::Ingress,
            networking::v1::IngressClass,
            networking::v1::NetworkPolicy,
            networking::v1::ServiceCIDR,
            node::v1::RuntimeClass,
            policy::v1::Eviction,
            policy::v1::PodDisruptionBudget,
            rbac::v1::ClusterRole,
            rbac::v1::ClusterRoleBinding,
            rbac::v1::Role,
            rbac::v1::RoleBinding,
            resource::v1::DeviceClass,
            resource::v1::ResourceClaim,
            resource::v1::ResourceClaimTemplate,
            resource::v1::ResourceSlice,
            scheduling::v1::PriorityClass,
            storage::v1::CSIDriver,
            storage::v1::CSINode,
            storage::v1::CSIStorageCapacity,
            storage::v1::StorageClass,
            storage::v1::VolumeAttachment,
            storage::v1::VolumeAttributesClass,
            meta::APIGroup,
            meta::APIGroupList,
            meta::APIResourceList,
            meta::APIVersions,
            meta::DeleteOptions,
            meta::Patch,
            meta::Status,
        );
    }
}
