//! Sockets of this core.

#![allow(unsafe_code)] // glommio takes a prepared socket only as a raw descriptor

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::io::{AsyncRead, AsyncWrite};
use glommio::net as glommio_net;
use socket2::{Domain, Protocol, Socket, Type};

/// A listening TCP socket. Each core binds the same address (SO_REUSEPORT); the kernel spreads
/// connections over them.
pub struct TcpListener(glommio_net::TcpListener);

/// Fails when something else listens on `address`; gives it back, with a free port for port 0.
///
/// The listeners of this process share their port among the cores, and the kernel would let a
/// second process of the same user join them in silence. So the port is tried first by a socket
/// that does not share. That one is also refused while the kernel remembers connections of a
/// process that has ended, which is no reason not to start: then an answer to a connection tells.
pub fn check_free(address: SocketAddr) -> io::Result<SocketAddr> {
    match try_bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match std::net::TcpStream::connect_timeout(&own(address), CONNECT_TIMEOUT) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => Ok(address),
                _ => Err(error),
            }
        }
        bound => bound,
    }
}

/// Binds for a moment. It does not listen: a client that is trying all the time would get a connection
/// that goes away, and whose remains then hold the port.
fn try_bind(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// How long a listener on this machine may take to let a connection in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections that wait for [`TcpListener::accept`]; what glommio asks for, too.
const BACKLOG: i32 = 1024;

/// An address to reach a listener on `address` by.
fn own(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

impl TcpListener {
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // glommio's own bind leaves this out, and then a port that another program (an etcd that
        // was stopped just now) had connections on stays taken for a minute.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        // SAFETY: the descriptor is an open listening socket, and `into_raw_fd` has given up its
        // only owner: glommio's listener is the new one.
        let listener = unsafe { glommio_net::TcpListener::from_raw_fd(socket.into_raw_fd()) };
        Ok(TcpListener(listener))
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
