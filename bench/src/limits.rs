//! Every bound of the measuring tool, with its reason.

use std::time::Duration;

/// Clients of one run. More than this on one machine measures the loader, not the server.
pub const CLIENTS_MAX: usize = 100_000;
/// Connections of one run: well under the usual limit of open files (1,048,576 hard).
pub const CONNECTIONS_MAX: usize = 20_000;
/// Loader threads. The loader shares the machine with the server: few are right.
pub const THREADS_MAX: usize = 64;
/// Keys of one run; revisions are tracked in 8 bytes each.
pub const KEY_SPACE_MAX: u64 = 10_000_000;
/// Value size in bytes: etcd refuses requests over 1.5 MiB by default.
pub const VALUE_SIZE_BYTES_MAX: usize = 1024 * 1024;
/// Watchers of one run.
pub const WATCHERS_MAX: usize = 100_000;
/// The largest response taken: a list of 500 objects of 1 MiB would be wrong usage.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Retries of one optimistic update before it counts as an error, as a client would give up.
pub const CONFLICT_RETRIES_MAX: u32 = 32;
/// Distinct kinds of errors counted; the rest falls under "other".
pub const ERROR_KINDS_MAX: usize = 32;
/// Characters kept of a server's error message within a kind.
pub const ERROR_MESSAGE_CHARS_MAX: usize = 120;
/// Writes in flight per thread while keys are prepared before a measurement.
pub const PREPARE_IN_FLIGHT: usize = 128;
/// Pause after a broken connection before it is opened again, so that a dead server does not
/// turn into a busy loop.
pub const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Time to open one connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for all connections and prepared keys of a run.
pub const PREPARE_TIMEOUT: Duration = Duration::from_secs(300);
/// HTTP/2 receive window of a stream and of a connection: never the limit of a measurement.
pub const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// See [`STREAM_WINDOW_BYTES`].
pub const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// The largest latency recorded; anything longer is recorded as this.
pub const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Significant decimal digits of a recorded latency (0.1 %).
pub const LATENCY_DIGITS: u8 = 3;
/// Open-loop rate per second: above it the schedule's period is under a microsecond.
pub const RATE_MAX: f64 = 1_000_000.0;

const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);

/// Time for a server under comparison to answer its first read.
pub const SERVER_READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for one attempt of it.
pub const SERVER_PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between attempts: the grain of the measured start time.
pub const SERVER_PROBE_PAUSE: Duration = Duration::from_millis(2);
/// Time for a server to end on SIGTERM before it is killed.
pub const SERVER_STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause between a start with data and the next stop.
pub const SERVER_RESTART_PAUSE: Duration = Duration::from_secs(2);
/// Lines of a server's log that go with an error.
pub const SERVER_LOG_LINES: usize = 20;
/// Peers of a comparison: as many as the charts have colours for.
pub const PEERS_MAX: usize = 4;
/// Runs of a comparison: peers x workloads x client counts x rounds.
pub const RUNS_MAX: usize = 2_000;
/// Members of a cluster under measurement: more than anybody runs.
pub const MEMBERS_MAX: usize = 7;
/// Ports for servers: below those that outgoing connections take theirs from, so that a member
/// that starts again finds its own free, and nobody who dials it meets himself.
pub const SERVER_PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Time for the members of a cluster to agree on a leader.
pub const LEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two looks at a member's status.
pub const STATUS_PAUSE: Duration = Duration::from_millis(20);
/// Pause before a member that was not taken in is offered again.
pub const MEMBER_ADD_PAUSE: Duration = Duration::from_millis(500);
/// Kills of a fail-over measurement.
pub const KILLS_MAX: usize = 1_000;
/// Tried writes of a fail-over measurement on their way at once.
pub const PROBES_MAX: usize = 4_096;
/// The longest that a cluster may answer no write after its leader was killed.
pub const GAP_MAX: Duration = Duration::from_secs(60);
/// How long writes are watched after the first one that was answered again.
pub const GAP_TAIL: Duration = Duration::from_secs(1);
