//! Sockets of this core: TCP and Unix domain streams, which are alike once they are open.
//!
//! `ports` finds out whether a TCP port is taken, `unix` makes socket files and takes them away.

#![allow(unsafe_code)] // glommio takes a prepared socket only as a raw descriptor

mod ports;
mod unix;

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::io::{AsyncRead, AsyncWrite};
use glommio::net as glommio_net;
use socket2::{Domain, Protocol, Socket, Type};

pub use ports::check_free;
pub use unix::{UnixSocket, check_free as check_path_free};

/// Connections that wait for [`Listener::accept`]; what glommio asks for, too.
const BACKLOG: i32 = 1024;

/// A listening socket, as one core has it.
pub struct Listener {
    /// glommio's listener asks nothing of its socket that a Unix one has not.
    listener: glommio_net::TcpListener,
    /// Taken away once the last core is done with it. `None` for TCP.
    unix: Option<Arc<UnixSocket>>,
}

impl Listener {
    /// Listens on a TCP port. Each core binds the same address (SO_REUSEPORT); the kernel spreads
    /// connections over them.
    pub fn tcp(address: SocketAddr) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // glommio's own bind leaves this out, and then a port that another program (an etcd that
        // was stopped just now) had connections on stays taken for a minute.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Listener { listener: listener(socket), unix: None })
    }

    /// Accepts connections to a Unix socket that other cores accept from, too.
    pub fn unix(socket: &Arc<UnixSocket>) -> io::Result<Listener> {
        let unix = Some(socket.clone());
        Ok(Listener { listener: listener(socket.duplicate()?), unix })
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Stream> {
        loop {
            match self.listener.accept().await.map_err(io::Error::from) {
                // Another core was faster.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => return Stream::new(accepted?, self.unix.is_some()),
            }
        }
    }
}

/// Gives a listening socket to this core's executor.
fn listener(socket: Socket) -> glommio_net::TcpListener {
    // SAFETY: the descriptor is an open listening socket, and `into_raw_fd` has given up its
    // only owner: glommio's listener is the new one.
    unsafe { glommio_net::TcpListener::from_raw_fd(socket.into_raw_fd()) }
}

/// A connection that lives on this core.
pub struct Stream {
    stream: glommio_net::TcpStream,
    is_unix: bool,
}

impl Stream {
    fn new(stream: glommio_net::TcpStream, is_unix: bool) -> io::Result<Stream> {
        if !is_unix {
            // Nagle's algorithm would hold small answers back.
            stream.set_nodelay(true)?;
        }
        Ok(Stream { stream, is_unix })
    }

    /// Connects to a host, at whichever of its addresses answers first, each of which has `patience`.
    pub async fn connect(host: &str, port: u16, patience: Duration) -> io::Result<Stream> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses(host, port).await? {
            match glommio_net::TcpStream::connect_timeout(address, patience).await {
                Ok(stream) => return Stream::new(stream, false),
                Err(error) => failure = error.into(),
            }
        }
        Err(failure)
    }

    /// Where the client is; `None` for one on a Unix socket.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        if self.is_unix { None } else { self.stream.peer_addr().ok() }
    }
}

/// Names are looked up by the system, which may take its time: on another thread.
async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    let look_up = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
    super::blocking(look_up).await
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
