//! The doors of Mainstay: etcd v3 and Kubernetes.

pub mod etcd;
pub mod kube;
pub mod metrics;
pub mod net;
