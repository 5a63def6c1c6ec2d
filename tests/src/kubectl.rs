//! The real `kubectl`, when this machine has one.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a line, or a state that is waited for, may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Says loudly that something went untested, and why.
pub fn skipped(what: &str) {
    let _lost = writeln!(std::io::stderr(), "NOT TESTED: {what}: kubectl is not on PATH");
}

pub fn is_present() -> bool {
    let mut command = Command::new("kubectl");
    command.args(["version", "--client"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// kubectl against one server.
#[derive(Debug, Clone)]
pub struct Kubectl {
    kubeconfig: PathBuf,
    /// kubectl keeps discovery documents here; by server and port, so not to be shared.
    cache: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Said {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Kubectl {
    /// `data_dir` is the server's: its kubeconfig lies there.
    pub fn new(data_dir: &Path) -> Kubectl {
        Kubectl {
            kubeconfig: data_dir.join("admin.kubeconfig"),
            cache: data_dir.join("kubectl-cache"),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBE_CACHE_DIR", &self.cache)
            .env_remove("KUBE_EDITOR")
            .arg(format!("--cache-dir={}", self.cache.display()))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn finish(mut command: Command, input: &str) -> Said {
        let mut child = command.spawn().expect("kubectl starts");
        // A command that takes no input may have ended already.
        let _closed = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("our own child");
        Said {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command to its end, with `input` on standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Said {
        Kubectl::finish(self.command(arguments), input)
    }

    /// What a command that works prints.
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with(arguments, "")
    }

    /// The same, with `input` on standard input.
    pub fn ok_with(&self, arguments: &[&str], input: &str) -> String {
        let said = self.run_with(arguments, input);
        assert!(said.success, "kubectl {arguments:?}: {}{}", said.stdout, said.stderr);
        said.stdout
    }

    /// What a command that is refused says.
    pub fn fails(&self, arguments: &[&str], input: &str) -> String {
        let said = self.run_with(arguments, input);
        assert!(!said.success, "kubectl {arguments:?} worked: {}", said.stdout);
        said.stderr
    }

    /// The object that a command prints, as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["-o", "json"]].concat();
        serde_json::from_str(&self.ok(&arguments)).expect("kubectl prints JSON")
    }

    /// `kubectl edit` with a shell command as the editor; it gets the file as its last word.
    pub fn edit(&self, arguments: &[&str], editor: &str) -> Said {
        let mut command = self.command(&[&["edit"], arguments].concat());
        command.env("KUBE_EDITOR", editor);
        Kubectl::finish(command, "")
    }

    /// Runs a command until it works; for states that come a little later.
    pub fn until(&self, arguments: &[&str], wanted: impl Fn(&Said) -> bool) -> Said {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let said = self.run_with(arguments, "");
            if wanted(&said) {
                return said;
            }
            assert!(Instant::now() < deadline, "kubectl {arguments:?} still says {said:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Starts a command that goes on, such as a watch.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self.command(arguments).spawn().expect("kubectl starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines }
    }
}

/// A command that goes on; it ends with this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// The next line that it prints.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(TIMEOUT).expect("kubectl prints another line")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
