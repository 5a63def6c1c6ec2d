//! Files that appear when they are complete, and checksums at their end.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use mainstay_bbolt::etcd::write::{Chunks, Contents, KeyVersion};
use mainstay_bbolt::reader::{FileSource, Source};

use crate::failure::Failure;
use crate::progress::Progress;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Bytes of a database made and written at once.
const WRITE_BYTES: usize = 1 << 20;

/// Bytes of the checksum that `etcdctl snapshot save` puts behind a database.
const SUM_BYTES: u64 = 32;

/// A database is a multiple of this long, so that a checksum behind it shows.
const SECTOR_BYTES: u64 = 512;

/// A file that is being written under another name.
pub(crate) struct Draft {
    path: PathBuf,
    draft: PathBuf,
    file: File,
}

impl Draft {
    /// Fails when `path` is there: nothing is overwritten.
    pub(crate) fn create(path: &Path) -> Result<Draft, Failure> {
        if path.exists() {
            return Err(Failure::other(format!("{} is there already", path.display())));
        }
        let draft = beside(path, ".part");
        let file = File::create(&draft).map_err(Failure::file("creating", &draft))?;
        Ok(Draft { path: path.to_owned(), draft, file })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(Failure::file("writing", &self.draft))
    }

    /// Makes it durable, then gives it its name.
    pub(crate) fn complete(self) -> Result<(), Failure> {
        self.file.sync_all().map_err(Failure::file("writing", &self.draft))?;
        fs::rename(&self.draft, &self.path).map_err(Failure::file("renaming", &self.draft))?;
        sync_parent(&self.path)
    }
}

impl Drop for Draft {
    /// Nobody wants half of it. There is nothing to remove once it has its name.
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.draft);
    }
}

/// Writes a database with its checksum at the end. Gives the length.
pub(crate) fn write_database<V: KeyVersion>(
    path: &Path,
    contents: Arc<Contents<V>>,
) -> Result<u64, Failure> {
    let mut draft = Draft::create(path)?;
    let plan = contents.plan();
    let mut chunks = Chunks::new(contents, plan);
    let mut context = digest::Context::new(&digest::SHA256);
    let mut progress = Progress::new("writing");
    let mut written = 0;
    while let Some(chunk) = chunks.next_chunk(WRITE_BYTES) {
        context.update(&chunk);
        draft.write(&chunk)?;
        written += chunk.len() as u64;
        progress.show(written, plan.file_bytes());
    }
    draft.write(context.finish().as_ref())?;
    draft.complete()?;
    progress.end();
    Ok(written + SUM_BYTES)
}

/// A path in the same folder, with more at the end of its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Makes the names in the folder of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Failure> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|folder| folder.sync_all());
    synced.map_err(Failure::file("syncing", parent))
}

/// Whether there is a checksum behind the database of this length.
pub(crate) fn has_sum(length: u64) -> bool {
    length % SECTOR_BYTES == SUM_BYTES
}

/// Checks the checksum at the end of a file that has one.
pub(crate) fn check_sum(path: &Path, source: &FileSource) -> Result<(), Failure> {
    let mut progress = Progress::new("checking the checksum");
    let mut context = digest::Context::new(&digest::SHA256);
    let length = source.length() - SUM_BYTES;
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    let read = |offset, buffer: &mut [u8]| {
        source.read(offset, buffer).map_err(Failure::file("reading", path))
    };
    while offset < length {
        let bytes = (length - offset).min(READ_BYTES as u64) as usize;
        read(offset, &mut buffer[..bytes])?;
        context.update(&buffer[..bytes]);
        offset += bytes as u64;
        progress.show(offset, length);
    }
    progress.end();
    let mut sum = [0; SUM_BYTES as usize];
    read(length, &mut sum)?;
    if context.finish().as_ref() != sum {
        return Err(Failure::other(format!(
            "{}: the checksum at its end does not match: the file was damaged or cut. Save the \
             snapshot anew; --skip-hash-check reads it as it is",
            path.display()
        )));
    }
    Ok(())
}
