//! The doors of Mainstay: etcd v3 and Kubernetes.

pub mod kube;
pub mod net;
