//! Files that are there as a whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::PkiError;

/// Permissions of keys.
pub(super) const SECRET: u32 = 0o600;
/// Permissions of certificates.
pub(super) const PUBLIC: u32 = 0o644;

pub(super) fn create_directory(path: &Path) -> Result<(), PkiError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| at(path, error))
}

/// The file's text; `None` when it is not there.
pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path, error)),
    }
}

/// The content of a file that must be there.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, PkiError> {
    fs::read(path).map_err(|error| at(path, error))
}

/// Writes beside the file, then renames: a crash leaves the old file or the new one.
pub(super) fn write(path: &Path, content: &str, mode: u32) -> Result<(), PkiError> {
    write_and_rename(path, content, mode).map_err(|error| at(path, error))
}

fn write_and_rename(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    // What a crash left there may have other permissions.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn at(path: &Path, error: io::Error) -> PkiError {
    PkiError::File { path: path.to_owned(), error }
}
