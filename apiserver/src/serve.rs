//! Starts everything: certificates, the store, and the doors on every core.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::future::join_all;
use mainstay_engine::runtime::{self, Core, Options, StartError, net::TcpListener};
use time::OffsetDateTime;

use crate::cli::{ListenUrl, LogLevel, ServeFlags, StoreFlags};
use crate::etcd::{Door, DoorOptions};
use crate::kube::resources::services::{AddressRange, AddressRangeError};
use crate::kube::{Kube, KubeOptions};
use crate::net::listener::{self, PortError};
use crate::net::tls::{self, TlsError, TlsFiles};
use crate::net::{Server, tls::Acceptor};
use crate::pki::{self, Pki, PkiError};
use crate::{log, metrics, open_files};

/// Why nothing could be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{0}")]
    Port(#[from] PortError),
    #[error("can't read {path}: {error}", path = path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("{0}")]
    Pki(#[from] PkiError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("data directory {data_dir}: {error}", data_dir = data_dir.display())]
    Store { data_dir: PathBuf, error: StartError },
    #[error("--service-cluster-ip-range: {0}")]
    ServiceRange(#[from] AddressRangeError),
    #[error("{0}")]
    Door(String),
}

/// The port to serve Kubernetes clients on.
#[derive(Clone)]
struct KubePort {
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    options: KubeOptions,
}

/// One port to serve etcd clients on.
#[derive(Clone)]
struct EtcdPort {
    url: ListenUrl,
    tls: Option<Arc<rustls::ServerConfig>>,
}

/// What every core needs to open its doors.
#[derive(Clone)]
struct Doors {
    etcd: Vec<EtcdPort>,
    kubernetes: Option<KubePort>,
    options: DoorOptions,
    banner: Arc<Banner>,
}

/// `mainstay store`: the etcd door alone.
pub fn store(flags: &StoreFlags) -> Result<(), ServeError> {
    run(flags, None)
}

/// `mainstay serve`: the etcd door and the Kubernetes door.
pub fn serve(flags: &ServeFlags) -> Result<(), ServeError> {
    let address = check_free(SocketAddr::new(flags.bind_address, flags.secure_port))?;
    let flags = ServeFlags { secure_port: address.port(), ..flags.clone() };
    run(&flags.store, Some(&flags))
}

fn run(flags: &StoreFlags, kubernetes: Option<&ServeFlags>) -> Result<(), ServeError> {
    log::set_level(flags.log_level);
    open_files::raise_limit();
    let urls = reserve(&flags.listen_client_urls)?;
    if asks_for_certificates(flags) && !urls.iter().any(|url| url.tls) {
        log::write(
            LogLevel::Warn,
            format_args!(
                "--client-cert-auth and --trusted-ca-file have no effect on http:// URLs: anyone \
                 who reaches {} may read and write everything; use https:// in \
                 --listen-client-urls",
                urls.iter().map(ListenUrl::to_string).collect::<Vec<_>>().join(", "),
            ),
        );
    }
    let options = Options { data_dir: flags.data_dir.clone(), cores: flags.cores };
    let failed = |error| ServeError::Store { data_dir: flags.data_dir.clone(), error };
    // Before the certificates: they may be those of a server that runs.
    let opened = runtime::open(&options).map_err(failed)?;
    let needs_pki = kubernetes.is_some() || (urls.iter().any(|url| url.tls));
    let pki = if needs_pki { Some(prepare_pki(flags, kubernetes)?) } else { None };
    let etcd = etcd_ports(&urls, flags, pki.as_ref())?;
    let kubernetes = match (kubernetes, &pki) {
        (Some(flags), Some(pki)) => Some(kube_port(flags, pki)?),
        _ => None,
    };
    let doors = Doors {
        options: door_options(flags, &urls),
        banner: Arc::new(Banner {
            text: banner(flags, &urls, kubernetes.as_ref().zip(pki.as_ref())),
            ready_cores: AtomicUsize::new(0),
            failure: OnceLock::new(),
        }),
        etcd,
        kubernetes,
    };
    let banner = doors.banner.clone();
    opened.run(move |core| open(core, doors.clone())).map_err(failed)?;
    match banner.failure.get() {
        Some(failure) => Err(ServeError::Door(failure.clone())),
        None => Ok(()),
    }
}

/// `address`, with a free port for port 0, unless something else listens there.
fn check_free(address: SocketAddr) -> Result<SocketAddr, PortError> {
    runtime::net::check_free(address).map_err(|error| PortError::new(address, error))
}

/// Checks that every port is free, and turns port 0 into one that is.
fn reserve(urls: &[ListenUrl]) -> Result<Vec<ListenUrl>, ServeError> {
    urls.iter().map(|url| Ok(ListenUrl { address: check_free(url.address)?, ..*url })).collect()
}

fn prepare_pki(flags: &StoreFlags, kubernetes: Option<&ServeFlags>) -> Result<Pki, ServeError> {
    let mut names: Vec<String> = host_name().into_iter().collect();
    names.extend(flags.listen_client_urls.iter().filter_map(|url| specific(url.address)));
    let (server, service_range, certificate) = match kubernetes {
        Some(flags) => {
            let address = SocketAddr::new(flags.bind_address, flags.secure_port);
            names.extend(specific(address));
            (Some(address), Some(flags.service_cluster_ip_range), flags.tls_cert_file.as_deref())
        }
        None => (None, None, None),
    };
    let request = pki::Request {
        data_dir: &flags.data_dir,
        names,
        service_address: service_range.map_or_else(|| [10, 0, 0, 1].into(), |range| range.first()),
        server_url: server.map(|address| format!("https://{}", reachable(address))),
        // A certificate of one's own may be its own authority; a chain ends with it.
        server_authority: certificate.map(read).transpose()?,
    };
    Ok(pki::prepare(&request, OffsetDateTime::now_utc())?)
}

fn etcd_ports(
    urls: &[ListenUrl],
    flags: &StoreFlags,
    pki: Option<&Pki>,
) -> Result<Vec<EtcdPort>, ServeError> {
    let tls = match pki.filter(|_| urls.iter().any(|url| url.tls)) {
        None => None,
        Some(pki) => {
            let own = |file: &Option<PathBuf>, own: &Vec<u8>| match file {
                Some(path) => read(path),
                None => Ok(own.clone()),
            };
            let asks = asks_for_certificates(flags);
            let files = TlsFiles {
                certificate: own(&flags.cert_file, &pki.server_certificate)?,
                key: own(&flags.key_file, &pki.server_key)?,
                client_authority: asks
                    .then(|| own(&flags.trusted_ca_file, &pki.authority))
                    .transpose()?,
                client_required: asks,
            };
            Some(tls::server_config(&files)?)
        }
    };
    let port = |url: &ListenUrl| EtcdPort { url: *url, tls: tls.clone().filter(|_| url.tls) };
    Ok(urls.iter().map(port).collect())
}

/// Whether etcd clients need a certificate: as in etcd, naming who vouches for them asks for it.
fn asks_for_certificates(flags: &StoreFlags) -> bool {
    flags.client_cert_auth || flags.trusted_ca_file.is_some()
}

fn kube_port(flags: &ServeFlags, pki: &Pki) -> Result<KubePort, ServeError> {
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let own = |file: &Option<PathBuf>, own: &Vec<u8>| match file {
        Some(path) => read(path),
        None => Ok(own.clone()),
    };
    let mut authorities = pki.authority.clone();
    if let Some(path) = &flags.client_ca_file {
        authorities.push(b'\n');
        authorities.extend(read(path)?);
    }
    let files = TlsFiles {
        certificate: own(&flags.tls_cert_file, &pki.server_certificate)?,
        key: own(&flags.tls_private_key_file, &pki.server_key)?,
        client_authority: Some(authorities),
        client_required: false,
    };
    let options = KubeOptions {
        advertise_address: reachable(address),
        service_addresses: AddressRange::parse(&flags.service_cluster_ip_range.to_string())?,
        namespace_controller: runs(&flags.controllers, "namespace"),
        bootstrapped: Arc::default(),
    };
    Ok(KubePort { address, tls: tls::server_config(&files)?, options })
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

fn door_options(flags: &StoreFlags, urls: &[ListenUrl]) -> DoorOptions {
    let own = || urls.iter().map(ListenUrl::to_string).collect();
    DoorOptions {
        name: flags.name.clone(),
        client_urls: Some(flags.advertise_client_urls.clone())
            .filter(|urls| !urls.is_empty())
            .unwrap_or_else(own),
        // etcd's default. Nothing listens there: this member is alone.
        peer_urls: vec!["http://localhost:2380".to_owned()],
        progress_interval: flags.watch_progress_notify_interval,
    }
}

/// Opens the doors on one core and serves until shutdown.
async fn open(core: Core, doors: Doors) {
    let mut serving = Vec::new();
    for port in doors.etcd {
        let Some(listener) = bind(&core, &doors.banner, port.url.address) else { return };
        let door = Door::new(
            core.store.clone(),
            doors.options.clone(),
            core.shutdown.clone(),
            metrics::of_core(core.number),
        );
        let serve = listener::serve(
            Server::new(core.shutdown.clone()),
            listener,
            port.tls.map(Acceptor::new),
            move |request, _connection| door.clone().handle(request),
        );
        serving.push(Box::pin(serve) as Pin<Box<dyn Future<Output = ()>>>);
    }
    if let Some(port) = doors.kubernetes {
        let Some(listener) = bind(&core, &doors.banner, port.address) else { return };
        let kube = Kube::new(core.store.clone(), core.shutdown.clone(), port.options);
        if core.number == 0 {
            kube.start_background();
        }
        serving.push(Box::pin(listener::serve(
            Server::new(core.shutdown.clone()),
            listener,
            Some(Acceptor::new(port.tls)),
            move |request, connection| kube.clone().handle(request, connection),
        )));
    }
    doors.banner.core_is_ready(core.cores);
    join_all(serving).await;
}

/// Binds on this core; a failure ends all cores.
fn bind(core: &Core, banner: &Banner, address: SocketAddr) -> Option<TcpListener> {
    match TcpListener::bind(address) {
        Ok(listener) => Some(listener),
        Err(error) => {
            // Another core may have failed first, in the same way.
            let _first = banner.failure.set(PortError::new(address, error).to_string());
            core.shutdown.request();
            None
        }
    }
}

/// What is printed once all cores serve.
struct Banner {
    text: String,
    ready_cores: AtomicUsize,
    failure: OnceLock<String>,
}

impl Banner {
    fn core_is_ready(&self, cores: usize) {
        if self.ready_cores.fetch_add(1, Ordering::AcqRel) + 1 == cores {
            // A closed standard output is no reason not to serve.
            let mut output = std::io::stdout().lock();
            let _lost = output.write_all(self.text.as_bytes()).and_then(|()| output.flush());
        }
    }
}

fn banner(flags: &StoreFlags, urls: &[ListenUrl], kubernetes: Option<(&KubePort, &Pki)>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let listed: Vec<String> = urls.iter().map(ListenUrl::to_string).collect();
    let endpoints: Vec<String> = urls
        .iter()
        .map(|url| {
            format!("{}://{}", if url.tls { "https" } else { "http" }, reachable(url.address))
        })
        .collect();
    let mut text = format!(
        "mainstay {version}\n  etcd v3:        {}\n  data directory: {}\n",
        listed.join(", "),
        absolute(&flags.data_dir).display(),
    );
    if let Some((port, pki)) = kubernetes {
        text += &format!("  Kubernetes:     https://{}\n", port.options.advertise_address);
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

fn read(path: &Path) -> Result<Vec<u8>, ServeError> {
    std::fs::read(path).map_err(|error| ServeError::File { path: path.to_owned(), error })
}
