//! The Kubernetes door.

pub mod patch;
pub mod schema;
