//! Unix domain sockets: files that programs on the same machine connect to.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;

/// A listening socket file. Taken away when it is dropped, if it still is the one that was made.
#[derive(Debug)]
pub struct UnixSocket {
    socket: Socket,
    path: PathBuf,
    identity: (u64, u64),
}

impl UnixSocket {
    /// Makes the file, with `mode` as its permissions (connecting takes the right to write), and
    /// listens. A file that a process left behind which did not end well is replaced.
    pub fn bind(path: &Path, mode: u32) -> io::Result<UnixSocket> {
        if check_free(path)? == Found::Stale {
            fs::remove_file(path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // Before anybody can connect.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        let identity = identity(path)?;
        socket.listen(BACKLOG)?;
        Ok(UnixSocket { socket, path: path.to_owned(), identity })
    }

    pub(super) fn duplicate(&self) -> io::Result<Socket> {
        self.socket.try_clone()
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Who can't take it away leaves a stale one, which the next start replaces.
            let _left = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// What is where a socket should be.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// A socket that nobody listens on any more.
    Stale,
}

/// Fails when somebody listens on `path`, or when there is something that is no socket: it may be
/// dear to somebody.
pub fn check_free(path: &Path) -> io::Result<Found> {
    let address = SockAddr::unix(path)?;
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let text = "there is a file that is no socket: move it away, or choose another path";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener that is too busy to accept would let us wait.
    socket.set_nonblocking(true)?;
    match socket.connect(&address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Found::Stale),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("mainstay-{name}-{}", std::process::id()));
        let _absent = fs::remove_file(&path);
        path
    }

    #[test]
    fn a_socket_is_made_with_its_permissions_and_goes_when_it_is_dropped() {
        let path = path("socket");
        for mode in [0o600, 0o660] {
            let socket = UnixSocket::bind(&path, mode).expect("nobody is there");
            let found = fs::symlink_metadata(&path).expect("it is there");
            assert_eq!(found.permissions().mode() & 0o777, mode);
            UnixStream::connect(&path).expect("it listens");
            let refused = UnixSocket::bind(&path, mode).expect_err("somebody listens");
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[test]
    fn only_a_stale_socket_is_replaced() {
        let path = path("stale");
        drop(UnixListener::bind(&path).expect("it is free"));
        assert_eq!(check_free(&path).expect("stale"), Found::Stale);
        let socket = UnixSocket::bind(&path, 0o600).expect("the stale one is replaced");

        // Somebody else's file in its place is left alone.
        fs::remove_file(&path).expect("it is there");
        fs::write(&path, "dear").expect("the place is free");
        drop(socket);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "dear");
        let refused = UnixSocket::bind(&path, 0o600).expect_err("no socket");
        assert!(refused.to_string().contains("no socket"), "{refused}");
        fs::remove_file(&path).expect("it is there");

        let long = Path::new("/tmp").join("x".repeat(200));
        assert!(UnixSocket::bind(&long, 0o600).is_err(), "longer than the system allows");
    }
}
