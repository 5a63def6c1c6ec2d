//! The options of every command, and how they become a plan.

mod cluster;

use crate::limits;
use crate::load::grpc::Endpoint;
use crate::load::lease_object::lease_value;
use crate::load::run::{End, Kind, Plan};
use crate::load::workload::lease_shape;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

pub use cluster::{CatchUpOptions, FailoverOptions};

/// Load and side-by-side measurement of etcd v3 servers, over public protocols.
#[derive(Debug, Parser)]
#[command(name = "mainstay-bench", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put load on one etcd v3 server (or cluster) and measure it.
    Etcd(Box<EtcdOptions>),
    /// Start servers in turn, put the same load on each, and write a report of how they compare.
    Compare(Box<CompareOptions>),
    /// Fill servers with keys and restart them, then rewrite a few keys without end: memory, disk
    /// and start times with data.
    Data(Box<DataOptions>),
    /// Kill the leader of a cluster again and again: how long nobody can write.
    Failover(Box<FailoverOptions>),
    /// Add a member to a cluster full of data under load: how long it takes to catch up, and what
    /// clients feel of it.
    Catchup(Box<CatchUpOptions>),
}

/// The workloads by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkloadName {
    /// Puts of random keys.
    Put,
    /// Kubernetes' optimistic update of random keys: write if the revision is still the known
    /// one, read otherwise.
    TxnPut,
    /// Node heartbeats: optimistic updates of Lease objects, each client its own nodes.
    LeaseFlood,
    /// Reads of random keys, or lists with --list.
    Range,
    /// Lists of all keys.
    List,
    /// Watchers on a prefix with writers beneath it.
    Watch,
}

/// Options of `mainstay-bench etcd`.
#[derive(Args, Clone, Debug)]
pub struct EtcdOptions {
    /// Client URLs of the servers.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub endpoints: Vec<String>,
    /// What to send.
    #[arg(long, value_enum, default_value = "put")]
    pub workload: WorkloadName,
    /// Clients, each with one request in flight.
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// HTTP/2 connections shared by the clients [default: as many as clients, at most 8].
    #[arg(long)]
    pub connections: Option<usize>,
    /// Loader threads; the loader shares the machine's cores with the server.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Length of the measuring window [default: 10s, unless --total is given].
    #[arg(long, value_parser = parse_duration, conflicts_with = "total")]
    pub duration: Option<Duration>,
    /// End after this many operations (puts, for the watch workload).
    #[arg(long)]
    pub total: Option<u64>,
    /// Load before the measuring window; it is not measured.
    #[arg(long, value_parser = parse_duration, default_value = "0s", conflicts_with = "total")]
    pub warmup: Duration,
    /// Open loop: offer this many requests per second, and measure latency from the time at
    /// which each should have been sent.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Length of values in bytes (lease-flood writes Lease objects of about 500 bytes).
    #[arg(long, default_value_t = 512)]
    pub value_size: usize,
    /// Number of keys (nodes, for lease-flood).
    #[arg(long, default_value_t = 10_000)]
    pub key_space: u64,
    /// What the keys start with (lease-flood uses /registry/leases/kube-node-lease/node-).
    #[arg(long, default_value = "/mainstay-bench/")]
    pub prefix: String,
    /// range: allow stale answers from any member.
    #[arg(long)]
    pub serializable: bool,
    /// range: list the whole prefix instead of one key.
    #[arg(long)]
    pub list: bool,
    /// range --list: at most this many keys per list (0: all).
    #[arg(long, default_value_t = 500, requires = "list")]
    pub limit: u64,
    /// watch: how many watchers.
    #[arg(long, default_value_t = 100)]
    pub watchers: usize,
    /// watch: how many watchers share one gRPC stream.
    #[arg(long, default_value_t = 1)]
    pub watchers_per_stream: usize,
    /// Do not write the keys before the run, for workloads that expect them to exist.
    #[arg(long)]
    pub no_prepare: bool,
    /// Time for each request.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub request_timeout: Duration,
    /// Makes the choice of keys repeatable.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Length of an interval of the HDR log.
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    pub interval: Duration,
    /// Write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write an HdrHistogram interval log (V2) to this file.
    #[arg(long, value_name = "FILE")]
    pub hdr_log: Option<PathBuf>,
    /// Write the percentile distribution to this file as text (.hgrm, milliseconds).
    #[arg(long, value_name = "FILE")]
    pub percentiles: Option<PathBuf>,
    /// No progress bar.
    #[arg(long)]
    pub quiet: bool,
    /// Exit with 0 even when requests failed.
    #[arg(long)]
    pub allow_errors: bool,
}

/// Which servers take part.
#[derive(Args, Clone, Debug)]
pub struct PeerOptions {
    /// The etcd binary, a path or a name in PATH.
    #[arg(long, default_value = "etcd")]
    pub etcd_bin: PathBuf,
    /// The mainstay binary [default: the one beside this program, else the one in PATH].
    #[arg(long)]
    pub mainstay_bin: Option<PathBuf>,
    /// Servers to compare instead: NAME=KIND:PATH, KIND being etcd or mainstay, with further
    /// flags behind the path. Ratios are to the first.
    #[arg(long, value_name = "NAME=KIND:PATH [FLAGS]")]
    pub peer: Vec<String>,
}

/// Options of `mainstay-bench data`.
#[derive(Args, Clone, Debug)]
pub struct DataOptions {
    /// Who takes part.
    #[command(flatten)]
    pub peers: PeerOptions,
    /// How many keys the servers are filled with.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Length of values in bytes.
    #[arg(long, default_value_t = 512)]
    pub value_size: usize,
    /// Clients that write.
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// How long a filled server is left alone before it is looked at.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub settle: Duration,
    /// How long a few keys are rewritten (0s: not at all).
    #[arg(long, value_parser = parse_duration, default_value = "60s")]
    pub rewrite: Duration,
    /// How many keys these are.
    #[arg(long, default_value_t = 10_000)]
    pub rewrite_keys: u64,
    /// Where data directories are made (and removed): the disk that is measured.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// Write a page with tables and a chart to this file.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write all figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Options of `mainstay-bench compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareOptions {
    /// Who takes part.
    #[command(flatten)]
    pub peers: PeerOptions,
    /// Client counts.
    #[arg(long, value_delimiter = ',', default_value = "1,64,1000")]
    pub clients: Vec<usize>,
    /// Workloads.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "put,lease-flood")]
    pub workloads: Vec<WorkloadName>,
    /// Length of each measuring window.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub duration: Duration,
    /// Load before each measuring window.
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    pub warmup: Duration,
    /// How long each server idles before the load.
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    pub idle: Duration,
    /// Repetitions of everything.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Members of each server's cluster; figures of servers are sums over them.
    #[arg(long, default_value_t = 1)]
    pub members: usize,
    /// Where data directories are made (and removed): the disk that is measured.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// The report.
    #[arg(long, default_value = "report.html")]
    pub output: PathBuf,
    /// All figures of all runs as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Exit with 0 even when requests failed.
    #[arg(long)]
    pub allow_errors: bool,
    /// Further options of `mainstay-bench etcd` for the load, behind `--`: for example
    /// `-- --value-size 1024 --rate 2000`.
    #[arg(last = true, value_name = "LOAD OPTIONS")]
    pub load_options: Vec<String>,
}

/// Refuses a number of members that makes no sense.
///
/// # Errors
/// Says what the bounds are.
pub fn check_members(members: usize, least: usize) -> Result<(), String> {
    match (least..=limits::MEMBERS_MAX).contains(&members) {
        true => Ok(()),
        false => Err(format!("--members {members}, expected {least} to {}", limits::MEMBERS_MAX)),
    }
}

impl EtcdOptions {
    /// Checks the options and makes a plan of them.
    ///
    /// # Errors
    /// Says which option is out of its bounds and what these are.
    pub fn plan(&self) -> Result<Plan, String> {
        let endpoints = self
            .endpoints
            .iter()
            .map(|text| Endpoint::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        let connections = self.connections.unwrap_or(self.clients.min(8));
        let within = |name: &str, value: usize, max: usize| match value {
            0 => Err(format!("--{name} must be at least 1")),
            value if value > max => Err(format!("--{name} {value} is over the limit of {max}")),
            _ => Ok(()),
        };
        within("clients", self.clients, limits::CLIENTS_MAX)?;
        within("connections", connections, limits::CONNECTIONS_MAX)?;
        within("threads", self.threads, limits::THREADS_MAX.min(connections))?;
        within("key-space", self.key_space as usize, limits::KEY_SPACE_MAX as usize)?;
        within("value-size", self.value_size, limits::VALUE_SIZE_BYTES_MAX)?;
        within("watchers", self.watchers, limits::WATCHERS_MAX)?;
        within("watchers-per-stream", self.watchers_per_stream, limits::WATCHERS_MAX)?;
        if self.rate.is_some_and(|rate| !(rate > 0.0 && rate <= limits::RATE_MAX)) {
            return Err(format!("--rate must be over 0 and at most {}", limits::RATE_MAX));
        }
        if self.prefix.is_empty() || !self.prefix.is_ascii() {
            return Err("--prefix must be ASCII text and not empty".to_owned());
        }
        if self.interval.is_zero() || self.request_timeout.is_zero() {
            return Err("--interval and --request-timeout must be over 0".to_owned());
        }
        let kind = self.kind()?;
        Ok(Plan {
            endpoints,
            kind,
            clients: self.clients,
            connections,
            threads: self.threads,
            end: match (self.total, self.duration) {
                (Some(total), _) => End::Total(total),
                (None, duration) => End::After(duration.unwrap_or(Duration::from_secs(10))),
            },
            warm_up: self.warmup,
            rate: self.rate,
            value_size_bytes: match kind {
                Kind::LeaseFlood => lease_value(&lease_shape(self.key_space)).len(),
                _ => self.value_size,
            },
            key_space: self.key_space,
            prefix: self.prefix.clone(),
            seed: self.seed,
            request_timeout: self.request_timeout,
            interval: self.interval,
            prepare: !self.no_prepare,
        })
    }

    fn kind(&self) -> Result<Kind, String> {
        Ok(match self.workload {
            WorkloadName::Put => Kind::Put,
            WorkloadName::TxnPut => Kind::TxnPut,
            WorkloadName::LeaseFlood if self.clients as u64 > self.key_space => {
                return Err(format!(
                    "lease-flood gives each client its own nodes: --key-space {} is less than \
                     --clients {}",
                    self.key_space, self.clients
                ));
            }
            WorkloadName::LeaseFlood => Kind::LeaseFlood,
            WorkloadName::List => {
                Kind::Range { list_limit: Some(0), serializable: self.serializable }
            }
            WorkloadName::Range => Kind::Range {
                list_limit: self.list.then_some(self.limit),
                serializable: self.serializable,
            },
            WorkloadName::Watch if self.value_size < 16 => {
                return Err(
                    "watch carries a time in the value: --value-size must be at least 16".into()
                );
            }
            WorkloadName::Watch => {
                Kind::Watch { watchers: self.watchers, per_stream: self.watchers_per_stream }
            }
        })
    }
}

/// Parses `1h2m3s`, `1.5s`, `200ms`, `50us`: the form of Go's tools.
///
/// # Errors
/// Says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration, expected for example 10s, 500ms or 1m30s");
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, behind) = rest.split_at(number_end);
        let unit_end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            _ => return Err(bad()),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = behind;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &str) -> Result<Plan, String> {
        let words = ["mainstay-bench", "etcd"].into_iter().chain(arguments.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Etcd(options) => options.plan(),
            _ => panic!("the etcd command"),
        }
    }

    #[test]
    fn durations() {
        for (text, expected_us) in [
            ("10s", Some(10_000_000)),
            ("1m30s", Some(90_000_000)),
            ("1.5ms", Some(1500)),
            ("2h", Some(7_200_000_000)),
            ("50us", Some(50)),
            ("0s", Some(0)),
            ("10", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
            ("1..5s", None),
            ("99999999999999999999h", None),
        ] {
            let parsed = parse_duration(text).ok().map(|duration| duration.as_micros());
            assert_eq!(parsed, expected_us, "{text:?}");
        }
    }

    #[test]
    fn options_become_a_plan() {
        let simple = plan("").unwrap();
        assert_eq!((simple.clients, simple.connections, simple.threads), (64, 8, 1));
        assert_eq!(simple.end, End::After(Duration::from_secs(10)));
        assert_eq!(plan("--clients 3").unwrap().connections, 3);
        assert_eq!(plan("--total 500").unwrap().end, End::Total(500));
        let range = plan("--workload range --list --limit 20 --serializable").unwrap();
        assert_eq!(range.kind, Kind::Range { list_limit: Some(20), serializable: true });
        let endpoints = plan("--endpoints http://a:1,http://b:2").unwrap().endpoints;
        assert_eq!(endpoints.iter().map(Endpoint::authority).collect::<Vec<_>>(), ["a:1", "b:2"]);
    }

    #[test]
    fn options_out_of_bounds_are_refused_by_name() {
        for (arguments, expected) in [
            ("--clients 0", "--clients"),
            ("--clients 1000000", "--clients"),
            ("--threads 4 --connections 2", "--threads"),
            ("--value-size 9999999", "--value-size"),
            ("--rate 0", "--rate"),
            ("--rate NaN", "--rate"),
            ("--total 5 --duration 5s", "--total"),
            ("--prefix=", "--prefix"),
            ("--workload lease-flood --clients 20 --key-space 10", "--key-space"),
            ("--workload watch --value-size 8", "--value-size"),
            ("--endpoints https://a:1", "TLS"),
            ("--workload dance", "dance"),
        ] {
            let error = plan(arguments).expect_err(arguments);
            assert!(error.contains(expected), "{arguments}: {error}");
        }
    }
}
