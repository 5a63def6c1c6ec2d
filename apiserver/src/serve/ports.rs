//! The ports of both doors: where they listen, with which certificates, and what they serve.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::{Request, Response, StatusCode};
use mainstay_engine::runtime::net::{self, Listener, UnixSocket};

use super::ServeError;
use crate::cli::{ListenAddress, ListenUrl, ServeFlags, StoreFlags};
use crate::kube::KubeOptions;
use crate::net::grpc::{self, Code, Status};
use crate::net::listener::{Gate, PortError};
use crate::net::tls::{Files, Reloading, Rules};
use crate::net::{BoxedBody, RequestBody};
use crate::pki::Pki;

/// The port to serve Kubernetes clients on.
#[derive(Clone)]
pub(super) struct KubePort {
    pub(super) address: SocketAddr,
    pub(super) gate: Arc<Gate>,
    pub(super) tls: Arc<Reloading>,
    pub(super) options: KubeOptions,
}

/// One place to serve etcd clients on.
#[derive(Clone)]
pub(super) struct EtcdPort {
    pub(super) place: Arc<Place>,
    pub(super) gate: Arc<Gate>,
    pub(super) tls: Option<Arc<Reloading>>,
    pub(super) serves: Serves,
}

/// Where cores listen.
pub(super) struct Place {
    address: ListenAddress,
    unix_mode: u32,
    /// The first core makes a Unix socket, the last one takes it away.
    unix: Mutex<Weak<UnixSocket>>,
}

/// What may be asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    Everything,
    /// HTTP has ports of its own.
    Grpc,
    Http,
    /// Metrics and health alone.
    Monitoring,
}

impl Place {
    pub(super) fn new(address: ListenAddress, unix_mode: u32) -> Arc<Place> {
        Arc::new(Place { address, unix_mode, unix: Mutex::default() })
    }

    /// Listens, on one core.
    pub(super) fn listen(&self) -> Result<Listener, PortError> {
        let listener = match &self.address {
            ListenAddress::Tcp(address) => Listener::tcp(*address),
            ListenAddress::Unix(path) => {
                let mut unix = self.unix.lock().unwrap_or_else(PoisonError::into_inner);
                let made = match unix.upgrade() {
                    Some(socket) => Ok(socket),
                    None => UnixSocket::bind(path, self.unix_mode).map(Arc::new),
                };
                made.and_then(|socket| {
                    *unix = Arc::downgrade(&socket);
                    Listener::unix(&socket)
                })
            }
        };
        listener.map_err(|error| PortError::new(self.address.clone(), error))
    }
}

impl Serves {
    /// The answer to a request that has come to the wrong port.
    pub(super) fn refuse(self, request: &Request<RequestBody>) -> Option<Response<BoxedBody>> {
        match (self, grpc::is_grpc(request.headers())) {
            (Serves::Everything | Serves::Monitoring, _)
            | (Serves::Grpc, true)
            | (Serves::Http, false) => None,
            (Serves::Grpc, false) => {
                let text = "only gRPC is served here; HTTP is on --listen-client-http-urls\n";
                let mut answer = Response::new(BoxedBody::full(text));
                *answer.status_mut() = StatusCode::NOT_FOUND;
                Some(answer)
            }
            (Serves::Http, true) => {
                let text = "only HTTP is served here; gRPC is on --listen-client-urls";
                Some(grpc::refuse(&Status::new(Code::Unimplemented, text)))
            }
        }
    }
}

/// Fails when somebody listens there already; a free port for port 0.
pub(super) fn check_free(address: &ListenAddress) -> Result<ListenAddress, PortError> {
    match address {
        ListenAddress::Tcp(address) => net::check_free(*address).map(ListenAddress::Tcp),
        ListenAddress::Unix(path) => net::check_path_free(path).map(|_| address.clone()),
    }
    .map_err(|error| PortError::new(address.clone(), error))
}

/// The same for URLs.
pub(super) fn reserve(urls: &[ListenUrl]) -> Result<Vec<ListenUrl>, PortError> {
    urls.iter().map(|url| Ok(ListenUrl { address: check_free(&url.address)?, ..*url })).collect()
}

/// The ports of the etcd door.
pub(super) fn etcd(flags: &StoreFlags, pki: Option<&Pki>) -> Result<Vec<EtcdPort>, ServeError> {
    let clients = &flags.listen_client_urls;
    let http = &flags.listen_client_http_urls;
    let monitoring = &flags.etcd.listen_metrics_urls;
    let mut urls = clients.iter().chain(http).chain(monitoring);
    let tls = match pki.filter(|_| urls.any(|url| url.tls)) {
        Some(pki) => Some(etcd_tls(flags, pki)?),
        None => None,
    };
    let port = |url: &ListenUrl, serves| EtcdPort {
        place: Place::new(url.address.clone(), flags.unix_socket_mode),
        gate: Gate::new(flags.bounds.max_connections),
        tls: tls.clone().filter(|_| url.tls),
        serves,
    };
    let all = if http.is_empty() { Serves::Everything } else { Serves::Grpc };
    let clients = clients.iter().map(|url| port(url, all));
    let http = http.iter().map(|url| port(url, Serves::Http));
    let monitoring = monitoring.iter().map(|url| port(url, Serves::Monitoring));
    Ok(clients.chain(http).chain(monitoring).collect())
}

fn etcd_tls(flags: &StoreFlags, pki: &Pki) -> Result<Arc<Reloading>, ServeError> {
    let tls = &flags.tls;
    let asks = tls.asks_for_certificates();
    let files = Files {
        certificate: or(&tls.cert_file, &pki.files.server_certificate),
        key: or(&tls.key_file, &pki.files.server_key),
        client_authorities: asks
            .then(|| or(&tls.trusted_ca_file, &pki.files.authority))
            .into_iter()
            .collect(),
        revoked: tls.client_crl_file.clone(),
    };
    let rules = Rules { policy: tls.policy(), client_required: asks, allowed: tls.allowed_names() };
    Ok(Reloading::new("etcd door", files, rules)?)
}

/// The TLS of the Kubernetes door. Its clients may also prove who they are in other ways.
pub(super) fn kubernetes_tls(flags: &ServeFlags, pki: &Pki) -> Result<Arc<Reloading>, ServeError> {
    let authorities = [Some(&pki.files.authority), flags.client_ca_file.as_ref()];
    let files = Files {
        certificate: or(&flags.tls_cert_file, &pki.files.server_certificate),
        key: or(&flags.tls_private_key_file, &pki.files.server_key),
        client_authorities: authorities.into_iter().flatten().cloned().collect(),
        revoked: None,
    };
    let rules = Rules { policy: flags.store.tls.policy(), ..Rules::default() };
    Ok(Reloading::new("Kubernetes door", files, rules)?)
}

fn or(given: &Option<PathBuf>, own: &PathBuf) -> PathBuf {
    given.as_ref().unwrap_or(own).clone()
}
