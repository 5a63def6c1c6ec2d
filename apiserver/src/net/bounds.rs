//! The limits of a door that its operator may choose; all others are in [`limits`].

use std::time::Duration;

use super::limits;

/// What one door allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub streams_per_connection: u32,
    /// A client that is silent for so long is asked whether it is there; zero for never ...
    pub keep_alive_interval: Duration,
    /// ... and has so long to answer.
    pub keep_alive_timeout: Duration,
    /// The least time between two pings of a client, as gRPC servers enforce it; without, pings are
    /// only limited as other frames are that bring nothing.
    pub ping_interval: Option<Duration>,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            streams_per_connection: limits::STREAMS_PER_CONNECTION,
            keep_alive_interval: limits::KEEP_ALIVE_INTERVAL,
            keep_alive_timeout: limits::KEEP_ALIVE_TIMEOUT,
            ping_interval: None,
        }
    }
}
