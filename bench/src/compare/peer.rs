//! Who takes part in a comparison, and the command line that starts it.

use std::path::{Path, PathBuf};

/// How a server is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// etcd's flags.
    Etcd,
    /// Those of `mainstay store`.
    Mainstay,
}

/// One server of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name in the report.
    pub name: String,
    /// Which flags it takes.
    pub kind: PeerKind,
    /// The binary.
    pub path: PathBuf,
    /// Further flags.
    pub arguments: Vec<String>,
}

/// A member's place in a cluster.
#[derive(Clone, Copy, Debug)]
pub struct MemberPlace<'a> {
    /// `--name`
    pub name: &'a str,
    /// For clients and for peers.
    pub ports: [u16; 2],
    /// `--initial-cluster`
    pub cluster: &'a str,
    /// `--initial-cluster-state`
    pub state: &'a str,
}

impl Peer {
    /// Parses `NAME=KIND:PATH`, with further flags behind the path, separated by spaces.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad =
            || format!("{text:?} is no peer, expected NAME=KIND:PATH with KIND etcd or mainstay");
        let (name, rest) = text.split_once('=').ok_or_else(bad)?;
        let (kind, command) = rest.split_once(':').ok_or_else(bad)?;
        let kind = match kind {
            "etcd" => PeerKind::Etcd,
            "mainstay" => PeerKind::Mainstay,
            _ => return Err(bad()),
        };
        let mut words = command.split_whitespace().map(str::to_owned);
        let path = words.next().ok_or_else(bad)?.into();
        if name.trim().is_empty() {
            return Err(bad());
        }
        Ok(Self { name: name.trim().to_owned(), kind, path, arguments: words.collect() })
    }

    /// Finds the binary, in PATH if it is a plain name.
    ///
    /// # Errors
    /// Says how to get it.
    pub fn locate(mut self) -> Result<Self, String> {
        match find(&self.path) {
            Some(path) => {
                self.path = path;
                Ok(self)
            }
            None => Err(match self.kind {
                PeerKind::Etcd => format!(
                    "etcd not found at {}. Install it (Debian and Ubuntu: apt-get install \
                     etcd-server; others: github.com/etcd-io/etcd/releases) or name it with \
                     --etcd-bin",
                    self.path.display()
                ),
                PeerKind::Mainstay => format!(
                    "mainstay not found at {}. Build it (cargo build --release --bin mainstay) \
                     or name it with --mainstay-bin",
                    self.path.display()
                ),
            }),
        }
    }

    /// The flags for a member of a cluster, with etcd's names for everything.
    #[must_use]
    pub fn member_flags(&self, directory: &Path, member: &MemberPlace<'_>) -> Vec<String> {
        let client_url = format!("http://127.0.0.1:{}", member.ports[0]);
        let peer_url = format!("http://127.0.0.1:{}", member.ports[1]);
        let mut flags: Vec<String> = match self.kind {
            PeerKind::Etcd => {
                ["--logger", "zap", "--log-outputs", "stderr"].map(str::to_owned).into()
            }
            PeerKind::Mainstay => vec!["store".to_owned()],
        };
        for (name, value) in [
            ("--name", member.name),
            ("--data-dir", &directory.display().to_string()),
            ("--listen-client-urls", &client_url),
            ("--advertise-client-urls", &client_url),
            ("--listen-peer-urls", &peer_url),
            ("--initial-advertise-peer-urls", &peer_url),
            ("--initial-cluster", member.cluster),
            ("--initial-cluster-state", member.state),
        ] {
            flags.extend([name.to_owned(), value.to_owned()]);
        }
        flags.extend(self.arguments.iter().cloned());
        flags
    }

    /// The flags for a fresh server on `ports` (clients, peers), with its data in `directory`.
    #[must_use]
    pub fn flags(&self, directory: &Path, ports: [u16; 2]) -> Vec<String> {
        let client_url = format!("http://127.0.0.1:{}", ports[0]);
        let peer_url = format!("http://127.0.0.1:{}", ports[1]);
        let directory = directory.display().to_string();
        let mut flags: Vec<String> = Vec::new();
        let mut flag = |name: &str, value: &str| flags.extend([name.to_owned(), value.to_owned()]);
        match self.kind {
            PeerKind::Etcd => {
                flag("--data-dir", &directory);
                flag("--listen-client-urls", &client_url);
                flag("--advertise-client-urls", &client_url);
                flag("--listen-peer-urls", &peer_url);
                flag("--initial-advertise-peer-urls", &peer_url);
                flag("--initial-cluster", &format!("default={peer_url}"));
                flag("--logger", "zap");
                flag("--log-outputs", "stderr");
            }
            PeerKind::Mainstay => {
                flags.push("store".to_owned());
                flags.extend(["--data-dir".to_owned(), directory]);
                flags.extend(["--listen-client-urls".to_owned(), client_url]);
            }
        }
        flags.extend(self.arguments.iter().cloned());
        flags
    }
}

/// The executable file at `path`; a plain name is looked up in PATH.
#[must_use]
pub fn find(path: &Path) -> Option<PathBuf> {
    if path.components().count() > 1 {
        return is_executable(path).then(|| path.to_owned());
    }
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories)
        .map(|directory| directory.join(path))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers() {
        let peer = Peer::parse("new=mainstay:/opt/m --cores 2").unwrap();
        assert_eq!((peer.name.as_str(), peer.kind), ("new", PeerKind::Mainstay));
        assert_eq!(peer.path, Path::new("/opt/m"));
        assert_eq!(peer.arguments, ["--cores", "2"]);
        for bad in ["", "etcd", "a=etcd", "a=zk:/z", "=etcd:/e", "a=etcd:", "a=etcd:  "] {
            assert!(Peer::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn flags_name_the_directory_and_the_ports() {
        let expected = "store --data-dir /d --listen-client-urls http://127.0.0.1:1 --cores 2";
        let mainstay = Peer::parse("m=mainstay:/m --cores 2").unwrap();
        assert_eq!(mainstay.flags(Path::new("/d"), [1, 2]).join(" "), expected);
        let etcd = Peer::parse("e=etcd:/e").unwrap().flags(Path::new("/d"), [1, 2]).join(" ");
        for part in
            ["--data-dir /d", "--listen-client-urls http://127.0.0.1:1", "http://127.0.0.1:2"]
        {
            assert!(etcd.contains(part), "{etcd}");
        }
    }

    #[test]
    fn members_of_both_kinds_take_the_same_flags() {
        let member = MemberPlace {
            name: "m1",
            ports: [1, 2],
            cluster: "m0=http://a:2,m1=http://b:2",
            state: "new",
        };
        for peer in ["m=mainstay:/m --x", "e=etcd:/e --x"] {
            let flags = Peer::parse(peer).unwrap().member_flags(Path::new("/d"), &member).join(" ");
            for part in [
                "--name m1",
                "--data-dir /d",
                "--listen-peer-urls http://127.0.0.1:2",
                "--initial-cluster m0=http://a:2,m1=http://b:2 --initial-cluster-state new --x",
            ] {
                assert!(flags.contains(part), "{part} is missing in {flags}");
            }
        }
    }

    #[test]
    fn a_missing_binary_says_how_to_get_it() {
        let error = Peer::parse("e=etcd:/no/such/etcd").unwrap().locate().unwrap_err();
        assert!(error.contains("etcd-server") && error.contains("/no/such/etcd"), "{error}");
        assert!(find(Path::new("sh")).is_some());
        assert_eq!(find(Path::new("/etc/passwd")), None, "not executable");
    }
}
