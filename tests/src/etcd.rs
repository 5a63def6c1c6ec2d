//! A real `etcd` process for a test, when this machine has one.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a start may take on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether both `etcd` and `etcdctl` are on PATH; says loudly when they are not.
pub fn is_present(what: &str) -> bool {
    let etcd = Command::new("etcd").arg("--version").stdout(Stdio::null()).status();
    let present = etcd.is_ok() && crate::etcdctl::is_present();
    if !present {
        eprintln!("NOT TESTED: {what}: etcd or etcdctl is not on PATH");
    }
    present
}

/// A running etcd, killed at the end.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    /// What it serves clients on, as `127.0.0.1:PORT`.
    pub address: String,
    said: Arc<Mutex<String>>,
}

impl Etcd {
    /// A cluster of one, with its data in `directory`.
    pub fn start(directory: &Path) -> Etcd {
        let (client, peer) = (free_port(), free_port());
        let client_url = format!("http://127.0.0.1:{client}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        let mut child = Command::new("etcd")
            .arg("--data-dir")
            .arg(directory)
            .arg(format!("--listen-client-urls={client_url}"))
            .arg(format!("--advertise-client-urls={client_url}"))
            .arg(format!("--listen-peer-urls={peer_url}"))
            .arg(format!("--initial-advertise-peer-urls={peer_url}"))
            .arg(format!("--initial-cluster=default={peer_url}"))
            .args(["--name=default", "--logger=zap"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcd starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (mut errors, text) = (child.stderr.take().expect("piped"), said.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = errors.read(&mut buffer) {
                let more = String::from_utf8_lossy(&buffer[..length]);
                text.lock().expect("no panic while held").push_str(&more);
            }
        });
        let mut etcd = Etcd { child, address: format!("127.0.0.1:{client}"), said };
        etcd.wait();
        etcd
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if is_healthy(&self.address) {
                return;
            }
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "etcd ended: {ended:?}: {}", self.stderr());
            assert!(Instant::now() < deadline, "etcd does not start: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it said on standard error so far.
    pub fn stderr(&self) -> String {
        self.said.lock().expect("no panic while held").clone()
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(status.expect("kill runs").success());
        self.child.wait().expect("our own child");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Asks over HTTP: users and roles have no say there.
fn is_healthy(address: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(r#""health":"true""#))
}

/// A port that nobody listened on a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}
