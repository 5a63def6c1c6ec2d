//! Flags of what clients may have and do. All other limits are fixed.

use std::time::Duration;

use clap::Args;

use crate::duration;
use crate::net::{Bounds, held, limits};

/// What clients may have and do.
#[derive(Debug, Clone, Args)]
pub struct BoundFlags {
    /// Connections open at a time; more are told that there is no room (each listener of all doors)
    #[arg(long, value_name = "N", default_value_t = limits::CONNECTIONS)]
    pub max_connections: usize,
    /// Streams that an HTTP/2 client may have open at a time (all doors)
    #[arg(long, value_name = "N", default_value_t = limits::STREAMS_PER_CONNECTION,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_concurrent_streams: u32,
    /// Bytes that all clients together may make this process hold: requests on their way, answers
    /// not taken, streams. 0 for a quarter of the memory (all doors)
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub max_held_bytes: usize,
    /// Bytes of the largest write request of an etcd client
    #[arg(long, value_name = "BYTES", default_value_t = mainstay_engine::limits::REQUEST_BYTES,
          value_parser = parse_request_bytes)]
    pub max_request_bytes: usize,
    /// Least time between two pings of an etcd client; 0 for any
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    pub grpc_keepalive_min_time: Duration,
    /// How long an etcd client may be silent before it is pinged; 0 for ever
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub grpc_keepalive_interval: Duration,
    /// How long an etcd client may take to answer a ping before it is cut off
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    pub grpc_keepalive_timeout: Duration,
}

/// A write goes into one frame of the log and several messages; this is far below what these take.
const REQUEST_BYTES_MAX: usize = 64 << 20;

fn parse_request_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ 1..=REQUEST_BYTES_MAX) => Ok(bytes),
        _ => Err(format!("must be a number of bytes, at most {REQUEST_BYTES_MAX}")),
    }
}

impl BoundFlags {
    /// For the etcd door.
    pub fn of_etcd(&self) -> Bounds {
        Bounds {
            keep_alive_interval: self.grpc_keepalive_interval,
            keep_alive_timeout: self.grpc_keepalive_timeout,
            ping_interval: Some(self.grpc_keepalive_min_time).filter(|time| !time.is_zero()),
            ..self.of_kubernetes()
        }
    }

    /// For the Kubernetes door, whose clients ping as they like.
    pub fn of_kubernetes(&self) -> Bounds {
        Bounds { streams_per_connection: self.max_concurrent_streams, ..Bounds::default() }
    }

    /// What the process may hold.
    pub fn held_bytes(&self) -> usize {
        match self.max_held_bytes {
            0 => held::default_budget(),
            bytes => bytes,
        }
    }
}
