//! The note of an orderly stop (`member/wal/STOPPED`): where the log ended.
//!
//! With it a start need not look through everything behind the end for frames that would prove
//! damage, and sees it when the end itself is damaged. It is removed, durably, before anything
//! new is written; without it, or when it can't be read, nothing is lost but that.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::directory::sync_directory;
use crate::log::scan::KnownEnd;

const NAME: &str = "STOPPED";

pub(super) fn write(wal: &Path, salt: u64, end: KnownEnd) -> io::Result<()> {
    let draft = wal.join("STOPPED.tmp");
    let mut file = File::create(&draft)?;
    file.write_all(text(salt, end).as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, wal.join(NAME))?;
    sync_directory(wal)
}

pub(super) fn read(wal: &Path, salt: u64) -> Option<KnownEnd> {
    let found = fs::read_to_string(wal.join(NAME)).ok()?;
    let mut lines = found.lines();
    let position = lines.next()?.strip_prefix("position ")?.parse().ok()?;
    let crc = u32::from_str_radix(lines.next()?.strip_prefix("crc ")?, 16).ok()?;
    let end = KnownEnd { position, crc };
    (found == text(salt, end)).then_some(end)
}

pub(super) fn remove(wal: &Path) -> io::Result<()> {
    match fs::remove_file(wal.join(NAME)) {
        Ok(()) => sync_directory(wal),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Two lines and their checksum, which the salt ties to one log.
fn text(salt: u64, end: KnownEnd) -> String {
    let lines = format!("position {}\ncrc {:08x}\n", end.position, end.crc);
    let crc = crc32fast::hash(format!("{salt:016x}\n{lines}").as_bytes());
    format!("{lines}crc32 {crc:08x}\n")
}
