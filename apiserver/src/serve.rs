//! Starts everything: certificates, the store, and the doors on every core.

mod cluster;
mod plan;
mod ports;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{join, join_all};
use mainstay_engine::runtime::net::Listener;
use mainstay_engine::runtime::{self, Core, Options, Settings, StartError, timer};
use time::OffsetDateTime;

use crate::cli::{EtcdFlags, ListenAddress, ListenUrl, LogLevel, ServeFlags, StoreFlags};
use crate::etcd::alarm::Alarms;
use crate::etcd::auto_compaction::{self, Retention};
use crate::etcd::{AuthOptions, Door, DoorOptions};
use crate::kube::authn::tokens::{KeyError, TokenIssuer};
use crate::kube::resources::services::{AddressRange, AddressRangeError};
use crate::kube::{Kube, KubeOptions};
use crate::net::listener::Gate;
use crate::net::listener::{self, PortError};
use crate::net::peers::PeerNetworkError;
use crate::net::tls::{Acceptor, TlsError};
use crate::net::{Bounds, Server, held};
use crate::pki::{self, Pki, PkiError};
use crate::{log, metrics, open_files};
use plan::Plan;
use ports::{KubePort, Place, Serves};

/// How often certificates of our own are looked at: they are renewed a month before their end.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(3600);

/// How long a start waits for the system's own objects, and how often it looks.
const BOOTSTRAP_WAIT: Duration = Duration::from_secs(10);
const BOOTSTRAP_POLL: Duration = Duration::from_millis(2);

/// Why nothing could be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{0}")]
    Port(#[from] PortError),
    #[error("{0}")]
    Pki(#[from] PkiError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("data directory {data_dir}: {error}", data_dir = data_dir.display())]
    Store { data_dir: PathBuf, error: StartError },
    #[error("--auto-compaction-retention: {0}")]
    Retention(String),
    #[error("--service-cluster-ip-range: {0}")]
    ServiceRange(#[from] AddressRangeError),
    #[error("{0}")]
    Tokens(#[from] KeyError),
    #[error("--auth-token: {0}")]
    AuthToken(String),
    #[error("{0}")]
    Cluster(String),
    #[error("{0}")]
    PeerNetwork(PeerNetworkError),
    #[error("{0}")]
    Door(String),
}

/// What every core needs to open its doors.
#[derive(Clone)]
struct Doors {
    plan: Arc<Plan>,
    retention: Option<Retention>,
    etcd_bounds: Bounds,
    kubernetes_bounds: Bounds,
    options: DoorOptions,
    banner: Arc<Banner>,
}

/// `mainstay store`: the etcd door alone.
pub fn store(flags: &StoreFlags) -> Result<(), ServeError> {
    run(flags, None)
}

/// `mainstay serve`: the etcd door and the Kubernetes door.
pub fn serve(flags: &ServeFlags) -> Result<(), ServeError> {
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let address = ports::check_free(&ListenAddress::Tcp(address))?;
    let mut flags = flags.clone();
    if let ListenAddress::Tcp(address) = address {
        flags.secure_port = address.port();
    }
    run(&flags.store, Some(&flags))
}

fn run(flags: &StoreFlags, kubernetes: Option<&ServeFlags>) -> Result<(), ServeError> {
    log::set_level(flags.log_level);
    open_files::raise_limit();
    held::set_budget(flags.bounds.held_bytes());
    let flags = &StoreFlags {
        listen_client_urls: ports::reserve(&flags.listen_client_urls)?,
        listen_client_http_urls: ports::reserve(&flags.listen_client_http_urls)?,
        etcd: EtcdFlags {
            listen_metrics_urls: ports::reserve(&flags.etcd.listen_metrics_urls)?,
            ..flags.etcd.clone()
        },
        ..flags.clone()
    };
    flags.cluster.check().map_err(ServeError::Cluster)?;
    let retention = flags.etcd.retention().map_err(ServeError::Retention)?;
    for (name, why) in flags.etcd.without_effect.reasons() {
        log::write(LogLevel::Warn, format_args!("--{name} has no effect: {why}"));
    }
    warn_of_open_doors(flags);
    let options = Options {
        data_dir: flags.data_dir.clone(),
        cores: flags.cores,
        // The etcd door looks at it first, and raises an alarm; the store itself refuses everyone.
        settings: Settings {
            quota_bytes: flags.etcd.quota().bytes(),
            durability: flags.durability.clone(),
            ..Settings::default()
        },
    };
    let failed = |error| ServeError::Store { data_dir: flags.data_dir.clone(), error };
    // Before the certificates: they may be those of a server that runs.
    let opened = runtime::open(&options).map_err(failed)?;
    let company = cluster::company(flags, &opened)?;
    let door = door_options(flags, company.is_some())?;
    let opened = match company {
        Some(company) => opened.with_company(company),
        None => opened,
    };
    let encrypted = all_urls(flags).any(|url| url.tls);
    let request = (kubernetes.is_some() || encrypted).then(|| pki_request(flags, kubernetes));
    let plan = Plan::new(flags, kubernetes, request);
    // Members of a cluster sign with the same key: one that has none asks the others first.
    if door.election.is_none() || !plan.lacks_authority()? {
        plan.make()?;
    }
    let doors = Doors {
        plan: Arc::new(plan),
        options: door,
        banner: Arc::new(Banner { ready_cores: AtomicUsize::new(0), failure: OnceLock::new() }),
        retention,
        etcd_bounds: flags.bounds.of_etcd(),
        kubernetes_bounds: flags.bounds.of_kubernetes(),
    };
    let banner = doors.banner.clone();
    opened.run(move |core| open(core, doors.clone())).map_err(failed)?;
    match banner.failure.get() {
        Some(failure) => Err(ServeError::Door(failure.clone())),
        None => Ok(()),
    }
}

fn all_urls(flags: &StoreFlags) -> impl Iterator<Item = &ListenUrl> {
    clients(flags).chain(&flags.etcd.listen_metrics_urls)
}

/// Those by which keys can be read and written.
fn clients(flags: &StoreFlags) -> impl Iterator<Item = &ListenUrl> {
    flags.listen_client_urls.iter().chain(&flags.listen_client_http_urls)
}

/// Certificates protect no http:// port: tells who thinks so.
fn warn_of_open_doors(flags: &StoreFlags) {
    let open: Vec<String> =
        clients(flags).filter(|url| !url.tls).map(ListenUrl::to_string).collect();
    if flags.tls.asks_for_certificates() && !open.is_empty() {
        log::write(
            LogLevel::Warn,
            format_args!(
                "--client-cert-auth, --trusted-ca-file and their like have no effect on {}: anyone \
                 who reaches it may read and write everything; use https:// or unixs:// URLs",
                open.join(", "),
            ),
        );
    }
}

fn pki_request(flags: &StoreFlags, kubernetes: Option<&ServeFlags>) -> pki::Request {
    let mut names: Vec<String> = host_name().into_iter().collect();
    names.extend(all_urls(flags).filter_map(ListenUrl::tcp).filter_map(specific));
    let server = kubernetes.map(|flags| SocketAddr::new(flags.bind_address, flags.secure_port));
    names.extend(server.and_then(specific));
    let service_range = kubernetes.map(|flags| flags.service_cluster_ip_range);
    pki::Request {
        data_dir: flags.data_dir.clone(),
        names,
        service_address: service_range.map_or_else(|| [10, 0, 0, 1].into(), |range| range.first()),
        server_url: server.map(|address| format!("https://{}", reachable(address))),
        // A certificate of one's own may be its own authority; a chain ends with it.
        server_authority: kubernetes.and_then(|flags| flags.tls_cert_file.clone()),
    }
}

/// Renews certificates of our own that near their end; doors find the new files by themselves.
async fn renew(request: Arc<pki::Request>) {
    loop {
        timer::sleep(RENEWAL_INTERVAL).await;
        if let Err(error) = pki::prepare(&request, OffsetDateTime::now_utc()) {
            log::write(LogLevel::Error, format_args!("certificates can't be renewed: {error}"));
        }
    }
}

fn kube_port(flags: &ServeFlags, pki: &Pki) -> Result<KubePort, ServeError> {
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let options = KubeOptions {
        advertise_address: match flags.advertise_address {
            Some(advertised) => SocketAddr::new(advertised, address.port()),
            None => reachable(address),
        },
        service_addresses: AddressRange::parse(&flags.service_cluster_ip_range.to_string())?,
        client_authorities: client_authorities(flags, pki),
        namespace_controller: runs(&flags.controllers, "namespace"),
        bootstrapped: Arc::default(),
        tokens: Arc::new(TokenIssuer::new(
            &flags.service_account_issuer,
            &pki.service_account_key,
        )?),
    };
    let gate = Gate::new(flags.store.bounds.max_connections);
    Ok(KubePort { address, gate, tls: ports::kubernetes_tls(flags, pki)?, options })
}

/// The certificates that clients of the Kubernetes door are checked by. Whether the files can be read is
/// told where the door itself reads them.
fn client_authorities(flags: &ServeFlags, pki: &Pki) -> String {
    let files = [Some(&pki.files.authority), flags.client_ca_file.as_ref()].into_iter().flatten();
    files.filter_map(|file| std::fs::read_to_string(file).ok()).collect()
}

/// Whether `--controllers` has this one run: its own word counts most.
fn runs(controllers: &[String], name: &str) -> bool {
    let says = |word: &str| controllers.iter().any(|one| one == word);
    match (says(name), says(&format!("-{name}"))) {
        (true, _) => true,
        (_, true) => false,
        _ => says("*"),
    }
}

fn door_options(flags: &StoreFlags, has_company: bool) -> Result<DoorOptions, ServeError> {
    let auth = AuthOptions::new(
        &flags.auth_token,
        Duration::from_secs(flags.auth_token_ttl),
        flags.bcrypt_cost,
        flags.tls.asks_for_certificates(),
        has_company,
    );
    let election = Duration::from_millis(flags.cluster.election_timeout);
    Ok(DoorOptions {
        name: flags.name.clone(),
        client_urls: client_urls(flags),
        peer_urls: flags.cluster.initial_advertise_peer_urls.clone(),
        election: has_company.then_some(election),
        progress_interval: flags.watch_progress_notify_interval,
        transaction_operations: flags.etcd.max_txn_ops,
        alarms: Arc::new(Alarms::new(flags.etcd.quota())),
        request_bytes: flags.bounds.max_request_bytes,
        auth: Arc::new(auth.map_err(ServeError::AuthToken)?),
    })
}

/// What clients are told: where they reach this member.
fn client_urls(flags: &StoreFlags) -> Vec<String> {
    match flags.advertise_client_urls.is_empty() {
        true => flags.listen_client_urls.iter().map(ListenUrl::to_string).collect(),
        false => flags.advertise_client_urls.clone(),
    }
}

/// Opens the doors on one core and serves until shutdown.
async fn open(core: Core, doors: Doors) {
    let mut serving = Vec::new();
    let mut bootstrapping = None;
    doors.options.alarms.load(&core.store).await;
    if core.number == 0 {
        start_etcd_background(&core, &doors);
    }
    let Some(made) = doors.plan.made(&core, &doors.banner).await else { return };
    for port in made.etcd {
        let Some(listener) = listen(&core, &doors.banner, &port.place) else { return };
        let door = Door::new(
            core.store.clone(),
            doors.options.clone(),
            core.shutdown.clone(),
            metrics::of_core(core.number),
        );
        let serve = listener::serve(
            Server::new(core.shutdown.clone(), doors.etcd_bounds),
            listener,
            port.gate,
            port.tls.map(Acceptor::new),
            move |request, connection| {
                let (door, refused) = (door.clone(), port.serves.refuse(&request));
                async move {
                    match refused {
                        Some(answer) => answer,
                        None if port.serves == Serves::Monitoring => door.monitor(request).await,
                        None => door.handle(request, connection).await,
                    }
                }
            },
        );
        serving.push(Box::pin(serve) as Pin<Box<dyn Future<Output = ()>>>);
    }
    if let Some(port) = made.kubernetes {
        let place = Place::new(ListenAddress::Tcp(port.address), 0);
        let Some(listener) = listen(&core, &doors.banner, &place) else { return };
        let kube = Kube::new(core.store.clone(), core.shutdown.clone(), port.options);
        kube.start_following(core.number == 0);
        if core.number == 0 {
            kube.start_background();
        }
        bootstrapping = Some(kube.clone()).filter(|_| core.number == 0);
        serving.push(Box::pin(listener::serve(
            Server::new(core.shutdown.clone(), doors.kubernetes_bounds),
            listener,
            port.gate,
            Some(Acceptor::new(port.tls)),
            move |request, connection| kube.clone().handle(request, connection),
        )));
    }
    if core.number == 0 {
        start_background_of_all(&core, &doors);
    }
    let ready = async {
        if core.number == 0 && doors.options.election.is_some() {
            cluster::wait_until_ready(&core.store, &core.shutdown).await;
        }
        if let Some(kube) = bootstrapping {
            wait_for_bootstrap(&kube, &core).await;
        }
        doors.banner.core_is_ready(core.cores, &made.banner);
    };
    join(ready, join_all(serving)).await;
}

/// Who is told that everything is served should not meet a `/livez` that says otherwise. When the
/// system's own objects can't be created (on a full disk, say) the rest is served nevertheless.
async fn wait_for_bootstrap(kube: &Kube, core: &Core) {
    let done = async {
        while !kube.is_bootstrapped() && !core.shutdown.is_requested() {
            timer::sleep(BOOTSTRAP_POLL).await;
        }
    };
    if timer::timeout(BOOTSTRAP_WAIT, done).await.is_none() {
        log::write(
            LogLevel::Warn,
            format_args!("the system's own objects are not there yet, and /livez and /readyz fail"),
        );
    }
}

/// What one core does for the ports of all.
fn start_background_of_all(core: &Core, doors: &Doors) {
    if let Some(request) = &doors.plan.pki {
        runtime::spawn_local(renew(request.clone()));
    }
    if doors.options.election.is_some() {
        let (store, shutdown) = (core.store.clone(), core.shutdown.clone());
        runtime::spawn_local(doors.plan.clone().share_authority(store, shutdown));
    }
}

/// What one core does for the etcd door of all.
fn start_etcd_background(core: &Core, doors: &Doors) {
    let (store, shutdown) = (core.store.clone(), core.shutdown.clone());
    let alarms = doors.options.alarms.clone();
    runtime::spawn_local(async move { alarms.watch_quota(&store, &shutdown).await });
    if doors.options.election.is_some() {
        let (name, client_urls) = (doors.options.name.clone(), doors.options.client_urls.clone());
        let (store, shutdown) = (core.store.clone(), core.shutdown.clone());
        runtime::spawn_local(cluster::publish(store, name, client_urls, shutdown));
        let (store, shutdown) = (core.store.clone(), core.shutdown.clone());
        let alarms = doors.options.alarms.clone();
        runtime::spawn_local(async move { alarms.follow(&store, &shutdown).await });
    }
    if let Some(retention) = doors.retention {
        let (store, shutdown) = (core.store.clone(), core.shutdown.clone());
        runtime::spawn_local(async move {
            auto_compaction::run(retention, &store, &shutdown).await;
        });
    }
}

/// Listens on this core; a failure ends all cores.
fn listen(core: &Core, banner: &Banner, place: &Place) -> Option<Listener> {
    match place.listen() {
        Ok(listener) => Some(listener),
        Err(error) => {
            // Another core may have failed first, in the same way.
            let _first = banner.failure.set(error.to_string());
            core.shutdown.request();
            None
        }
    }
}

/// What is printed once all cores serve.
struct Banner {
    ready_cores: AtomicUsize,
    failure: OnceLock<String>,
}

impl Banner {
    fn core_is_ready(&self, cores: usize, text: &str) {
        if self.ready_cores.fetch_add(1, Ordering::AcqRel) + 1 == cores {
            // A closed standard output is no reason not to serve.
            let mut output = std::io::stdout().lock();
            let _lost = output.write_all(text.as_bytes()).and_then(|()| output.flush());
        }
    }
}

fn banner(flags: &StoreFlags, kubernetes: Option<(&KubePort, &Pki)>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let listed = |urls: &[ListenUrl]| -> String {
        urls.iter().map(ListenUrl::to_string).collect::<Vec<_>>().join(", ")
    };
    let endpoint = |url: &ListenUrl| match url.tcp() {
        Some(address) => {
            let address = ListenAddress::Tcp(reachable(address));
            ListenUrl { address, ..*url }.to_string()
        }
        None => url.to_string(),
    };
    let endpoints: Vec<String> = flags.listen_client_urls.iter().map(endpoint).collect();
    let mut text =
        format!("mainstay {version}\n  etcd v3:        {}\n", listed(&flags.listen_client_urls));
    if !flags.listen_client_http_urls.is_empty() {
        text += &format!("  etcd HTTP:      {}\n", listed(&flags.listen_client_http_urls));
    }
    text += &format!("  data directory: {}\n", absolute(&flags.data_dir).display());
    if let Some((port, pki)) = kubernetes {
        text += &format!("  Kubernetes:     https://{}\n", reachable(port.address));
        text += &format!("  kubeconfig:     {}\n", absolute(&pki.kubeconfig).display());
    }
    text += "ready to serve client requests\n\nTry:\n";
    if let Some((_, pki)) = kubernetes {
        let kubeconfig = absolute(&pki.kubeconfig);
        text +=
            &format!("  export KUBECONFIG={}\n  kubectl get namespaces\n", kubeconfig.display());
    }
    text += &format!(
        "  etcdctl --endpoints={} get --prefix /registry/ --keys-only\n",
        endpoints.join(","),
    );
    text
}

/// An address that a client on this machine can use.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// The address as a name in a certificate, unless it stands for all.
fn specific(address: SocketAddr) -> Option<String> {
    (!address.ip().is_unspecified()).then(|| address.ip().to_string())
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().to_ascii_lowercase();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (!name.is_empty() && name.bytes().all(good)).then_some(name)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
