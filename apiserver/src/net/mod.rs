//! Bytes to requests: sockets, TLS, HTTP/1.1, HTTP/2 and gRPC framing.
//!
//! A door calls [`listener::serve`] with a handler; the handler gets requests and the facts about
//! the connection, and answers with a body that may stream. Knows nothing of etcd or Kubernetes.

pub mod body;
pub mod bounds;
pub mod grpc;
pub mod held;
pub mod http;
pub mod http2;
pub mod limits;
pub mod listener;
mod pace;
pub mod peers;
mod refuse;
mod rt;
pub mod tls;

pub use body::{BoxError, BoxedBody, Effective, RequestBody};
pub use bounds::Bounds;
pub use http::{ConnectionInfo, Server};
