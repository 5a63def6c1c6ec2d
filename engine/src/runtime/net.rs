//! Sockets of this core.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::io::{AsyncRead, AsyncWrite};
use glommio::net as glommio_net;

/// A listening TCP socket. Each core binds the same address (SO_REUSEPORT); the kernel spreads
/// connections over them.
pub struct TcpListener(glommio_net::TcpListener);

/// Fails when something else listens on `address`.
///
/// The listeners of this process share their port among the cores, and the kernel would let a
/// second process of the same user join them. So the port is tried first by a socket that does not
/// share.
pub fn check_free(address: SocketAddr) -> io::Result<()> {
    std::net::TcpListener::bind(address).map(drop)
}

impl TcpListener {
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        Ok(TcpListener(glommio_net::TcpListener::bind(address)?))
    }

    pub fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// The next connection, with Nagle's algorithm off.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        TcpStream::new(self.0.accept().await?)
    }
}

/// A connection that lives on this core.
pub struct TcpStream(glommio_net::TcpStream);

impl TcpStream {
    fn new(stream: glommio_net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nodelay(true)?;
        Ok(TcpStream(stream))
    }

    pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::new(glommio_net::TcpStream::connect(address).await?)
    }

    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        Ok(self.0.peer_addr()?)
    }

    /// Reads without consuming: which protocol does the client speak?
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.peek(buffer).await?)
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(context)
    }
}
