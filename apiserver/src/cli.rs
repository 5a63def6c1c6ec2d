//! The command line: flags with etcd's and kube-apiserver's names.

mod bounds;
mod cluster;
mod etcd;
mod listen;
mod peer_tls;
mod tls;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use mainstay_engine::durability::Classes;

pub use bounds::BoundFlags;
pub use cluster::{ClusterFlags, ClusterState};
pub use etcd::EtcdFlags;
pub use listen::{ListenAddress, ListenUrl};
use listen::{parse_mode, parse_url};
pub use peer_tls::PeerTlsFlags;
pub use tls::TlsFlags;

/// What `--version` prints after the name. etcd's tools look for the second line.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\netcd Version: 3.6.13");

/// Kubernetes' memory and front desk in one process: an etcd v3 store and an API server.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version = VERSION, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: ServeFlags,
}

impl Cli {
    /// The command line of this process; ends it when that can't be understood.
    pub fn read() -> Cli {
        Cli::try_read(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// As [`read`](Cli::read), of these arguments; the environment has etcd's variables.
    pub fn try_read(
        arguments: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
    ) -> Result<Cli, clap::Error> {
        let matches = Cli::full_command().try_get_matches_from(arguments)?;
        Cli::from_arg_matches(&matches)
    }

    /// The commands and flags with their variables: those of `store` wherever they occur.
    pub fn full_command() -> clap::Command {
        let store = StoreFlags::augment_args(clap::Command::new("store"));
        let names: Vec<String> =
            store.get_arguments().filter_map(|one| one.get_long().map(str::to_owned)).collect();
        etcd::with_environment(Cli::command(), &names)
            .mut_subcommands(|command| etcd::with_environment(command, &names))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve etcd v3 and Kubernetes (what `mainstay` alone does)
    Serve(Box<ServeFlags>),
    /// Serve etcd v3 alone
    Store(Box<StoreFlags>),
}

/// What the store and its etcd door need to know.
#[derive(Debug, Clone, Args)]
pub struct StoreFlags {
    /// Directory for everything durable; made when it is not there
    #[arg(long, value_name = "DIR", default_value = "./mainstay-data")]
    pub data_dir: PathBuf,
    /// Name of this member
    #[arg(long, default_value = "default")]
    pub name: String,
    /// URLs to serve etcd clients on, comma-separated: http, https, unix (a path) or unixs
    #[arg(long, value_name = "URLS", value_delimiter = ',', value_parser = parse_url,
          default_value = "http://127.0.0.1:2379")]
    pub listen_client_urls: Vec<ListenUrl>,
    /// URLs to tell clients, comma-separated; those listened on unless given
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub advertise_client_urls: Vec<String>,
    /// URLs to serve HTTP (the JSON gateway, /health, /metrics, /version) on, comma-separated;
    /// --listen-client-urls serves gRPC alone then
    #[arg(long, value_name = "URLS", value_delimiter = ',', value_parser = parse_url)]
    pub listen_client_http_urls: Vec<ListenUrl>,
    /// Permissions of the files of unix:// and unixs:// URLs, octal: to connect takes the right to
    /// write
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = parse_mode)]
    pub unix_socket_mode: u32,
    #[command(flatten)]
    pub tls: TlsFlags,
    #[command(flatten)]
    pub bounds: BoundFlags,
    /// How often a silent watcher that asked for it hears how far it has come
    #[arg(long, value_name = "DURATION", default_value = "10m", alias = etcd::PROGRESS_ALIAS,
          value_parser = etcd::parse_interval)]
    pub watch_progress_notify_interval: Duration,
    /// How etcd users show who they are after a login: 'simple', or
    /// 'jwt,sign-method=RS256,priv-key=FILE' with pub-key=FILE and ttl=10m if wanted
    #[arg(long, value_name = "KIND", default_value = "simple")]
    pub auth_token: String,
    /// Seconds that a simple token is good for after its last use
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub auth_token_ttl: u64,
    /// Strength of bcrypt when it hashes passwords of etcd users, from 4 to 31
    #[arg(long, value_name = "COST", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(4..=31))]
    pub bcrypt_cost: u32,
    /// Cores to use; 0 for all that this process may, but one
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub cores: usize,
    /// What answers to writes wait for, by prefix of the keys, as in
    /// '/registry/leases/=memory,/registry/events/=replicated': fsync (any other key), replicated
    /// (written by the system, perhaps not on the disk yet) or memory. docs/durability.md says what
    /// that loses
    #[arg(long, value_name = "PREFIX=CLASS,...", default_value = "", hide_default_value = true,
          value_parser = Classes::parse)]
    pub durability: Classes,
    /// Least severity of what is written to standard error
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
    #[command(flatten)]
    pub cluster: ClusterFlags,
    #[command(flatten)]
    pub etcd: EtcdFlags,
}

/// What the Kubernetes door needs to know besides.
#[derive(Debug, Clone, Args)]
pub struct ServeFlags {
    #[command(flatten)]
    pub store: StoreFlags,
    /// Address to serve Kubernetes on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub bind_address: IpAddr,
    /// Address to tell clients and to reach the service `kubernetes` at; that served on unless given
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// Port to serve Kubernetes on
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub secure_port: u16,
    /// Certificate of the Kubernetes server, PEM; Mainstay's own unless given
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// Key of --tls-cert-file, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// CA that vouches for Kubernetes clients, PEM, besides Mainstay's own
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Addresses for services
    #[arg(long, value_name = "CIDR", default_value = "10.0.0.0/24", value_parser = parse_range)]
    pub service_cluster_ip_range: AddressRange,
    /// Who issues the tokens of service accounts, and whom they are for unless they say otherwise
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://kubernetes.default.svc.cluster.local"
    )]
    pub service_account_issuer: String,
    /// Controllers to run, comma-separated: '*' for all, '-NAME' without this one, '-*' none.
    /// There is one: namespace, which empties namespaces that are being deleted
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "*",
        allow_hyphen_values = true
    )]
    pub controllers: Vec<String>,
}

/// How much to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum LogLevel {
    #[value(aliases = ["dpanic", "panic", "fatal"])]
    Error,
    Warn,
    Info,
    Debug,
}

/// Addresses with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    /// With the bits behind the prefix cleared.
    pub network: IpAddr,
    pub prefix: u8,
}

impl AddressRange {
    /// The first address that may be given out: the service `kubernetes`.
    pub fn first(&self) -> IpAddr {
        match self.network {
            IpAddr::V4(network) => IpAddr::V4((u32::from(network) + 1).into()),
            IpAddr::V6(network) => IpAddr::V6((u128::from(network) + 1).into()),
        }
    }
}

impl std::fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix)
    }
}

fn parse_range(text: &str) -> Result<AddressRange, String> {
    let refuse = || "must be an address and a prefix length, as in 10.0.0.0/24".to_owned();
    let (network, prefix) = text.split_once('/').ok_or_else(refuse)?;
    let (network, prefix): (IpAddr, u8) =
        (network.parse().map_err(|_| refuse())?, prefix.parse().map_err(|_| refuse())?);
    // As in kube-apiserver: room for a few services, and an IPv6 range that can be kept track of.
    let (least, most) = if network.is_ipv4() { (8, 30) } else { (64, 126) };
    if !(least..=most).contains(&prefix) {
        return Err(format!("the prefix length must be from {least} to {most}"));
    }
    let network = match network {
        IpAddr::V4(address) => {
            IpAddr::V4((u32::from(address) & (u32::MAX << (32 - prefix))).into())
        }
        IpAddr::V6(address) => {
            IpAddr::V6((u128::from(address) & (u128::MAX << (128 - prefix))).into())
        }
    };
    Ok(AddressRange { network, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::ETCD_VERSION;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert!(VERSION.ends_with(&format!("\netcd Version: {ETCD_VERSION}")));
    }

    #[test]
    fn no_command_is_serve() {
        let cli = Cli::try_read(["mainstay", "--data-dir", "/d", "--secure-port", "1"])
            .expect("good flags");
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.secure_port, 1);
        assert_eq!(cli.serve.store.listen_client_urls[0].to_string(), "http://127.0.0.1:2379");
        let cli = Cli::try_read(["mainstay", "store", "--name=a"]).expect("good flags");
        assert!(matches!(cli.command, Some(Command::Store(flags)) if flags.name == "a"));
    }

    #[test]
    fn bad_flags_are_refused_with_a_hint() {
        for (flags, expected) in [
            (&["--data-dri", "x"][..], "--data-dir"),
            (&["--listen-client-urls", "127.0.0.1:1"], "http://"),
            (&["--listen-client-urls", "http://example:1"], "IP address"),
            (&["--service-cluster-ip-range", "10.0.0.0"], "10.0.0.0/24"),
            (&["--tls-cert-file", "x"], "--tls-private-key-file"),
            (&["--log-level", "loud"], "debug"),
            (&["--cipher-suites", "TLS_RSA_WITH_RC4_128_SHA"], "there are TLS_ECDHE"),
            (&["--tls-min-version", "TLS1.1"], "TLS1.2"),
            (
                &["--client-cert-allowed-cn", "a", "--client-cert-allowed-hostname", "b"],
                "cannot be used with",
            ),
            (&["--unix-socket-mode", "9"], "0660"),
            (&["--max-concurrent-streams", "0"], "1"),
            (&["--max-request-bytes", "99999999999"], "67108864"),
            (&["stoer"], "store"),
        ] {
            let arguments = ["mainstay"].iter().chain(flags);
            let error = Cli::try_read(arguments).expect_err("bad flags").to_string();
            assert!(error.contains(expected), "{error}, not {expected}");
        }
    }

    #[test]
    fn service_ranges() {
        for (text, expected) in [
            ("10.0.0.0/24", Some(("10.0.0.0/24", "10.0.0.1"))),
            ("10.96.7.3/12", Some(("10.96.0.0/12", "10.96.0.1"))),
            ("fd00::/108", Some(("fd00::/108", "fd00::1"))),
            ("10.0.0.0/31", None),
            ("10.0.0.0/0", None),
            ("10.0.0/24", None),
        ] {
            let parsed = parse_range(text).ok();
            let parsed = parsed.map(|range| (range.to_string(), range.first().to_string()));
            let expected = expected.map(|(range, first)| (range.to_owned(), first.to_owned()));
            assert_eq!(parsed, expected, "{text}");
        }
    }
}
