//! A real `mainstay` process for a test: built once, started on a free port with a data directory
//! of its own, killed at the end.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

/// How long a start may take on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a stop may take: the server's own grace and some.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// The line that tells that everything is served.
const READY: &str = "ready to serve client requests";

/// The server, built the first time that a test of this process asks for it.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build("mainstay-apiserver", "mainstay"))
}

/// The operator's tool, likewise.
pub fn mainstayctl() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build("mainstay-tools", "mainstayctl"))
}

fn build(package: &str, name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // target/PROFILE/deps/test
    let directory = test.ancestors().nth(2).expect("a target directory").to_owned();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "-p", package, "--bin", name]);
    if directory.ends_with("release") {
        build.arg("--release");
    }
    let status = build.status().expect("cargo runs");
    assert!(status.success(), "{name} does not build");
    directory.join(name)
}

/// A directory that goes away with the test.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "mainstay-test-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory can be made");
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Directory {
    fn default() -> Directory {
        Directory::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server.
#[derive(Debug)]
pub struct Mainstay {
    child: Child,
    /// What it serves etcd clients on, as `127.0.0.1:PORT`.
    pub etcd: String,
    /// All that it said on standard output until it was ready.
    pub banner: String,
    stderr: Arc<Mutex<String>>,
}

impl Mainstay {
    /// `mainstay store` with its data in `directory`, and more flags.
    pub fn store(directory: &Path, flags: &[&str]) -> Mainstay {
        let mut command = Command::new(binary());
        command.arg("store").arg("--data-dir").arg(directory);
        if !flags.iter().any(|flag| flag.starts_with("--listen-client-urls")) {
            command.arg("--listen-client-urls=http://127.0.0.1:0");
        }
        command.args(flags);
        Mainstay::spawn(command)
    }

    /// `mainstay serve`: etcd and Kubernetes, on free ports.
    pub fn serve(directory: &Path, flags: &[&str]) -> Mainstay {
        let mut command = Command::new(binary());
        command.arg("serve").arg("--data-dir").arg(directory);
        command.args(["--listen-client-urls=http://127.0.0.1:0", "--secure-port=0"]);
        command.args(flags);
        Mainstay::spawn(command)
    }

    fn spawn(mut command: Command) -> Mainstay {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let said = stderr.clone();
        let mut errors = child.stderr.take().expect("piped");
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = errors.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                said.lock().expect("no panic while held").push_str(&text);
            }
        });
        let (lines, received) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Mainstay { child, etcd: String::new(), banner: String::new(), stderr };
        let deadline = Instant::now() + START_TIMEOUT;
        while !server.banner.contains(READY) {
            let left = deadline.saturating_duration_since(Instant::now());
            match received.recv_timeout(left) {
                Ok(line) => server.banner += &format!("{line}\n"),
                Err(_) => {
                    panic!("no ready line; stdout: {}stderr: {}", server.banner, server.stderr())
                }
            }
        }
        let url = server.banner.lines().find_map(|line| line.trim().strip_prefix("etcd v3:"));
        let url = url.expect("the banner names the URL").trim();
        server.etcd = url.split_once("://").expect("a URL").1.to_owned();
        server
    }

    /// What it said on standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic while held").clone()
    }

    /// Bytes of memory that it has now.
    pub fn memory_bytes(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
        kilobytes.and_then(|text| text.trim().parse::<usize>().ok()).expect("a number") << 10
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// Sends a signal, by name without SIG.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .expect("kill runs");
        assert!(status.success(), "kill -{name}");
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(Instant::now() < deadline, "does not stop; stderr: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }
}

impl Drop for Mainstay {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server said on standard error:\n{}", self.stderr());
        }
    }
}
