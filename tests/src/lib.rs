//! Tests of Mainstay as a whole: real processes, real clients, recorded scenarios.

pub mod cluster;
pub mod etcd;
pub mod etcdctl;
pub mod fuzz;
pub mod grpc;
pub mod history;
pub mod http;
pub mod kubectl;
pub mod linearizability;
pub mod migration;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod simulation;
pub mod tls;
pub mod users;
pub mod watch_history;
