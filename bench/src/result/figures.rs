//! The figures of a run as plain data, the form in which they go to JSON files.

use super::curve::{self, Point};
use crate::load::run::{End, Finished, Kind, Plan};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latencies {
    /// Smallest.
    pub min_us: f64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Standard deviation.
    pub deviation_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90 of 100 operations were at most this slow.
    pub p90_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1,000.
    pub p999_us: f64,
    /// 9,999 of 10,000.
    pub p9999_us: f64,
    /// Largest.
    pub max_us: f64,
}

impl Latencies {
    /// Reads a histogram of nanoseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |percentile| histogram.value_at_percentile(percentile) as f64 / 1000.0;
        Self {
            min_us: histogram.min() as f64 / 1000.0,
            mean_us: histogram.mean() / 1000.0,
            deviation_us: histogram.stdev() / 1000.0,
            p50_us: at(50.0),
            p90_us: at(90.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            p9999_us: at(99.99),
            max_us: histogram.max() as f64 / 1000.0,
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Workload name.
    pub workload: &'static str,
    /// Servers, `host:port`.
    pub endpoints: Vec<String>,
    /// Clients with one request in flight each.
    pub clients: usize,
    /// HTTP/2 connections.
    pub connections: usize,
    /// Loader threads.
    pub threads: usize,
    /// Offered requests per second of an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Length of the measuring window, when it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// Number of operations, when it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Load before the window.
    pub warm_up_seconds: f64,
    /// Length of values.
    pub value_size_bytes: usize,
    /// Number of keys.
    pub key_space: u64,
    /// Watchers of a watch run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchers: Option<usize>,
    /// Limit of a list (0: all keys).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_limit: Option<u64>,
    /// Reads may be stale.
    pub serializable: bool,
}

impl Asked {
    /// Reads a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let (duration_seconds, total) = match plan.end {
            End::After(duration) => (Some(duration.as_secs_f64()), None),
            End::Total(total) => (None, Some(total)),
        };
        let (watchers, list_limit, serializable) = match plan.kind {
            Kind::Watch { watchers, .. } => (Some(watchers), None, false),
            Kind::Range { list_limit, serializable } => (None, list_limit, serializable),
            _ => (None, None, false),
        };
        Self {
            workload: plan.kind.name(),
            endpoints: plan.endpoints.iter().map(|at| at.authority().to_owned()).collect(),
            clients: plan.clients,
            connections: plan.connections,
            threads: plan.threads,
            rate: plan.rate,
            duration_seconds,
            total,
            warm_up_seconds: plan.warm_up.as_secs_f64(),
            value_size_bytes: plan.value_size_bytes,
            key_space: plan.key_space,
            watchers,
            list_limit,
            serializable,
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// What was asked for.
    pub asked: Asked,
    /// Begin of the measuring window, Unix time.
    pub began_unix_seconds: f64,
    /// Length of the measuring window.
    pub window_seconds: f64,
    /// Successful operations (events received, for a watch run).
    pub operations: u64,
    /// Of these, the ones completed within the window, per second of it.
    pub operations_per_second: f64,
    /// Latencies of all successful operations.
    pub latency: Latencies,
    /// The distribution of these latencies.
    pub curve: Vec<Point>,
    /// Failed operations by kind.
    pub errors: BTreeMap<String, u64>,
    /// Repeated optimistic updates.
    pub conflicts: u64,
    /// Puts of a watch run.
    pub puts: u64,
    /// Requests that the open loop could not send in time for the window's end.
    pub unsent: u64,
    /// Processor time of the loader per operation in the window.
    pub loader_cpu_us_per_operation: f64,
    /// The run was stopped early.
    pub interrupted: bool,
}

impl Figures {
    /// Puts the figures of a run together; `loader_cpu` is the loader's processor time within
    /// the window.
    #[must_use]
    pub fn of(plan: &Plan, finished: &Finished, loader_cpu: Duration) -> Self {
        let began = finished.began_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let operations = finished.window_operations.max(1) as f64;
        Self {
            asked: Asked::of(plan),
            began_unix_seconds: began.as_secs_f64(),
            window_seconds: finished.window.as_secs_f64(),
            operations: finished.measures.operations(),
            operations_per_second: finished.rate(),
            latency: Latencies::of(&finished.measures.latencies),
            curve: curve::curve(&finished.measures.latencies),
            errors: finished.measures.errors.clone(),
            conflicts: finished.measures.conflicts,
            puts: finished.measures.puts,
            unsent: finished.unsent,
            loader_cpu_us_per_operation: loader_cpu.as_secs_f64() * 1e6 / operations,
            interrupted: finished.interrupted,
        }
    }

    /// Failed operations of all kinds.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}
