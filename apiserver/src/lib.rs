//! The doors of Mainstay: etcd v3 and Kubernetes.

pub mod cli;
pub mod duration;
pub mod etcd;
pub mod kube;
pub mod log;
pub mod membership;
pub mod metrics;
pub mod net;
pub mod open_files;
pub mod pki;
pub mod serve;
