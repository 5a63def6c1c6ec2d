//! The etcd v3 door: gRPC services, their JSON gateway and HTTP endpoints on one port.
//!
//! [`Door::handle`] routes a request; each service has a file. A request is validated, turned
//! into the store's vocabulary, and its answer turned back; nothing is kept in between.

pub mod alarm;
mod alone;
mod auth;
pub mod auto_compaction;
mod candidates;
mod cluster;
mod convert;
mod election;
mod endpoints;
mod errors;
mod gateway;
mod health;
mod kv;
mod leadership;
mod lease;
mod limits;
mod lock;
mod maintenance;
mod methods;
mod range_stream;
mod snapshot;
mod validate;
mod watch;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use mainstay_engine::Store;
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::spawn_local;
use mainstay_proto::ResponseHeader;
use prost::Message;

use self::alarm::Alarms;
use self::errors::EtcdError;
use crate::metrics::{self, CallGuard, CoreMetrics};
use crate::net::grpc::{self, Code, Head, Status};
use crate::net::{BoxedBody, ConnectionInfo, RequestBody};
pub use auth::AuthOptions;
use auth::service as users;
use auth::{Auth, Caller, Guarded};
pub use gateway::{json_of_answer, request_of_json};
use leadership::Leaderless;
pub use methods::{Kind, Method};

/// The version of etcd's API that this door speaks, as clients that ask for etcd's version want
/// to hear it: kube-apiserver looks for 3.5.13 or newer before it asks for progress.
pub const ETCD_VERSION: &str = "3.6.13";

/// The version of the cluster as a whole, in etcd's sense.
pub const ETCD_CLUSTER_VERSION: &str = "3.6.0";

/// The same as etcd shows it in some places.
pub const ETCD_MINOR_VERSION: &str = "3.6";

/// What the door is told: about the member it speaks for, and how to behave.
#[derive(Debug, Clone)]
pub struct DoorOptions {
    pub name: String,
    pub client_urls: Vec<String>,
    /// What the list of members shows while the member is alone.
    pub peer_urls: Vec<String>,
    /// How long members go without a leader before they elect one; `None` for a member that is alone
    /// and has no port for others.
    pub election: Option<Duration>,
    /// How often a silent watcher that asked for it hears how far it has come.
    pub progress_interval: Duration,
    /// Operations in one branch of a transaction, nested ones included.
    pub transaction_operations: usize,
    /// Shared by all cores, and loaded before any of them serves.
    pub alarms: Arc<Alarms>,
    /// The largest write request, bytes.
    pub request_bytes: usize,
    /// How users show who they are.
    pub auth: Arc<AuthOptions>,
}

/// The door of one core.
pub struct Door {
    store: Store,
    options: DoorOptions,
    shutdown: Shutdown,
    metrics: &'static CoreMetrics,
    auth: Rc<Auth>,
    /// Of a member that may have no leader.
    leaderless: Option<Rc<Leaderless>>,
    /// Watch streams opened so far.
    streams: Cell<u32>,
}

impl Door {
    pub fn new(
        store: Store,
        options: DoorOptions,
        shutdown: Shutdown,
        metrics: &'static CoreMetrics,
    ) -> Rc<Door> {
        let auth = Auth::new(store.clone(), options.auth.clone());
        spawn_local(auth.clone().tell_of_changes(shutdown.clone()));
        let leaderless = options.election.map(|election| {
            let (leaderless, store) = (Rc::new(Leaderless::default()), store.clone());
            let is_a_leader = move || store.leader() != 0;
            spawn_local(leaderless.clone().watch(is_a_leader, election, shutdown.clone()));
            leaderless
        });
        let streams = Cell::new(0);
        Rc::new(Door { store, options, shutdown, metrics, auth, leaderless, streams })
    }

    /// The number of a new watch stream.
    fn count_stream(&self) -> u32 {
        self.streams.replace(self.streams.get().wrapping_add(1))
    }

    /// Whether a write may go on that takes `cost` bytes more: no alarm and no quota forbids it.
    async fn check_write(&self, cost: u64) -> Result<(), EtcdError> {
        let checked = self.options.alarms.check(&self.store, cost).await;
        if checked.is_err() {
            metrics::server().refused_writes.add(1);
        }
        checked
    }

    /// What an answer begins with: who we are, and `revision`.
    fn header(&self, revision: i64) -> ResponseHeader {
        let status = self.store.status();
        ResponseHeader {
            cluster_id: status.cluster_id,
            member_id: status.member_id,
            revision,
            raft_term: status.raft_term,
        }
    }

    /// Answers one request, gRPC or plain HTTP.
    pub async fn handle(
        self: Rc<Door>,
        request: Request<RequestBody>,
        connection: Rc<ConnectionInfo>,
    ) -> Response<BoxedBody> {
        let is_grpc = grpc::is_grpc(request.headers());
        let at_gateway = !is_grpc && gateway::is_path(request.uri().path());
        let caller = Rc::new(Caller::new(request.headers(), connection, at_gateway));
        if at_gateway {
            return gateway::handle(self, caller, request).await;
        }
        if request.uri().path() == endpoints::USAGE && request.method() == http::Method::GET {
            return self.usage(&caller, request.uri().query().unwrap_or("")).await;
        }
        if !is_grpc && !is_service_path(request.uri().path()) {
            return self.endpoint(&request).await;
        }
        let (method, timeout) = match Head::of(&request) {
            Ok(head) => match find(&head) {
                Ok(method) => (method, head.timeout),
                Err(status) => return grpc::refuse(&status),
            },
            Err(response) => return *response,
        };
        self.call(method, caller, timeout, request.into_body()).await
    }

    /// Answers a request on a port that is for monitoring alone.
    pub async fn monitor(self: Rc<Door>, request: Request<RequestBody>) -> Response<BoxedBody> {
        self.endpoint(&request).await
    }

    /// Calls a method with the messages of `body`.
    async fn call(
        self: Rc<Door>,
        method: Method,
        caller: Rc<Caller>,
        timeout: Option<Duration>,
        body: RequestBody,
    ) -> Response<BoxedBody> {
        let call = self.metrics.call(method);
        if method.kind() != Kind::Unary
            && let Err(error) = self.check_leadership(&caller, method == Method::Snapshot)
        {
            let status = Status::from(error);
            call.end(status.code);
            return grpc::refuse(&status);
        }
        match method {
            Method::Watch => watch::serve(self, caller, body, call),
            Method::LeaseKeepAlive => lease::keep_alive(self, &caller, body, call),
            Method::RangeStream => range_stream::serve(self, caller, body, call).await,
            Method::Observe => election::observe(self, caller, body, call).await,
            Method::HealthWatch => health::watch(self, &caller, body, call).await,
            Method::Snapshot => {
                match self.auth.permit(&caller, auth::Need::who(auth::Who::Root)).await {
                    Ok(permit) => snapshot::serve(self, &caller, permit, body, call).await,
                    Err(status) => {
                        call.end(status.code);
                        grpc::refuse(&status)
                    }
                }
            }
            _ => self.unary(method, caller, timeout, body, call).await,
        }
    }

    async fn unary(
        self: Rc<Door>,
        method: Method,
        caller: Rc<Caller>,
        timeout: Option<Duration>,
        body: RequestBody,
        call: CallGuard,
    ) -> Response<BoxedBody> {
        let call = Unary { door: self, caller, timeout, body, call };
        match method {
            Method::Range => call.run(kv::range).await,
            Method::Put => call.run_write(kv::put).await,
            Method::DeleteRange => call.run_write(kv::delete_range).await,
            Method::Txn => call.run_write(kv::transaction).await,
            Method::Compact => call.run(kv::compact).await,
            Method::LeaseGrant => call.run(lease::grant).await,
            Method::LeaseRevoke => call.run(lease::revoke).await,
            Method::LeaseTimeToLive => call.run(lease::time_to_live).await,
            Method::LeaseLeases => call.run(lease::leases).await,
            Method::MemberAdd => call.run(cluster::add).await,
            Method::MemberRemove => call.run(cluster::remove).await,
            Method::MemberUpdate => call.run(cluster::update).await,
            Method::MemberList => call.run(cluster::list).await,
            Method::MemberPromote => call.run(cluster::promote).await,
            Method::Alarm => call.run(maintenance::alarm).await,
            Method::Status => call.run(maintenance::status).await,
            Method::Defragment => call.run(maintenance::defragment).await,
            Method::Hash => call.run(maintenance::hash).await,
            Method::HashKv => call.run(maintenance::hash_kv).await,
            Method::MoveLeader => call.run(maintenance::move_leader).await,
            Method::Downgrade => call.run(maintenance::downgrade).await,
            Method::AuthEnable => call.run_as(users::enable).await,
            Method::AuthDisable => call.run_as(users::disable).await,
            Method::AuthStatus => call.run(users::status).await,
            Method::Authenticate => call.run(users::authenticate).await,
            Method::UserAdd => call.run_as(users::user_add).await,
            Method::UserGet => call.run(users::user_get).await,
            Method::UserList => call.run(users::user_list).await,
            Method::UserDelete => call.run_as(users::user_delete).await,
            Method::UserChangePassword => call.run_as(users::user_change_password).await,
            Method::UserGrantRole => call.run_as(users::user_grant_role).await,
            Method::UserRevokeRole => call.run_as(users::user_revoke_role).await,
            Method::RoleAdd => call.run_as(users::role_add).await,
            Method::RoleGet => call.run(users::role_get).await,
            Method::RoleList => call.run(users::role_list).await,
            Method::RoleDelete => call.run_as(users::role_delete).await,
            Method::RoleGrantPermission => call.run_as(users::role_grant_permission).await,
            Method::RoleRevokePermission => call.run_as(users::role_revoke_permission).await,
            Method::Lock => call.run(lock::lock).await,
            Method::Unlock => call.run(lock::unlock).await,
            Method::Campaign => call.run(election::campaign).await,
            Method::Proclaim => call.run(election::proclaim).await,
            Method::Leader => call.run(election::leader).await,
            Method::Resign => call.run(election::resign).await,
            Method::HealthCheck => call.run(health::check).await,
            Method::RangeStream
            | Method::Watch
            | Method::LeaseKeepAlive
            | Method::Observe
            | Method::HealthWatch
            | Method::Snapshot => unreachable!("streams are routed before"),
        }
    }
}

/// A unary call on its way to a function of a service.
struct Unary {
    door: Rc<Door>,
    caller: Rc<Caller>,
    timeout: Option<Duration>,
    body: RequestBody,
    call: CallGuard,
}

impl Unary {
    async fn run<Q, A, F>(self, handle: impl FnOnce(Rc<Door>, Q) -> F) -> Response<BoxedBody>
    where
        Q: Message + Default + Guarded,
        A: Message,
        F: Future<Output = Result<A, Status>>,
    {
        self.run_checked(handle, usize::MAX).await
    }

    /// As [`run`](Unary::run), for a function that has to know who calls.
    async fn run_as<Q, A, F>(
        self,
        handle: impl FnOnce(Rc<Door>, Rc<Caller>, Q) -> F,
    ) -> Response<BoxedBody>
    where
        Q: Message + Default + Guarded,
        A: Message,
        F: Future<Output = Result<A, Status>>,
    {
        let caller = self.caller.clone();
        self.run(|door, request| handle(door, caller, request)).await
    }

    /// As [`run`](Unary::run), with etcd's limit on the size of a write.
    async fn run_write<Q, A, F>(self, handle: impl FnOnce(Rc<Door>, Q) -> F) -> Response<BoxedBody>
    where
        Q: Message + Default + Guarded,
        A: Message,
        F: Future<Output = Result<A, Status>>,
    {
        let limit = self.door.options.request_bytes;
        self.run_checked(handle, limit).await
    }

    async fn run_checked<Q, A, F>(
        self,
        handle: impl FnOnce(Rc<Door>, Q) -> F,
        limit: usize,
    ) -> Response<BoxedBody>
    where
        Q: Message + Default + Guarded,
        A: Message,
        F: Future<Output = Result<A, Status>>,
    {
        let Unary { door, caller, timeout, body, call } = self;
        let received = &call;
        let door_request_bytes = door.options.request_bytes;
        let answer = async move |request: Q, size: usize| {
            received.received(size);
            door.check_leadership(&caller, request.learners_answer())?;
            validate::size(size, limit).map_err(Status::from)?;
            if Q::WAITS {
                let permit = door.auth.permit(&caller, request.need()?).await?;
                let waiting = handle(door.clone(), request);
                return Box::pin(door.auth.while_permitted(&permit, waiting)).await;
            }
            let permit = door.auth.admit(&caller, &request).await?;
            let answer = handle(door.clone(), request).await?;
            if let (true, Some(permit)) = (Q::READS, permit) {
                door.auth.renew(&permit).await?;
            }
            Ok(answer)
        };
        let most = limits::message_bytes(door_request_bytes);
        let result = grpc::unary(body, timeout, most, answer).await;
        match &result {
            Ok(message) => call.sent(message.encoded_len()),
            Err(_) => call.sent(0),
        }
        call.end(result.as_ref().map_or_else(|status| status.code, |_| Code::Ok));
        if Q::READS { grpc::answer(result) } else { grpc::answer_change(result) }
    }
}

/// Whether a path looks like a gRPC method's, so that a wrong content type can be told.
fn is_service_path(path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .is_some_and(|(service, _)| methods::is_service(service))
}

/// The method that a call names, or the words in which grpc-go says that there is none.
fn find(head: &Head<'_>) -> Result<Method, Status> {
    Method::find(head.service, head.method).ok_or_else(|| {
        let message = if methods::is_service(head.service) {
            format!("unknown method {} for service {}", head.method, head.service)
        } else {
            format!("unknown service {}", head.service)
        };
        Status::new(Code::Unimplemented, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_methods_are_told_apart_from_unknown_services() {
        for (service, method, expected) in [
            ("etcdserverpb.KV", "Range", Ok(Method::Range)),
            (
                "etcdserverpb.KV",
                "RangeStreams",
                Err("unknown method RangeStreams for service etcdserverpb.KV"),
            ),
            ("v3lockpb.Lock", "Lock", Ok(Method::Lock)),
            ("v3lockpb.Locks", "Lock", Err("unknown service v3lockpb.Locks")),
        ] {
            let found = find(&Head { service, method, timeout: None });
            assert_eq!(found.map_err(|status| status.message), expected.map_err(str::to_owned));
        }
    }
}
