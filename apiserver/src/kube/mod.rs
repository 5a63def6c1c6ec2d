//! The Kubernetes door: requests to objects in storage, and back.
//!
//! `chain` is the order of everything that happens to a request; `registry` what all resources do
//! alike; `resources` what the schema table can't say; `storage` where objects are kept.

pub mod admission;
pub mod answer;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod chain;
pub mod codec;
pub mod compaction;
mod components;
pub mod controllers;
pub mod crd;
pub mod detached;
pub mod discovery;
pub mod dispatch;
pub mod documents;
pub mod encoding;
pub mod health;
pub mod limits;
pub mod lists;
pub mod measures;
pub mod object;
pub mod patch;
pub mod registry;
pub mod request;
pub mod resources;
pub mod schema;
pub mod server;
pub mod shape;
pub mod status;
pub mod storage;
pub mod table;
pub mod watch;

pub use server::{Kube, KubeOptions};
