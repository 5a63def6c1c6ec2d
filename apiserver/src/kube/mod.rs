//! The Kubernetes door.

pub mod schema;
