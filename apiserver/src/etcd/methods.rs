//! The methods of etcd's gRPC services.

/// How many messages go each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

impl Kind {
    /// As in the label `grpc_type` of etcd's metrics.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

macro_rules! methods {
    ($($variant:ident: $kind:ident $service:literal $name:literal,)*) => {
        /// One method of one service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Method {
            $($variant,)*
        }

        impl Method {
            /// All of them, in the order of their discriminants.
            pub const ALL: &[Method] = &[$(Method::$variant,)*];

            /// The method of a request's path, if there is one.
            pub fn find(service: &str, name: &str) -> Option<Method> {
                match (service, name) {
                    $(($service, $name) => Some(Method::$variant),)*
                    _ => None,
                }
            }

            pub fn service(self) -> &'static str {
                match self { $(Method::$variant => $service,)* }
            }

            pub fn name(self) -> &'static str {
                match self { $(Method::$variant => $name,)* }
            }

            pub fn kind(self) -> Kind {
                match self { $(Method::$variant => Kind::$kind,)* }
            }
        }
    };
}

methods! {
    Range: Unary "etcdserverpb.KV" "Range",
    RangeStream: ServerStream "etcdserverpb.KV" "RangeStream",
    Put: Unary "etcdserverpb.KV" "Put",
    DeleteRange: Unary "etcdserverpb.KV" "DeleteRange",
    Txn: Unary "etcdserverpb.KV" "Txn",
    Compact: Unary "etcdserverpb.KV" "Compact",
    Watch: BidiStream "etcdserverpb.Watch" "Watch",
    LeaseGrant: Unary "etcdserverpb.Lease" "LeaseGrant",
    LeaseRevoke: Unary "etcdserverpb.Lease" "LeaseRevoke",
    LeaseKeepAlive: BidiStream "etcdserverpb.Lease" "LeaseKeepAlive",
    LeaseTimeToLive: Unary "etcdserverpb.Lease" "LeaseTimeToLive",
    LeaseLeases: Unary "etcdserverpb.Lease" "LeaseLeases",
    MemberAdd: Unary "etcdserverpb.Cluster" "MemberAdd",
    MemberRemove: Unary "etcdserverpb.Cluster" "MemberRemove",
    MemberUpdate: Unary "etcdserverpb.Cluster" "MemberUpdate",
    MemberList: Unary "etcdserverpb.Cluster" "MemberList",
    MemberPromote: Unary "etcdserverpb.Cluster" "MemberPromote",
    Alarm: Unary "etcdserverpb.Maintenance" "Alarm",
    Status: Unary "etcdserverpb.Maintenance" "Status",
    Defragment: Unary "etcdserverpb.Maintenance" "Defragment",
    Hash: Unary "etcdserverpb.Maintenance" "Hash",
    HashKv: Unary "etcdserverpb.Maintenance" "HashKV",
    Snapshot: ServerStream "etcdserverpb.Maintenance" "Snapshot",
    MoveLeader: Unary "etcdserverpb.Maintenance" "MoveLeader",
    Downgrade: Unary "etcdserverpb.Maintenance" "Downgrade",
    AuthEnable: Unary "etcdserverpb.Auth" "AuthEnable",
    AuthDisable: Unary "etcdserverpb.Auth" "AuthDisable",
    AuthStatus: Unary "etcdserverpb.Auth" "AuthStatus",
    Authenticate: Unary "etcdserverpb.Auth" "Authenticate",
    UserAdd: Unary "etcdserverpb.Auth" "UserAdd",
    UserGet: Unary "etcdserverpb.Auth" "UserGet",
    UserList: Unary "etcdserverpb.Auth" "UserList",
    UserDelete: Unary "etcdserverpb.Auth" "UserDelete",
    UserChangePassword: Unary "etcdserverpb.Auth" "UserChangePassword",
    UserGrantRole: Unary "etcdserverpb.Auth" "UserGrantRole",
    UserRevokeRole: Unary "etcdserverpb.Auth" "UserRevokeRole",
    RoleAdd: Unary "etcdserverpb.Auth" "RoleAdd",
    RoleGet: Unary "etcdserverpb.Auth" "RoleGet",
    RoleList: Unary "etcdserverpb.Auth" "RoleList",
    RoleDelete: Unary "etcdserverpb.Auth" "RoleDelete",
    RoleGrantPermission: Unary "etcdserverpb.Auth" "RoleGrantPermission",
    RoleRevokePermission: Unary "etcdserverpb.Auth" "RoleRevokePermission",
    Lock: Unary "v3lockpb.Lock" "Lock",
    Unlock: Unary "v3lockpb.Lock" "Unlock",
    Campaign: Unary "v3electionpb.Election" "Campaign",
    Proclaim: Unary "v3electionpb.Election" "Proclaim",
    Leader: Unary "v3electionpb.Election" "Leader",
    Observe: ServerStream "v3electionpb.Election" "Observe",
    Resign: Unary "v3electionpb.Election" "Resign",
    HealthCheck: Unary "grpc.health.v1.Health" "Check",
    HealthWatch: ServerStream "grpc.health.v1.Health" "Watch",
}

/// Whether any method belongs to `service`.
pub(super) fn is_service(service: &str) -> bool {
    Method::ALL.iter().any(|method| method.service() == service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path() {
        for (position, method) in Method::ALL.iter().enumerate() {
            assert_eq!(Method::find(method.service(), method.name()), Some(*method));
            assert_eq!(*method as usize, position);
        }
        assert_eq!(Method::find("etcdserverpb.KV", "RangeStreams"), None);
        assert!(is_service("etcdserverpb.KV") && !is_service("etcdserverpb.Kv"));
    }
}
