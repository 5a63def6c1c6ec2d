//! The fixed parts of a snapshot file: header, block headers, footer.
//!
//! All checksums begin with a seed made of the directory's salt and the snapshot's index, so that
//! no file of another directory, and none under another name, passes for this one. Each block's
//! header holds the checksum of the header before, and of its payload: the footer, which holds the
//! last one, so vouches for every byte.

use crate::record::Revision;

/// The newest version of snapshot files, and the newest that this program reads.
pub const FORMAT_VERSION: u32 = 2;

/// The version of those of a member that has no cluster, as there always were.
const VERSION_ALONE: u32 = 1;

/// The version of those that other members of the cluster may use, too.
const VERSION_CLUSTER: u32 = 2;

/// Blocks start at multiples of this many bytes: what rkyv needs to read them in place.
pub const ALIGNMENT: usize = 16;

/// The file is a multiple of this long, so that it can be written with direct I/O.
pub const FILE_ALIGNMENT: usize = 4096;

pub const HEADER_BYTES: usize = 128;

/// Where in the header the salt of the file's checksums is, from version 2 on.
const SALT_OFFSET: usize = 76;

pub const BLOCK_HEADER_BYTES: usize = 32;
pub const FOOTER_BYTES: usize = 96;

/// The largest payload of a block: one record as large as the log can hold, with its key.
pub const PAYLOAD_BYTES_MAX: usize = crate::limits::LOG_PAYLOAD_BYTES + (64 << 10);

/// Runs that a file may have: far more than there can be cores.
pub const RUNS_MAX: u32 = 1 << 16;

const MAGIC: [u8; 8] = *b"MSTYSNAP";
const BLOCK_MAGIC: [u8; 4] = *b"MSSB";
const FOOTER_MAGIC: [u8; 8] = *b"MSTYDONE";

/// What is known when a snapshot begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Raft's index, its term and the store's revision that are committed as it begins: whoever
    /// loads it goes on with the entry behind this one.
    pub index: u64,
    pub term: u64,
    pub revision: Revision,
    /// What history had been compacted to.
    pub compacted: Revision,
    /// Raft's promises, durable as it begins.
    pub raft_term: u64,
    pub raft_vote: u64,
    pub raft_commit: u64,
    /// How many sorted runs of records there are: one of each shard.
    pub runs: u32,
    /// The cluster that this is the state of; 0 for a member that has none, whose snapshots say
    /// nothing of members.
    pub cluster_id: u64,
}

/// Whose data directory it is in which a snapshot is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    pub salt: u64,
    /// Snapshots of other members of this cluster are as good as its own; 0 for no cluster.
    pub cluster_id: u64,
}

/// A member without a cluster.
impl From<u64> for Owner {
    fn from(salt: u64) -> Owner {
        Owner { salt, cluster_id: 0 }
    }
}

/// What is known when a snapshot is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// What was committed when its last slice was taken. The log must hold it.
    pub index: u64,
    pub revision: Revision,
}

/// The last bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footer {
    pub end: End,
    /// Where the directory's blocks begin; they go on up to the footer.
    pub directory_offset: u64,
    /// All blocks, those of the directory included.
    pub blocks: u32,
    /// The last block's header checksum.
    pub last_crc: u32,
    pub records: u64,
    pub leases: u64,
    pub documents: u64,
    /// Bytes of the keys and values of records that are no tombstones.
    pub live_bytes: u64,
    pub file_bytes: u64,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    Records,
    Leases,
    Documents,
    /// An encoded [`mainstay_raft::Membership`]: in force where the snapshot begins.
    Membership,
    Directory,
}

impl BlockKind {
    pub fn number(self) -> u32 {
        match self {
            BlockKind::Records => 1,
            BlockKind::Leases => 2,
            BlockKind::Documents => 3,
            BlockKind::Directory => 4,
            BlockKind::Membership => 5,
        }
    }

    pub fn from_number(number: u32) -> Option<BlockKind> {
        let all = [
            BlockKind::Records,
            BlockKind::Leases,
            BlockKind::Documents,
            BlockKind::Directory,
            BlockKind::Membership,
        ];
        all.into_iter().find(|kind| kind.number() == number)
    }
}

/// The beginning of a block, without its own checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// Of the payload and its padding.
    pub payload_crc: u32,
    /// The header checksum of the block before, the file header's for the first.
    pub previous_crc: u32,
    /// Counts the blocks from 0.
    pub number: u32,
    pub kind: BlockKind,
    /// Bytes, without the padding.
    pub payload_length: u32,
    /// Which run the records are of; 0 for other kinds.
    pub run: u32,
}

/// The starting value of all checksums of one snapshot.
pub fn seed(salt: u64, index: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"snapshot");
    hasher.update(&salt.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    hasher.finalize()
}

fn checksum(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// The checksum of a block's payload with its padding.
pub fn payload_crc(seed: u32, padded: &[u8]) -> u32 {
    checksum(seed, padded)
}

/// Bytes that a block with this payload takes, header and padding included.
pub fn block_bytes(payload_length: usize) -> usize {
    BLOCK_HEADER_BYTES + payload_length.next_multiple_of(ALIGNMENT)
}

/// Little-endian fields, one behind the other.
struct Fields<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let field = self.bytes[self.offset..].first_chunk::<N>().expect("the length was checked");
        self.offset += N;
        *field
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn revision(&mut self) -> Revision {
        Revision::from_le_bytes(self.array())
    }

    /// Whether all that is left is zero.
    fn rest_is_zero(&self) -> bool {
        self.bytes[self.offset..].iter().all(|&byte| byte == 0)
    }
}

/// A header that was read, with its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read<T> {
    pub value: T,
    pub crc: u32,
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    #[error("the file is too short")]
    Short,
    #[error("{0} does not begin here")]
    Magic(&'static str),
    #[error("format {0}")]
    Newer(u32),
    #[error("the checksum of {0} does not match")]
    Checksum(&'static str),
    #[error("{0}")]
    Wrong(&'static str),
}

impl Header {
    pub fn encode(&self, salt: u64) -> Read<[u8; HEADER_BYTES]> {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version().to_le_bytes());
        put(
            &mut bytes[16..],
            &[
                &self.index.to_le_bytes(),
                &self.term.to_le_bytes(),
                &self.revision.to_le_bytes(),
                &self.compacted.to_le_bytes(),
                &self.raft_term.to_le_bytes(),
                &self.raft_vote.to_le_bytes(),
                &self.raft_commit.to_le_bytes(),
                &self.runs.to_le_bytes(),
            ],
        );
        if self.cluster_id != 0 {
            put(&mut bytes[SALT_OFFSET..], &[&salt.to_le_bytes(), &self.cluster_id.to_le_bytes()]);
        }
        let crc = header_crc(seed(salt, self.index), &bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        Read { value: bytes, crc }
    }

    /// The index that a header says its snapshot has; to be believed once it was decoded with it.
    pub fn claimed_index(bytes: &[u8]) -> Option<u64> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        (bytes[0..8] == MAGIC).then(|| Fields { bytes, offset: 16 }.u64())
    }

    fn version(&self) -> u32 {
        if self.cluster_id == 0 { VERSION_ALONE } else { VERSION_CLUSTER }
    }

    /// The header, and the salt that the file's checksums begin with. Total: any bytes give an
    /// answer.
    pub fn decode(bytes: &[u8], owner: Owner, index: u64) -> Result<(Read<Header>, u64), Defect> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Defect::Short)?;
        if bytes[0..8] != MAGIC {
            return Err(Defect::Magic("a snapshot"));
        }
        let mut fields = Fields { bytes, offset: 8 };
        let (version, crc) = (fields.u32(), fields.u32());
        let own = Fields { bytes, offset: SALT_OFFSET }.u64();
        let salt = if version >= VERSION_CLUSTER { own } else { owner.salt };
        if crc != header_crc(seed(salt, index), bytes) {
            return Err(Defect::Checksum("the header (of another directory or snapshot, too)"));
        }
        if version > FORMAT_VERSION {
            return Err(Defect::Newer(version));
        }
        let mut header = Header {
            index: fields.u64(),
            term: fields.u64(),
            revision: fields.revision(),
            compacted: fields.revision(),
            raft_term: fields.u64(),
            raft_vote: fields.u64(),
            raft_commit: fields.u64(),
            runs: fields.u32(),
            cluster_id: 0,
        };
        if version >= VERSION_CLUSTER {
            fields.u64();
            header.cluster_id = fields.u64();
        }
        let sound = fields.rest_is_zero()
            && header.index == index
            && (1..=RUNS_MAX).contains(&header.runs)
            && header.revision > 0
            && (0..=header.revision).contains(&header.compacted)
            && version == header.version();
        if !sound {
            return Err(Defect::Wrong("the header contradicts itself"));
        }
        if salt != owner.salt && header.cluster_id != owner.cluster_id {
            return Err(Defect::Wrong("the snapshot is of another cluster"));
        }
        Ok((Read { value: header, crc }, salt))
    }
}

/// Of everything but the field that holds it.
fn header_crc(seed: u32, bytes: &[u8; HEADER_BYTES]) -> u32 {
    checksum(checksum(seed, &bytes[..12]), &bytes[16..])
}

fn put(target: &mut [u8], fields: &[&[u8]]) {
    let mut offset = 0;
    for field in fields {
        target[offset..offset + field.len()].copy_from_slice(field);
        offset += field.len();
    }
}

impl BlockHeader {
    pub fn encode(&self, seed: u32) -> Read<[u8; BLOCK_HEADER_BYTES]> {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&BLOCK_MAGIC);
        put(
            &mut bytes[8..],
            &[
                &self.payload_crc.to_le_bytes(),
                &self.previous_crc.to_le_bytes(),
                &self.number.to_le_bytes(),
                &self.kind.number().to_le_bytes(),
                &self.payload_length.to_le_bytes(),
                &self.run.to_le_bytes(),
            ],
        );
        let crc = checksum(seed, &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        Read { value: bytes, crc }
    }

    /// Total: any bytes give an answer.
    pub fn decode(bytes: &[u8], seed: u32) -> Result<Read<BlockHeader>, Defect> {
        let bytes: &[u8; BLOCK_HEADER_BYTES] = bytes.first_chunk().ok_or(Defect::Short)?;
        if bytes[0..4] != BLOCK_MAGIC {
            return Err(Defect::Magic("a block"));
        }
        let mut fields = Fields { bytes, offset: 4 };
        let crc = fields.u32();
        if crc != checksum(seed, &bytes[8..]) {
            return Err(Defect::Checksum("a block's header"));
        }
        let (payload_crc, previous_crc, number) = (fields.u32(), fields.u32(), fields.u32());
        let kind = BlockKind::from_number(fields.u32());
        let kind = kind.ok_or(Defect::Wrong("a block of unknown kind"))?;
        let (payload_length, run) = (fields.u32(), fields.u32());
        if payload_length as usize > PAYLOAD_BYTES_MAX {
            return Err(Defect::Wrong("a block that is too large"));
        }
        let value = BlockHeader { payload_crc, previous_crc, number, kind, payload_length, run };
        Ok(Read { value, crc })
    }
}

impl Footer {
    pub fn encode(&self, seed: u32) -> [u8; FOOTER_BYTES] {
        let mut bytes = [0; FOOTER_BYTES];
        bytes[0..8].copy_from_slice(&FOOTER_MAGIC);
        put(
            &mut bytes[12..],
            &[
                &self.last_crc.to_le_bytes(),
                &self.end.index.to_le_bytes(),
                &self.end.revision.to_le_bytes(),
                &self.directory_offset.to_le_bytes(),
                &self.records.to_le_bytes(),
                &self.leases.to_le_bytes(),
                &self.documents.to_le_bytes(),
                &self.live_bytes.to_le_bytes(),
                &self.file_bytes.to_le_bytes(),
                &self.blocks.to_le_bytes(),
            ],
        );
        let crc = checksum(seed, &bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Total: any bytes give an answer.
    pub fn decode(bytes: &[u8], seed: u32) -> Result<Footer, Defect> {
        let bytes: &[u8; FOOTER_BYTES] = bytes.first_chunk().ok_or(Defect::Short)?;
        if bytes[0..8] != FOOTER_MAGIC {
            return Err(Defect::Magic("the footer of a complete snapshot"));
        }
        let mut fields = Fields { bytes, offset: 8 };
        let crc = fields.u32();
        if crc != checksum(seed, &bytes[12..]) {
            return Err(Defect::Checksum("the footer"));
        }
        let last_crc = fields.u32();
        let end = End { index: fields.u64(), revision: fields.revision() };
        let footer = Footer {
            end,
            last_crc,
            directory_offset: fields.u64(),
            records: fields.u64(),
            leases: fields.u64(),
            documents: fields.u64(),
            live_bytes: fields.u64(),
            file_bytes: fields.u64(),
            blocks: fields.u32(),
        };
        if !fields.rest_is_zero() {
            return Err(Defect::Wrong("the footer has something behind its fields"));
        }
        Ok(footer)
    }
}

/// `000000000000001a.snap`: named by the index behind which the log goes on.
pub fn file_name(index: u64) -> String {
    format!("{index:016x}.snap")
}

/// The index in a snapshot's file name; `None` for other files.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".snap")?;
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 16 || !digits.bytes().all(lower) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}
