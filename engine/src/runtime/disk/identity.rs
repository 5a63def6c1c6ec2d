//! `member/identity`: who this member is, and of which cluster. Text for people, with a checksum;
//! written under a temporary name, synced and renamed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::directory::sync_directory;
use super::error::DiskError;
use crate::cluster::MemberInfo;

/// The version of the file, and the only one that this program reads.
const VERSION: &str = "mainstay-identity 1";

/// Who a member is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    pub cluster_id: u64,
    /// Raft's id of this member, too. Not 0.
    pub member_id: u64,
    /// Which life of this member it is: another one after its disk was lost.
    pub incarnation: u64,
    /// Who votes where the log begins. None for a member that joins: the log tells it.
    pub voters: Vec<u64>,
    /// Where others are, as was known when this was written.
    pub members: Vec<MemberInfo>,
}

fn file(root: &Path) -> PathBuf {
    root.join("member").join("identity")
}

/// What is noted; `None` when nothing was.
pub(super) fn read(root: &Path, salt: u64) -> Result<Option<Identity>, DiskError> {
    let path = file(root);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::directory(root, "reading member/identity")(error)),
    };
    let wrong = "its lines or their checksum are wrong, or it is of another data directory";
    parse(&text, salt).map(Some).ok_or(DiskError::BadFormat { path, reason: wrong.to_owned() })
}

pub(super) fn write(root: &Path, salt: u64, identity: &Identity) -> Result<(), DiskError> {
    let failed = DiskError::directory(root, "writing member/identity");
    let text = text(identity, salt).map_err(&failed)?;
    put(&file(root), &text).map_err(failed)
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("tmp");
    let mut output = File::create(&draft)?;
    output.write_all(text.as_bytes())?;
    output.sync_all()?;
    fs::rename(&draft, path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// One fact a line; the last line is the checksum of those before, begun with the directory's salt.
fn text(identity: &Identity, salt: u64) -> io::Result<String> {
    let Identity { cluster_id, member_id, incarnation, voters, members } = identity;
    let mut lines = vec![
        VERSION.to_owned(),
        format!("cluster {cluster_id:016x}"),
        format!("member {member_id:016x}"),
        format!("incarnation {incarnation}"),
    ];
    lines.extend(voters.iter().map(|voter| format!("voter {voter:016x}")));
    for info in members {
        let id = info.id;
        lines.push(format!("known {id:016x}{}", if info.is_learner { " learner" } else { "" }));
        lines.push(format!("name {}", info.name));
        lines.extend(info.peer_urls.iter().map(|url| format!("peer-url {url}")));
        lines.extend(info.client_urls.iter().map(|url| format!("client-url {url}")));
    }
    if lines.iter().any(|line| line.contains(['\n', '\r'])) {
        return Err(io::Error::other("a name or an address with a line break in it"));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    let crc = checksum(&text, salt);
    writeln!(text, "crc32 {crc:08x}").map_err(io::Error::other)?;
    Ok(text)
}

fn checksum(text: &str, salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"identity");
    hasher.update(&salt.to_le_bytes());
    hasher.update(text.as_bytes());
    hasher.finalize()
}

fn parse(whole: &str, salt: u64) -> Option<Identity> {
    let facts = whole.strip_suffix('\n')?.rsplit_once('\n')?.0;
    let mut identity = Identity::default();
    let mut lines = facts.lines();
    if lines.next() != Some(VERSION) {
        return None;
    }
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    for line in lines {
        let (what, value) = line.split_once(' ')?;
        match what {
            "cluster" => identity.cluster_id = hex(value)?,
            "member" => identity.member_id = hex(value)?,
            "incarnation" => identity.incarnation = value.parse().ok()?,
            "voter" => identity.voters.push(hex(value)?),
            "known" => {
                let learner = value.strip_suffix(" learner");
                let (id, is_learner) = (hex(learner.unwrap_or(value))?, learner.is_some());
                identity.members.push(MemberInfo { id, is_learner, ..MemberInfo::default() });
            }
            "name" => value.clone_into(&mut identity.members.last_mut()?.name),
            "peer-url" => identity.members.last_mut()?.peer_urls.push(value.to_owned()),
            "client-url" => identity.members.last_mut()?.client_urls.push(value.to_owned()),
            _ => return None,
        }
    }
    let same = text(&identity, salt).is_ok_and(|again| again == whole);
    (same && identity.member_id != 0).then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::disk::DataDirectory;
    use crate::runtime::disk::tests::TestDirectory;

    fn identity() -> Identity {
        let urls = |texts: &[&str]| texts.iter().map(|&url| url.to_owned()).collect();
        let one = MemberInfo {
            id: 7,
            name: "one and only".to_owned(),
            peer_urls: urls(&["http://a:2380", "http://b:2380"]),
            client_urls: urls(&["http://a:2379"]),
            is_learner: false,
        };
        let two = MemberInfo { id: u64::MAX, is_learner: true, ..MemberInfo::default() };
        Identity {
            cluster_id: 0xfeed,
            member_id: 7,
            incarnation: 3,
            voters: vec![7, 9],
            members: vec![one, two],
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let directory = TestDirectory::new();
        let opened = DataDirectory::open(&directory.0).unwrap();
        assert_eq!(opened.identity(), Ok(None));
        for expected in [identity(), Identity { members: Vec::new(), ..identity() }] {
            opened.write_identity(&expected).unwrap();
            assert_eq!(opened.identity(), Ok(Some(expected)));
        }
        let path = directory.0.join("member/identity");
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert!(opened.identity().is_err(), "byte {place}");
            fs::write(&path, &whole[..place]).unwrap();
            assert!(opened.identity().is_err(), "{place} bytes");
        }
        assert_eq!(parse(std::str::from_utf8(&whole).unwrap(), 1), None, "of another directory");
    }

    #[test]
    fn names_that_would_be_lines_are_refused() {
        let mut identity = identity();
        identity.members[0].name = "a\nvoter 1".to_owned();
        assert!(text(&identity, 5).is_err());
    }
}
