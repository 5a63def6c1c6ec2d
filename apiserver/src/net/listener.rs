//! Accepts connections on this core and serves them until shutdown.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::{Request, Response};
use hyper::body::Incoming;
use mainstay_engine::runtime::net::{TcpListener, TcpStream};
use mainstay_engine::runtime::{spawn_local, timer};

use super::body::BoxedBody;
use super::http::{ConnectionInfo, Server};
use super::limits;
use super::tls::Acceptor;

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

/// Serves `listener` (with TLS when `acceptor` is given) until shutdown is requested; returns when
/// the last connection has ended, or [`limits::SHUTDOWN_GRACE`] later.
///
/// Each connection is a task of its own: one that hangs delays no other.
pub async fn serve<H, F>(
    server: Server,
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    handler: H,
) where
    H: Fn(Request<Incoming>, Rc<ConnectionInfo>) -> F + Clone + 'static,
    F: Future<Output = Response<BoxedBody>> + 'static,
{
    let open = Rc::new(Cell::new(0));
    accept(server, listener, acceptor, handler, &open).await;
    drain(&open).await;
}

/// Until shutdown; the socket is closed when this returns.
async fn accept<H, F>(
    server: Server,
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    handler: H,
    open: &Rc<Cell<usize>>,
) where
    H: Fn(Request<Incoming>, Rc<ConnectionInfo>) -> F + Clone + 'static,
    F: Future<Output = Response<BoxedBody>> + 'static,
{
    loop {
        let accepted = {
            let accept = pin!(listener.accept());
            match select(accept, pin!(server.shutdown().requested())).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => return,
            }
        };
        match accepted {
            // Closed at once: a client sees a reset and tries again elsewhere or later.
            Ok(_) if open.get() >= limits::CONNECTIONS_PER_CORE => {}
            Ok(stream) => {
                let guard = Open::new(open);
                let (server, acceptor, handler) =
                    (server.clone(), acceptor.clone(), handler.clone());
                spawn_local(async move {
                    connection(server, stream, acceptor, handler).await;
                    drop(guard);
                });
            }
            Err(_) => timer::sleep(limits::ACCEPT_RETRY).await,
        }
    }
}

async fn connection<H, F>(server: Server, stream: TcpStream, acceptor: Option<Acceptor>, handler: H)
where
    H: Fn(Request<Incoming>, Rc<ConnectionInfo>) -> F + 'static,
    F: Future<Output = Response<BoxedBody>> + 'static,
{
    let mut info =
        ConnectionInfo { peer_address: stream.peer_address().ok(), ..ConnectionInfo::default() };
    // Errors here are a client's business (it closed, it spoke nonsense, it let us wait) and an
    // open door to fill a log: they end the connection and nothing else.
    let _ended = match acceptor {
        None => server.serve_connection(stream, Rc::new(info), handler).await,
        Some(acceptor) => match acceptor.accept(stream, &mut info).await {
            Ok(stream) => server.serve_connection(stream, Rc::new(info), handler).await,
            Err(error) => Err(error.into()),
        },
    };
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
