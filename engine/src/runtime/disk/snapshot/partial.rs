//! A snapshot of another member that is being received: `receiving.part` has its bytes, `receiving`
//! says what it is. A transfer goes on where it stopped, after a restart, too.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use mainstay_raft::{Membership, Snapshot, SnapshotPart};

use super::folder::SnapshotFolder;

const MAGIC: [u8; 8] = *b"MSTYPART";

/// Bytes of the fixed part of what says what it is.
const FACTS_BYTES: usize = 36;

/// What was received so far.
#[derive(Debug)]
pub struct Partial {
    folder: SnapshotFolder,
    snapshot: Option<Snapshot>,
    file: Option<File>,
    length: u64,
}

impl Partial {
    /// Finds what an earlier run received.
    pub fn open(folder: &SnapshotFolder) -> io::Result<Partial> {
        let mut partial = Partial { folder: folder.clone(), snapshot: None, file: None, length: 0 };
        let facts = match fs::read(partial.facts()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(partial),
            facts => facts?,
        };
        let Some(snapshot) = decode(&facts) else { return Ok(partial) };
        let file = OpenOptions::new().read(true).write(true).open(partial.bytes());
        if let Ok(file) = file {
            partial.length = file.metadata()?.len();
            partial.file = Some(file);
            partial.snapshot = Some(snapshot);
        }
        Ok(partial)
    }

    /// What is being received, and how many bytes of it are there.
    pub fn state(&self) -> Option<(Snapshot, u64)> {
        Some((self.snapshot.clone()?, self.length))
    }

    /// Takes a part, durably. One at offset 0 begins another snapshot.
    pub fn write(&mut self, part: &SnapshotPart) -> io::Result<()> {
        let same = self.snapshot.as_ref() == Some(&part.snapshot);
        if part.offset == 0 && !(same && self.length == 0) {
            self.begin(&part.snapshot)?;
        } else if !same || part.offset > self.length {
            return Err(io::Error::other("a part of a snapshot that does not follow"));
        }
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("nothing was begun"))?;
        file.write_all_at(&part.data, part.offset)?;
        file.sync_data()?;
        self.length = self.length.max(part.offset + part.data.len() as u64);
        Ok(())
    }

    /// The bytes that were received.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Forgets what was received.
    pub fn clear(&mut self) -> io::Result<()> {
        (self.snapshot, self.file, self.length) = (None, None, 0);
        for path in [self.facts(), self.bytes()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.folder.sync()
    }

    fn begin(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.clear()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(self.bytes())?;
        let draft = self.facts().with_extension("tmp");
        fs::write(&draft, encode(snapshot))?;
        File::open(&draft)?.sync_all()?;
        fs::rename(&draft, self.facts())?;
        self.folder.sync()?;
        self.file = Some(file);
        self.snapshot = Some(snapshot.clone());
        Ok(())
    }

    fn facts(&self) -> PathBuf {
        self.folder.path().join("receiving")
    }

    fn bytes(&self) -> PathBuf {
        self.folder.path().join("receiving.part")
    }
}

fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&[0; 4]);
    for number in [snapshot.index, snapshot.term, snapshot.fingerprint] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&snapshot.membership.encode());
    let crc = crc32fast::hash(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Snapshot> {
    let (facts, membership) = bytes.split_at_checked(FACTS_BYTES)?;
    let crc = u32::from_le_bytes(*facts.get(8..)?.first_chunk()?);
    if facts[..8] != MAGIC || crc32fast::hash(&bytes[12..]) != crc {
        return None;
    }
    let (words, _) = facts[12..].as_chunks::<8>();
    Some(Snapshot {
        index: u64::from_le_bytes(words[0]),
        term: u64::from_le_bytes(words[1]),
        fingerprint: u64::from_le_bytes(words[2]),
        membership: Membership::decode(membership)?,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::runtime::disk::DataDirectory;
    use crate::runtime::disk::tests::TestDirectory;

    fn snapshot(index: u64) -> Snapshot {
        let membership = Membership::of_voters(&[4, 9]);
        Snapshot { index, term: 3, fingerprint: index * 77, membership }
    }

    fn part(index: u64, offset: u64, data: &'static [u8]) -> SnapshotPart {
        let data = Bytes::from_static(data);
        SnapshotPart { snapshot: snapshot(index), offset, data, done: false }
    }

    #[test]
    fn a_transfer_goes_on_where_it_stopped() {
        let directory = TestDirectory::new();
        let opened = DataDirectory::open(&directory.0).unwrap();
        let folder = opened.snapshots().unwrap();
        let mut partial = Partial::open(&folder).unwrap();
        assert_eq!(partial.state(), None);
        partial.write(&part(8, 0, b"one ")).unwrap();
        partial.write(&part(8, 4, b"two ")).unwrap();
        assert!(partial.write(&part(8, 9, b"a gap")).is_err());
        assert!(partial.write(&part(9, 8, b"another")).is_err());
        // A start removes what was not completed, but not this.
        let folder = opened.snapshots().unwrap();
        let mut partial = Partial::open(&folder).unwrap();
        assert_eq!(partial.state(), Some((snapshot(8), 8)));
        partial.write(&part(8, 8, b"three")).unwrap();
        assert_eq!(fs::read(partial.bytes()).unwrap(), b"one two three");
        partial.write(&part(9, 0, b"new")).unwrap();
        assert_eq!(Partial::open(&folder).unwrap().state(), Some((snapshot(9), 3)));
        let facts = fs::read(partial.facts()).unwrap();
        for place in 0..facts.len() {
            let mut damaged = facts.clone();
            damaged[place] ^= 4;
            fs::write(partial.facts(), damaged).unwrap();
            assert_eq!(Partial::open(&folder).unwrap().state(), None, "byte {place}");
        }
        partial.clear().unwrap();
        assert_eq!(Partial::open(&folder).unwrap().state(), None);
    }
}
