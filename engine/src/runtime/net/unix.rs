//! Unix domain sockets: files that programs on the same machine connect to.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;

/// From making a socket to listening on it, at most.
const MOMENT: Duration = Duration::from_millis(50);

/// Moments that another process may take for its sockets in the same folder: five seconds.
const LOCK_ATTEMPTS: usize = 100;

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
    ///
    /// A socket that is made and does not listen yet looks as if it were left behind. So only one
    /// process at a time does this in a folder, and who does not know of that has a moment.
    pub fn bind(path: &Path, mode: u32) -> io::Result<UnixSocket> {
        let _alone = lock_folder(path)?;
        if check_free(path)? == Found::Stale {
            thread::sleep(MOMENT);
            if check_free(path)? == Found::Stale {
                fs::remove_file(path)?;
            }
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

/// Waits until no other process makes sockets in the folder of `path`; until the lock is dropped,
/// none does. `None` for a folder that we may not read: nothing can be locked there.
fn lock_folder(path: &Path) -> io::Result<Option<File>> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let folder = match File::open(parent) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        folder => folder?,
    };
    for _ in 0..LOCK_ATTEMPTS {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => thread::sleep(MOMENT),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    let text = format!("another process keeps {} locked", parent.display());
    Err(io::Error::new(io::ErrorKind::TimedOut, text))
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
    fn a_socket_that_does_not_listen_yet_is_not_taken_away() {
        let path = path("early");
        let others = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        others.bind(&SockAddr::unix(&path).expect("an address")).expect("it is free");
        assert_eq!(check_free(&path).expect("as if it were left"), Found::Stale);
        let listening = thread::spawn(move || {
            thread::sleep(MOMENT / 5);
            others.listen(BACKLOG).expect("bound");
            others
        });
        let refused = UnixSocket::bind(&path, 0o600).expect_err("it is another's");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(listening.join());
        fs::remove_file(&path).expect("it was left alone");

        // Another of us that is about to make a socket in the same folder.
        let folder = path.with_extension("folder");
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("s");
        let alone = lock_folder(&path).expect("nobody has it").expect("we may read it");
        let from = path.clone();
        let other = thread::spawn(move || UnixSocket::bind(&from, 0o600).map(drop));
        let first = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        first.bind(&SockAddr::unix(&path).expect("an address")).expect("it is free");
        thread::sleep(MOMENT * 4);
        first.listen(BACKLOG).expect("bound");
        drop(alone);
        let refused = other.join().expect("no panic").expect_err("it is the first one's");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        fs::remove_dir_all(&folder).expect("it is there");
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
