//! A server under measurement: started on a fresh directory and free ports, always ended and its
//! directory always removed, whatever happens.

use super::peer::Peer;
use crate::load::grpc::{Channel, Endpoint, Method};
use crate::load::template::{self, KeyShape};
use crate::{interrupt, limits, sys};
use bytes::BytesMut;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The data directory's name beneath a scratch directory.
pub const DATA: &str = "data";

/// A directory that is removed with all it holds when this is dropped.
#[derive(Debug)]
pub struct ScratchDirectory {
    path: PathBuf,
}

impl ScratchDirectory {
    /// Makes a new directory beneath `parent`.
    ///
    /// # Errors
    /// The system's reason, with the path.
    pub fn create(parent: &Path, label: &str) -> Result<Self, String> {
        let path = parent.join(format!("mainstay-bench-{}-{label}", std::process::id()));
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::create_dir(&path))
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        let path = path.canonicalize().unwrap_or(path);
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("mainstay-bench: cannot remove {}: {error}", self.path.display());
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    started: Instant,
    endpoint: Endpoint,
    ready_after: Duration,
    /// `None` once it was handed on to the next server.
    directory: Option<ScratchDirectory>,
}

impl Server {
    /// Starts `peer` and waits until it answers a linearizable read.
    ///
    /// # Errors
    /// When it cannot be started, ends early or is not ready in time; with the end of its log.
    pub fn start(peer: &Peer, directory: ScratchDirectory) -> Result<Self, String> {
        let ports = free_ports()?;
        let flags = peer.flags(&directory.path().join(DATA), ports);
        let mut server = Self::spawn(peer, &flags, ports[0], directory)?;
        server.wait_ready(peer)?;
        Ok(server)
    }

    /// Starts `peer` with these flags, which name this port for clients and this directory; does
    /// not wait for an answer.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(
        peer: &Peer,
        flags: &[String],
        client_port: u16,
        directory: ScratchDirectory,
    ) -> Result<Self, String> {
        let log = File::options()
            .append(true)
            .create(true)
            .open(directory.path().join("log"))
            .map_err(|error| format!("cannot write the server's log: {error}"))?;
        let log_too = log.try_clone().map_err(|error| format!("cannot share the log: {error}"))?;
        let mut command = Command::new(&peer.path);
        command.args(flags).stdin(Stdio::null()).stdout(log).stderr(log_too);
        sys::end_with_parent(&mut command);
        let started = Instant::now();
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", peer.path.display()))?;
        let endpoint = Endpoint::parse(&format!("127.0.0.1:{client_port}"))?;
        let ready_after = Duration::ZERO;
        // From here on dropping the server ends the child.
        Ok(Self { child, started, endpoint, ready_after, directory: Some(directory) })
    }

    /// Waits until it answers a linearizable read.
    ///
    /// # Errors
    /// When it ends early or is not ready in time; with the end of its log.
    pub fn wait_ready(&mut self, peer: &Peer) -> Result<(), String> {
        self.wait_answer().map_err(|error| {
            format!("{}: {error}; the end of its log:\n{}", peer.name, self.log_end())
        })?;
        self.ready_after = self.started.elapsed();
        Ok(())
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Where clients find it.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// From its start to its first answer.
    #[must_use]
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// The last lines that it logged.
    #[must_use]
    pub fn log_end(&self) -> String {
        let path = self.directory.as_ref().map(|directory| directory.path().join("log"));
        let text = path.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.len().saturating_sub(limits::SERVER_LOG_LINES);
        lines.get(last..).unwrap_or_default().join("\n")
    }

    /// Asks it to end, and makes it end if it does not.
    pub fn stop(self) {
        drop(self.end(libc::SIGTERM));
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn data(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.path().join(DATA))
    }

    /// Ends it by this signal, and makes it end if it does not; its directory stays, for another
    /// server to go on with.
    pub fn end(mut self, signal: i32) -> Option<ScratchDirectory> {
        sys::signal_group(self.child.id(), signal);
        let deadline = Instant::now() + limits::SERVER_STOP_TIMEOUT;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.directory.take()
    }

    fn wait_answer(&mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start an event loop: {error}"))?;
        let mut last_error = String::from("no answer yet");
        while self.started.elapsed() < limits::SERVER_READY_TIMEOUT {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended with {status} before it was ready"));
            }
            if interrupt::requested() {
                return Err("stopped while waiting for it".to_owned());
            }
            let local = tokio::task::LocalSet::new();
            match local.block_on(&runtime, probe(&self.endpoint)) {
                Ok(()) => return Ok(()),
                Err(error) => last_error = error,
            }
            std::thread::sleep(limits::SERVER_PROBE_PAUSE);
        }
        Err(format!("not ready after {:?}: {last_error}", limits::SERVER_READY_TIMEOUT))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            sys::signal_group(self.child.id(), libc::SIGKILL);
            let _ = self.child.wait(); // reaps; nothing is left to do on an error
        }
    }
}

/// A linearizable read of one key: what a server answers only once it can serve.
async fn probe(endpoint: &Endpoint) -> Result<(), String> {
    let work = async {
        let channel = Channel::open(endpoint).await?;
        let request = template::get(&KeyShape::new("health", 1), false);
        let frame = request.render(0, 0, 0, &mut BytesMut::new());
        channel.unary(Method::Range, frame, limits::SERVER_PROBE_TIMEOUT).await
    };
    work.await.map(drop).map_err(|error| error.to_string())
}

/// Two ports that were free a moment ago, for clients and for peers.
///
/// # Errors
/// When there are none.
pub fn free_ports() -> Result<[u16; 2], String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = limits::SERVER_PORTS;
    // Processes that run side by side begin far from each other.
    let first = (std::process::id().wrapping_mul(101) % range.len() as u32) as u16;
    let free = || {
        (0..range.len()).find_map(|_| {
            let offset = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let port = range.start + offset % range.len() as u16;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
        })
    };
    free().zip(free()).map(<[u16; 2]>::from).ok_or_else(|| format!("no free port in {range:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(label: &str) -> ScratchDirectory {
        ScratchDirectory::create(&std::env::temp_dir(), label).unwrap()
    }

    #[test]
    fn a_scratch_directory_goes_with_its_owner() {
        let directory = scratch("test-scratch");
        let path = directory.path().to_owned();
        std::fs::write(path.join("file"), b"x").unwrap();
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn a_server_that_ends_early_is_told_with_its_log() {
        let peer = Peer::parse("wrong=mainstay:/bin/ls --no-such-flag").unwrap();
        let directory = scratch("test-early");
        let path = directory.path().to_owned();
        let error = Server::start(&peer, directory).unwrap_err();
        assert!(error.contains("before it was ready"), "{error}");
        assert!(error.contains("data-dir"), "what ls says of the first unknown flag: {error}");
        assert!(!path.exists(), "its directory is removed");
    }
}
