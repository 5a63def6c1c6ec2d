//! The Kubernetes door.

pub mod codec;
pub mod discovery;
pub mod patch;
pub mod schema;
