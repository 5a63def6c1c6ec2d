//! The load generator: what is sent (`template`, `workload`, `watch`), over which wire (`wire`,
//! `grpc`), when (`pacer`), what is measured (`recorder`), and the threads that do it (`run`).
//! `command` is the `mainstay-bench etcd` command around it.

pub mod command;
pub mod grpc;
pub mod lease_object;
pub mod pacer;
pub mod random;
pub mod recorder;
pub mod run;
pub mod template;
pub mod watch;
pub mod wire;
pub mod worker;
pub mod workload;
