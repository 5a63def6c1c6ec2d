//! A small disk that can be full: a file system in memory, where this process may mount one.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Directory;

/// A mounted file system of fixed size, gone with its owner.
pub struct SmallDisk {
    // Unmounted before the directory goes.
    mounted: Mount,
    _directory: Directory,
}

struct Mount(PathBuf);

impl SmallDisk {
    /// A disk of this size.
    ///
    /// # Errors
    /// Why there is none: mounting takes root.
    pub fn new(bytes: u64) -> Result<SmallDisk, String> {
        let directory = Directory::new();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]);
        let output = command.arg(directory.path()).output();
        let output = output.map_err(|error| format!("mount does not run: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(SmallDisk { mounted: Mount(directory.path().to_owned()), _directory: directory })
    }

    pub fn path(&self) -> &Path {
        &self.mounted.0
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Takes all space that is left.
    pub fn fill(&self) {
        static PIECE: [u8; 64 << 10] = [0x5a; 64 << 10];
        let mut file = File::create(self.filler()).expect("a file can be made");
        for size in [PIECE.len(), 4096] {
            // Ends at the first piece that finds no room.
            while file.write_all(&PIECE[..size]).is_ok() {}
        }
    }

    /// Gives the space back.
    pub fn empty(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process that is just ending may still have files open.
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
