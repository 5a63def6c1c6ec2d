//! What carries bytes between members: TCP, or what a door's crate makes of it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use futures_util::io::{AsyncRead, AsyncWrite};

use super::limits::DIAL_TIMEOUT;
use crate::peer::PeerUrl;
use crate::runtime::net::{Listener, Stream};

/// A future of this core.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A connection, encrypted or not.
pub trait PeerStream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> PeerStream for S {}

pub type BoxedStream = Box<dyn PeerStream>;

/// A connection that somebody has opened.
pub struct Incoming {
    /// Where it comes from, for people.
    pub address: String,
    /// The connection, when it is good to use: TLS may have a handshake to do.
    pub stream: LocalFuture<'static, io::Result<BoxedStream>>,
}

/// Opens connections to peers, and is opened connections to. Used on one core.
pub trait PeerNetwork: Send + Sync {
    /// Connects to a peer.
    fn dial(&self, url: &PeerUrl) -> LocalFuture<'static, io::Result<BoxedStream>>;

    /// Listens wherever it is meant to.
    fn listen(&self) -> io::Result<Vec<Box<dyn PeerListener>>>;
}

/// One place where peers connect to.
pub trait PeerListener {
    /// The next connection.
    fn accept(&self) -> LocalFuture<'_, io::Result<Incoming>>;
}

/// Members that trust the network between them: TCP, not encrypted.
#[derive(Debug, Clone, Default)]
pub struct PlainNetwork {
    /// Where to listen.
    pub addresses: Vec<SocketAddr>,
}

impl PeerNetwork for PlainNetwork {
    fn dial(&self, url: &PeerUrl) -> LocalFuture<'static, io::Result<BoxedStream>> {
        let url = url.clone();
        Box::pin(async move {
            if url.tls {
                let text = format!("{url} takes TLS, which is not set up here");
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            let stream = Stream::connect(&url.host, url.port, DIAL_TIMEOUT).await?;
            Ok(Box::new(stream) as BoxedStream)
        })
    }

    fn listen(&self) -> io::Result<Vec<Box<dyn PeerListener>>> {
        let listen = |address: &SocketAddr| match Listener::tcp(*address) {
            Ok(listener) => Ok(Box::new(PlainListener(listener)) as Box<dyn PeerListener>),
            Err(error) => Err(io::Error::new(error.kind(), format!("{address}: {error}"))),
        };
        self.addresses.iter().map(listen).collect()
    }
}

struct PlainListener(Listener);

impl PeerListener for PlainListener {
    fn accept(&self) -> LocalFuture<'_, io::Result<Incoming>> {
        Box::pin(async {
            let stream = self.0.accept().await?;
            let address = stream.peer_address().map_or_else(String::new, |peer| peer.to_string());
            let ready = async move { Ok(Box::new(stream) as BoxedStream) };
            Ok(Incoming { address, stream: Box::pin(ready) })
        })
    }
}
