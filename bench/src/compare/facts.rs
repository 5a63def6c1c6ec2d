//! The machine and the versions that figures were taken on: without them they mean nothing.

use serde::Serialize;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Time for a binary to tell its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Facts about the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    /// Processor model.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Kernel name and version.
    pub kernel: String,
    /// File system type, device and options beneath the data directories.
    pub filesystem: String,
    /// Version of the measuring tool.
    pub tool_version: String,
    /// The command that was run.
    pub command: String,
}

impl Facts {
    /// Looks around; `directory` is where servers keep their data.
    #[must_use]
    pub fn collect(directory: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        Self {
            processor: labelled(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: memory(&read("/proc/meminfo")),
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            filesystem: mount_of(&read("/proc/self/mounts"), &directory).unwrap_or_default(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            command: shell_words(std::env::args()),
        }
    }
}

fn labelled(text: &str, label: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(label))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory(meminfo: &str) -> u64 {
    let kibibytes = labelled(meminfo, "MemTotal")
        .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// The mount whose path is the longest prefix of `path`.
fn mount_of(mounts: &str, path: &Path) -> Option<String> {
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (device, at) = (fields.next()?, fields.next()?);
            let (kind, options) = (fields.next()?, fields.next()?);
            path.starts_with(at).then_some((at.len(), kind, device, options))
        })
        .max_by_key(|(length, ..)| *length)?;
    Some(format!("{} on {} ({})", mount.1, mount.2, mount.3))
}

/// Words as a shell would need them to be typed.
fn shell_words(words: impl Iterator<Item = String>) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c))
    };
    let quoted = |word: String| match plain(&word) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// What `binary --version` says first, or a word that it says nothing.
#[must_use]
pub fn version(binary: &Path) -> String {
    let unknown = || "unknown version".to_owned();
    let spawned = Command::new(binary)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else { return unknown() };
    let deadline = Instant::now() + VERSION_TIMEOUT;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill(); // it has ended, or took too long
    let mut text = String::new();
    if let Some(out) = child.stdout.take() {
        let _ = out.take(4096).read_to_string(&mut text); // an unreadable answer is an unknown one
    }
    let _ = child.wait(); // reaps
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    first.map_or_else(unknown, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_wins() {
        let mounts =
            "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw,nosuid 0 0\n/dev/b /tm xfs rw 0 0\n";
        for (path, expected) in [
            ("/home/x", "ext4 on /dev/a (rw)"),
            ("/tmp/x", "tmpfs on tmpfs (rw,nosuid)"),
            ("/tmpx", "ext4 on /dev/a (rw)"),
        ] {
            assert_eq!(mount_of(mounts, Path::new(path)).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn commands_can_be_typed_again() {
        let words = ["bench", "--peer", "a=etcd:/x --y", "it's", ""].map(str::to_owned);
        assert_eq!(shell_words(words.into_iter()), r"bench --peer 'a=etcd:/x --y' 'it'\''s' ''");
    }

    #[test]
    fn this_machine_has_facts() {
        let facts = Facts::collect(Path::new("."));
        assert!(facts.cores > 0 && facts.memory_bytes > 0, "{facts:?}");
        assert!(facts.kernel.len() > "Linux ".len() && !facts.filesystem.is_empty(), "{facts:?}");
        assert_eq!(version(Path::new("/no/such/binary")), "unknown version");
    }
}
