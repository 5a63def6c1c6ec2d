//! Counters of the doors, for Prometheus.
//!
//! [`registry`] counts, each core for itself in memory of its own, and [`server`] for the process;
//! [`page`] adds the cores up and writes the text, with etcd's names where they mean the same here.

mod page;
mod peers;
mod process;
mod registry;
mod server;

pub use page::{CONTENT_TYPE, render};
pub use registry::{CallGuard, CoreMetrics, Counter, Gauge, of_core};
pub use server::{ServerMetrics, server};
