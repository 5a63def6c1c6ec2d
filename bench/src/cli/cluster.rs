//! Options of the commands that measure whole clusters.

use super::{PeerOptions, parse_duration};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Options of `mainstay-bench failover`.
#[derive(Args, Clone, Debug)]
pub struct FailoverOptions {
    /// Who takes part.
    #[command(flatten)]
    pub peers: PeerOptions,
    /// Members of each cluster.
    #[arg(long, default_value_t = 3)]
    pub members: usize,
    /// How often the leader is killed.
    #[arg(long, default_value_t = 30)]
    pub kills: usize,
    /// How often a write is tried, whatever became of those before: the grain of the gap.
    #[arg(long, value_parser = parse_duration, default_value = "5ms")]
    pub every: Duration,
    /// Time for each of these writes.
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    pub request_timeout: Duration,
    /// How long a cluster that is whole again is left alone before the next kill.
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    pub settle: Duration,
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

/// Options of `mainstay-bench catchup`.
#[derive(Args, Clone, Debug)]
pub struct CatchUpOptions {
    /// Who takes part.
    #[command(flatten)]
    pub peers: PeerOptions,
    /// Members of each cluster before one is added.
    #[arg(long, default_value_t = 3)]
    pub members: usize,
    /// How many keys the cluster is filled with.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Length of values in bytes.
    #[arg(long, default_value_t = 1024)]
    pub value_size: usize,
    /// Clients of the load.
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// Writes per second of the load, offered whatever the cluster does.
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,
    /// How long the load is measured before the member is added, and after it has caught up.
    #[arg(long, value_parser = parse_duration, default_value = "20s")]
    pub beside: Duration,
    /// The longest that catching up may take.
    #[arg(long, value_parser = parse_duration, default_value = "10m")]
    pub patience: Duration,
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
