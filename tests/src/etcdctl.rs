//! The real `etcdctl`, when this machine has one.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a line may take on a busy machine.
const LINE_TIMEOUT: Duration = Duration::from_secs(20);

/// Says loudly that something went untested, and why.
pub fn skipped(what: &str) {
    let _lost = writeln!(std::io::stderr(), "NOT TESTED: {what}: etcdctl is not on PATH");
}

pub fn is_present() -> bool {
    Command::new("etcdctl").arg("version").stdout(Stdio::null()).status().is_ok()
}

/// etcdctl against one server.
#[derive(Debug, Clone)]
pub struct Etcdctl {
    endpoint: String,
    flags: Vec<String>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Said {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Etcdctl {
    /// `endpoint` as in `127.0.0.1:2379`.
    pub fn new(endpoint: &str) -> Etcdctl {
        Etcdctl { endpoint: endpoint.to_owned(), flags: Vec::new() }
    }

    /// Gives `flags` to every command.
    pub fn with(self, flags: Vec<String>) -> Etcdctl {
        Etcdctl { flags, ..self }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg("--command-timeout=20s")
            .arg(format!("--endpoints={}", self.endpoint))
            .args(&self.flags)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, with `input` on standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Said {
        let mut child = self.command(arguments).spawn().expect("etcdctl starts");
        // A command that takes no input may have ended already.
        let _closed = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("our own child");
        Said {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed; gives what it said.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run_with(arguments, "");
        assert!(said.success, "etcdctl {arguments:?}: {}{}", said.stdout, said.stderr);
        said.stdout
    }

    /// Runs a command that must fail; gives what it said.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str]) -> String {
        let said = self.run_with(arguments, "");
        assert!(!said.success, "etcdctl {arguments:?} succeeded: {}", said.stdout);
        said.stderr
    }

    /// Starts a command that goes on, such as `watch`.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self.command(arguments).spawn().expect("etcdctl starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines }
    }
}

/// A command that goes on until it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// The next lines that it prints, joined by `|`.
    #[track_caller]
    pub fn next(&mut self, count: usize) -> String {
        let mut found: Vec<String> = Vec::new();
        while found.len() < count {
            match self.lines.recv_timeout(LINE_TIMEOUT) {
                Ok(line) => found.push(line),
                Err(error) => panic!("{error} after {found:?}"),
            }
        }
        found.join("|")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
