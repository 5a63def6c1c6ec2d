//! Accepts connections on this core and serves them until shutdown.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use http::{Request, Response};
use mainstay_engine::runtime::net::{Listener, Stream};
use mainstay_engine::runtime::{spawn_local, timer};

use super::body::{BoxedBody, RequestBody};
use super::http::{ConnectionInfo, Server};
use super::limits;
use super::refuse::refuse;
use super::tls::Acceptor;
use crate::cli::{ListenAddress, LogLevel};
use crate::log;

pub use super::refuse::Gate;

/// A port, or a socket's file, that can't be served on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {error}{hint}")]
pub struct PortError {
    address: ListenAddress,
    error: io::Error,
    hint: &'static str,
}

impl PortError {
    pub fn new(address: ListenAddress, error: io::Error) -> PortError {
        let is_unix = matches!(address, ListenAddress::Unix(_));
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse if is_unix => {
                ". Another process listens there: stop that one, or choose another path"
            }
            io::ErrorKind::AddrInUse => {
                ". Another process has it: stop that one, or choose another port"
            }
            io::ErrorKind::PermissionDenied if !is_unix => {
                ". Ports below 1024 need privileges: choose another port"
            }
            io::ErrorKind::AddrNotAvailable => ". This machine has no such address",
            io::ErrorKind::NotFound => ". Its directory has to be there",
            _ => "",
        };
        PortError { address, error, hint }
    }
}

/// Connections open on this core; counts down when dropped.
struct Open(Rc<Cell<usize>>);

impl Open {
    fn new(count: &Rc<Cell<usize>>) -> Open {
        count.set(count.get() + 1);
        Open(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Serves those whom `gate` lets in at `listener` (with TLS when `acceptor` is given) until shutdown is requested; returns when
/// the last connection has ended, or [`limits::SHUTDOWN_GRACE`] later.
///
/// Each connection is a task of its own: one that hangs delays no other.
pub async fn serve<H, F>(
    server: Server,
    listener: Listener,
    gate: Arc<Gate>,
    acceptor: Option<Acceptor>,
    handler: H,
) where
    H: Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> F + Clone + 'static,
    F: Future<Output = Response<BoxedBody>> + 'static,
{
    let open = Rc::new(Cell::new(0));
    accept(server, listener, gate, acceptor, handler, &open).await;
    drain(&open).await;
}

/// Until shutdown; the socket is closed when this returns.
async fn accept<H, F>(
    server: Server,
    listener: Listener,
    gate: Arc<Gate>,
    acceptor: Option<Acceptor>,
    handler: H,
    open: &Rc<Cell<usize>>,
) where
    H: Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> F + Clone + 'static,
    F: Future<Output = Response<BoxedBody>> + 'static,
{
    let refusing = Rc::new(Cell::new(0));
    loop {
        let accepted = {
            let accept = pin!(listener.accept());
            match select(accept, pin!(server.shutdown().requested())).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => return,
            }
        };
        match accepted {
            Ok(stream) => {
                let Some(admitted) = gate.enter() else {
                    gate.say(timer::monotonic_ms());
                    refuse(stream, acceptor.is_some(), &refusing, server.buffer());
                    continue;
                };
                let guard = (Open::new(open), admitted);
                let (server, acceptor, handler) =
                    (server.clone(), acceptor.clone(), handler.clone());
                spawn_local(async move {
                    // A streamed answer that panics takes its connection along, and no other.
                    let connection = connection(server, stream, acceptor, handler);
                    let _panicked = AssertUnwindSafe(connection).catch_unwind().await;
                    drop(guard);
                });
            }
            Err(error) => {
                log::write(LogLevel::Warn, format_args!("can't accept a connection: {error}"));
                timer::sleep(limits::ACCEPT_RETRY).await;
            }
        }
    }
}

async fn connection<H, F>(server: Server, stream: Stream, acceptor: Option<Acceptor>, handler: H)
where
    H: Fn(Request<RequestBody>, Rc<ConnectionInfo>) -> F + 'static,
    F: Future<Output = Response<BoxedBody>> + 'static,
{
    let mut info =
        ConnectionInfo { peer_address: stream.peer_address(), ..ConnectionInfo::default() };
    let peer_address = info.peer_address;
    let ended = match acceptor {
        None => server.serve_connection(stream, Rc::new(info), handler).await,
        Some(acceptor) => match acceptor.accept(stream, &mut info).await {
            Ok(stream) => server.serve_connection(stream, Rc::new(info), handler).await,
            Err(error) => Err(error.into()),
        },
    };
    // A client's business (it closed, it spoke nonsense, it let us wait): it ends the connection
    // and nothing else, and only those who look for it hear of it.
    if let Err(error) = ended {
        let peer = peer_address.map_or_else(|| "a Unix socket".to_owned(), |peer| peer.to_string());
        log::write(LogLevel::Debug, format_args!("connection of {peer} ended: {error}"));
    }
}

async fn drain(open: &Cell<usize>) {
    const STEP: Duration = Duration::from_millis(10);
    let steps = limits::SHUTDOWN_GRACE.as_millis() / STEP.as_millis() + 10;
    for _ in 0..steps {
        if open.get() == 0 {
            return;
        }
        timer::sleep(STEP).await;
    }
}
