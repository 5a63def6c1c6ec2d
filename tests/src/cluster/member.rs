//! One member: its command line, its process, its log.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a stop may take before it is a failure: the server's own grace and some.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a question for its health may take: etcd writes nothing for it, but reads by a quorum.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Lines of a log that go with a failure.
const LOG_LINES: usize = 40;

/// Whose members these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Etcd,
    Mainstay,
}

impl Kind {
    /// What the environment wants tested: Mainstay, unless `MAINSTAY_TEST_CLUSTER=etcd` asks for the control.
    pub fn under_test() -> Kind {
        match std::env::var("MAINSTAY_TEST_CLUSTER").as_deref() {
            Ok("etcd") => Kind::Etcd,
            Ok("mainstay") | Err(_) => Kind::Mainstay,
            Ok(other) => panic!("MAINSTAY_TEST_CLUSTER={other}: expected etcd or mainstay"),
        }
    }

    /// Etcd's members need its binary; says loudly when it is missing.
    pub fn is_present(self, what: &str) -> bool {
        self == Kind::Mainstay || crate::etcd::is_present(what)
    }
}

/// Where a member listens and what it tells others, as `HOST:PORT`.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub(crate) client: String,
    pub(crate) peer_listen: String,
    pub(crate) peer_advertised: String,
}

/// What all members of a cluster are started with.
pub(super) struct Launch<'a> {
    pub(super) kind: Kind,
    /// `--initial-cluster`
    pub(super) cluster: &'a str,
    /// `--initial-cluster-state`
    pub(super) state: &'a str,
    pub(super) token: &'a str,
    pub(super) flags: &'a [String],
    /// Words before the command, for a place of its own in the network.
    pub(super) prefix: &'a [String],
}

pub(super) struct Member {
    pub(super) name: String,
    pub(super) addresses: Addresses,
    pub(super) data: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    paused: std::cell::Cell<bool>,
}

impl Member {
    pub(super) fn new(number: usize, addresses: Addresses, data: PathBuf, log: PathBuf) -> Member {
        let paused = std::cell::Cell::new(false);
        Member { name: format!("m{number}"), addresses, data, log, child: None, paused }
    }

    /// Starts it; gives the number of its process.
    pub(super) fn launch(&mut self, launch: &Launch<'_>) -> u32 {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let mut words: Vec<String> = launch.prefix.to_vec();
        match launch.kind {
            Kind::Etcd => words.extend(["etcd".to_owned(), "--logger=zap".to_owned()]),
            Kind::Mainstay => {
                let binary = crate::process::binary().display().to_string();
                words.extend([binary, "store".to_owned()]);
            }
        }
        let url = |address: &str| format!("http://{address}");
        for (flag, value) in [
            ("name", self.name.clone()),
            ("data-dir", self.data.display().to_string()),
            ("listen-client-urls", url(&self.addresses.client)),
            ("advertise-client-urls", url(&self.addresses.client)),
            ("listen-peer-urls", url(&self.addresses.peer_listen)),
            ("initial-advertise-peer-urls", url(&self.addresses.peer_advertised)),
            ("initial-cluster", launch.cluster.to_owned()),
            ("initial-cluster-state", launch.state.to_owned()),
            ("initial-cluster-token", launch.token.to_owned()),
        ] {
            words.push(format!("--{flag}={value}"));
        }
        words.extend(launch.flags.iter().cloned());
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log");
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {}: {error}", words[0]));
        let process = child.id();
        self.child = Some(child);
        self.paused.set(false);
        process
    }

    pub(super) fn started(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it runs and is not paused: it would answer.
    pub(super) fn responds(&self) -> bool {
        self.started() && !self.paused.get()
    }

    pub(super) fn is_running(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        child.try_wait().expect("our own child").is_none()
    }

    pub(super) fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it was started");
        let command =
            Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
        assert!(command.expect("kill runs").success(), "kill -{name}");
        match name {
            "STOP" => self.paused.set(true),
            "CONT" => self.paused.set(false),
            _ => {}
        }
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended_by_itself = child.kill();
            child.wait().expect("our own child");
        }
    }

    pub(super) fn stop(&mut self) {
        self.signal("TERM");
        let mut child = self.child.take().expect("it was started");
        let deadline = Instant::now() + STOP_TIMEOUT;
        while child.try_wait().expect("our own child").is_none() {
            if Instant::now() > deadline {
                let _ended_by_itself = child.kill();
                panic!("{} does not stop within {STOP_TIMEOUT:?}:\n{}", self.name, self.log_end());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks over HTTP, as a load balancer would.
    pub(super) fn is_healthy(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let address: SocketAddr =
                self.addresses.client.parse().map_err(std::io::Error::other)?;
            let mut stream = TcpStream::connect_timeout(&address, HEALTH_TIMEOUT)?;
            stream.set_read_timeout(Some(HEALTH_TIMEOUT))?;
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.contains(r#""health":"true""#))
    }

    pub(super) fn log_text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(super) fn log_end(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

/// A port of this machine that nobody listens on, outside the range that outgoing connections take theirs from: a member
/// that starts again finds it free.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    // Processes that run side by side begin far from each other.
    let start = (std::process::id().wrapping_mul(101) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(offset) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT);
}
