//! Sockets of this core.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::io::{AsyncRead, AsyncWrite};

/// A listening TCP socket. Each core binds the same address (SO_REUSEPORT); the kernel spreads
/// connections over them.
pub struct TcpListener(());

impl TcpListener {
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        let _ = address;
        todo!()
    }

    pub fn local_address(&self) -> io::Result<SocketAddr> {
        todo!()
    }

    /// The next connection, with Nagle's algorithm off.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        todo!()
    }
}

/// A connection that lives on this core.
pub struct TcpStream(());

impl TcpStream {
    pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let _ = address;
        todo!()
    }

    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        todo!()
    }

    /// Reads without consuming: which protocol does the client speak?
    pub async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = buffer;
        todo!()
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        todo!()
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        todo!()
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        todo!()
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        todo!()
    }
}
