//! A snapshot file as it is read: what is where, and blocks that are checked before they are
//! believed. Total: whatever the bytes are, there is a result or an error that names the place.

use std::io;

use bytes::Bytes;
use mainstay_raft::Membership;
use rkyv::util::AlignedVec;

use super::error::SnapshotError;
use super::format::{
    ALIGNMENT, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, Defect, FILE_ALIGNMENT, FOOTER_BYTES,
    FORMAT_VERSION, Footer, HEADER_BYTES, Header, Owner, block_bytes, payload_crc, seed,
};
use super::rows::{
    ArchivedDirectoryRow, ArchivedDirectoryRows, ArchivedDocumentRows, ArchivedLeaseRows,
    ArchivedRecordRows, Document, LeaseRow, access,
};
use crate::mvcc::Settled;
use crate::placement;

/// A snapshot's bytes, wherever they are.
pub trait SnapshotBytes {
    /// For messages: the path of the file.
    fn name(&self) -> String;

    fn length(&self) -> u64;

    /// Fills `buffer` from `offset` on. The caller stays within `length`.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// Where a block is and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub offset: u64,
    pub kind: BlockKind,
    pub run: u32,
    pub rows: u32,
    payload_length: u32,
    crc: u32,
    first_key: Box<[u8]>,
}

impl Block {
    /// Bytes that it takes in the file, header and padding included.
    pub fn bytes(&self) -> usize {
        block_bytes(self.payload_length as usize)
    }
}

/// The checked outline of a snapshot: everything but its contents.
#[derive(Debug, Clone)]
pub struct Layout {
    pub header: Header,
    pub footer: Footer,
    /// Without the directory's own; in the order of the file.
    blocks: Vec<Block>,
    header_crc: u32,
    /// Of all bytes of the footer.
    footer_crc: u32,
    /// Another member has written it.
    is_foreign: bool,
    seed: u32,
    name: String,
}

impl Layout {
    /// Reads header, footer and directory of the snapshot `index` in the directory of this owner.
    pub fn read(
        bytes: &impl SnapshotBytes,
        owner: impl Into<Owner>,
        index: u64,
    ) -> Result<Layout, SnapshotError> {
        let owner = owner.into();
        let name = bytes.name();
        let length = bytes.length();
        let short = HEADER_BYTES + FOOTER_BYTES;
        if length < short as u64 || !length.is_multiple_of(FILE_ALIGNMENT as u64) {
            let reason = format!("the file has {length} bytes, which none that is complete has");
            return Err(SnapshotError::Damaged { file: name, offset: length, reason });
        }
        let header = read(bytes, 0, HEADER_BYTES)?;
        let (header, salt) =
            Header::decode(&header, owner, index).map_err(|defect| refuse(&name, 0, defect))?;
        let seed = seed(salt, index);
        let footer_offset = length - FOOTER_BYTES as u64;
        let footer = read(bytes, footer_offset, FOOTER_BYTES)?;
        let footer_crc = crc32fast::hash(&footer);
        let footer =
            Footer::decode(&footer, seed).map_err(|defect| refuse(&name, footer_offset, defect))?;
        let sound = footer.file_bytes == length
            && (HEADER_BYTES as u64..=footer_offset).contains(&footer.directory_offset)
            && footer.directory_offset.is_multiple_of(ALIGNMENT as u64)
            && footer.end.index >= header.value.index
            && footer.end.revision >= header.value.revision;
        if !sound {
            let defect = Defect::Wrong("the footer contradicts the file");
            return Err(refuse(&name, footer_offset, defect));
        }
        let mut layout = Layout {
            header: header.value,
            footer,
            blocks: Vec::new(),
            header_crc: header.crc,
            footer_crc,
            is_foreign: salt != owner.salt,
            seed,
            name,
        };
        layout.read_directory(bytes, footer_offset)?;
        Ok(layout)
    }

    /// Equal numbers promise equal bytes: the footer's checksums vouch for all of them.
    pub fn fingerprint(&self) -> u64 {
        u64::from(self.header_crc) << 32 | u64::from(self.footer_crc)
    }

    /// Whether another member has written it.
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Who was a member where the snapshot begins; `None` in one of a member without a cluster.
    pub fn membership(
        &self,
        bytes: &impl SnapshotBytes,
    ) -> Result<Option<Membership>, SnapshotError> {
        let numbers = self.of_kind(BlockKind::Membership);
        let footer_offset = self.footer.file_bytes - FOOTER_BYTES as u64;
        if numbers.len() != usize::from(self.header.cluster_id != 0) {
            return Err(self.damaged(footer_offset, "it does not say who the members are"));
        }
        let Some(number) = numbers.into_iter().next() else { return Ok(None) };
        let block = &self.blocks[number];
        let read = read(bytes, block.offset, block.bytes())?;
        let membership = Membership::decode(self.payload(number, &read)?);
        membership.map(Some).ok_or_else(|| self.damaged(block.offset, "no members"))
    }

    /// The blocks, in the order of the file: records by run and key, then leases, then documents.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Which of the [`blocks`](Layout::blocks) hold the records of these runs.
    pub fn blocks_of_runs(&self, runs: std::ops::Range<u32>) -> std::ops::Range<usize> {
        let records = self.records();
        let first = records.partition_point(|block| block.run < runs.start);
        let end = records.partition_point(|block| block.run < runs.end);
        first..end.max(first)
    }

    /// The runs that may hold keys of shard `shard` of `shards`.
    pub fn runs_of_shard(&self, shard: usize, shards: usize) -> std::ops::Range<u32> {
        // Both cut the same range of hashes into equal parts.
        let (runs, shard, shards) = (u128::from(self.header.runs), shard as u128, shards as u128);
        let first = shard * runs / shards;
        let end = ((shard + 1) * runs).div_ceil(shards);
        first as u32..end as u32
    }

    fn records(&self) -> &[Block] {
        let end = self.blocks.partition_point(|block| block.kind == BlockKind::Records);
        &self.blocks[..end]
    }

    /// What is wrong, `offset` bytes into the file.
    fn damaged(&self, offset: u64, reason: &str) -> SnapshotError {
        refuse_text(&self.name, offset, reason.to_owned())
    }

    fn read_directory(
        &mut self,
        bytes: &impl SnapshotBytes,
        footer_offset: u64,
    ) -> Result<(), SnapshotError> {
        let mut offset = self.footer.directory_offset;
        let mut number = None;
        let mut previous_crc = 0;
        let mut expected_offset = HEADER_BYTES as u64;
        // What is less than a block's header is the padding before the footer.
        while offset + BLOCK_HEADER_BYTES as u64 <= footer_offset {
            let header = read(bytes, offset, BLOCK_HEADER_BYTES)?;
            if header.iter().all(|&byte| byte == 0) {
                break;
            }
            let header = BlockHeader::decode(&header, self.seed)
                .map_err(|defect| refuse(&self.name, offset, defect))?;
            let length = block_bytes(header.value.payload_length as usize);
            if header.value.kind != BlockKind::Directory || offset + length as u64 > footer_offset {
                return Err(self.damaged(offset, "no block of the directory"));
            }
            let follows = number.is_none_or(|number: u32| {
                header.value.number == number + 1 && header.value.previous_crc == previous_crc
            });
            if !follows {
                return Err(self.damaged(offset, "the directory's blocks are not in order"));
            }
            let block = read(bytes, offset, length)?;
            let payload = self.check_payload(offset, &header.value, &block)?;
            let rows = access::<ArchivedDirectoryRows<'_>>(payload)
                .ok_or_else(|| self.damaged(offset, "no directory"))?;
            let mut blocks = Vec::with_capacity(rows.rows.len());
            for row in rows.rows.iter() {
                let block = directory_block(row)
                    .filter(|block| block.offset == expected_offset)
                    .ok_or_else(|| self.damaged(offset, "a directory that skips bytes"))?;
                expected_offset += block.bytes() as u64;
                blocks.push(block);
            }
            self.blocks.extend(blocks);
            number = Some(header.value.number);
            previous_crc = header.crc;
            offset += length as u64;
            if number == Some(self.footer.blocks.wrapping_sub(1)) {
                break;
            }
        }
        self.check_padding(bytes, offset, footer_offset)?;
        let directory_blocks = number.map_or(0, |last| u64::from(last) + 1);
        let complete = expected_offset == self.footer.directory_offset
            && directory_blocks == u64::from(self.footer.blocks)
            && (number.is_none() || previous_crc == self.footer.last_crc)
            && (number.is_some() || self.footer.last_crc == self.header_crc);
        let counted = |kind| -> u64 {
            let of_kind = self.blocks.iter().filter(|block| block.kind == kind);
            of_kind.map(|block| u64::from(block.rows)).sum()
        };
        let ordered = self.blocks.windows(2).all(|pair| {
            let place = |block: &Block| (block.kind.number(), block.run);
            let same_run = place(&pair[0]) == place(&pair[1]);
            let ascends =
                pair[0].kind != BlockKind::Records || pair[0].first_key < pair[1].first_key;
            if same_run { ascends } else { place(&pair[0]) < place(&pair[1]) }
        });
        let sound = complete
            && ordered
            && self.blocks.iter().all(|block| block.run < self.header.runs)
            && counted(BlockKind::Records) == self.footer.records
            && counted(BlockKind::Leases) == self.footer.leases
            && counted(BlockKind::Documents) == self.footer.documents;
        if !sound {
            return Err(self.damaged(footer_offset, "directory and footer contradict each other"));
        }
        Ok(())
    }

    fn check_padding(
        &self,
        bytes: &impl SnapshotBytes,
        from: u64,
        to: u64,
    ) -> Result<(), SnapshotError> {
        let length = usize::try_from(to - from).ok().filter(|&length| length < FILE_ALIGNMENT);
        let length = length.ok_or_else(|| self.damaged(from, "the directory ends too early"))?;
        match read(bytes, from, length)?.iter().position(|&byte| byte != 0) {
            Some(place) => Err(self.damaged(from + place as u64, "something behind the directory")),
            None => Ok(()),
        }
    }

    fn check_payload<'a>(
        &self,
        offset: u64,
        header: &BlockHeader,
        block: &'a [u8],
    ) -> Result<&'a [u8], SnapshotError> {
        let length = header.payload_length as usize;
        let padded = &block[BLOCK_HEADER_BYTES..];
        let sound = padded.len() == length.next_multiple_of(ALIGNMENT)
            && payload_crc(self.seed, padded) == header.payload_crc
            && padded[length..].iter().all(|&byte| byte == 0);
        if !sound {
            return Err(self.damaged(offset, "the checksum of a block does not match"));
        }
        Ok(&padded[..length])
    }

    /// Checks a block's bytes, header and padding included, and gives its payload. The bytes must
    /// begin at an address that is a multiple of [`ALIGNMENT`].
    fn payload<'a>(&self, number: usize, bytes: &'a [u8]) -> Result<&'a [u8], SnapshotError> {
        let block = &self.blocks[number];
        assert!(bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) && bytes.len() == block.bytes());
        let header = BlockHeader::decode(bytes, self.seed)
            .map_err(|defect| refuse(&self.name, block.offset, defect))?;
        let previous =
            number.checked_sub(1).map_or(self.header_crc, |before| self.blocks[before].crc);
        let expected = BlockHeader {
            payload_crc: header.value.payload_crc,
            previous_crc: previous,
            number: number as u32,
            kind: block.kind,
            payload_length: block.payload_length,
            run: block.run,
        };
        if header.value != expected || header.crc != block.crc {
            return Err(self.damaged(block.offset, "another block than the directory says"));
        }
        self.check_payload(block.offset, &header.value, bytes)
    }

    /// Whether a block is what was written. The bytes must begin as [`entries`](Self::entries)
    /// wants them.
    pub fn check(&self, number: usize, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.payload(number, bytes).map(drop)
    }

    /// Checks a block of records (its bytes begin at a multiple of [`ALIGNMENT`]) and passes its entries to `visit`, by key.
    pub fn entries(
        &self,
        number: usize,
        bytes: &[u8],
        mut visit: impl FnMut(Settled),
    ) -> Result<(), SnapshotError> {
        let block = &self.blocks[number];
        let wrong = |reason: &str| self.damaged(block.offset, reason);
        let rows = self.record_rows(number, bytes)?;
        let mut last: Option<&[u8]> = None;
        for row in rows.rows.iter() {
            let key = row.key().ok_or_else(|| wrong("a record's key is longer than it"))?;
            let follows = match last {
                None => key == &block.first_key[..],
                Some(last) => last < key,
            };
            if !follows {
                return Err(wrong("the keys of a block do not ascend"));
            }
            last = Some(key);
            let entry = row.entry().ok_or_else(|| wrong("a record that can't have been"))?;
            if entry.record.mod_revision() > self.footer.end.revision {
                return Err(wrong("a record is newer than the snapshot"));
            }
            visit(entry);
        }
        let next = self.records().get(number + 1).filter(|next| next.run == block.run);
        if let (Some(last), Some(next)) = (last, next)
            && last >= &next.first_key[..]
        {
            return Err(wrong("the keys of a run do not ascend"));
        }
        Ok(())
    }

    /// [`entries`](Self::entries) of a block that is read for this.
    pub fn read_entries(
        &self,
        bytes: &impl SnapshotBytes,
        number: usize,
        visit: impl FnMut(Settled),
    ) -> Result<(), SnapshotError> {
        let block = &self.blocks[number];
        let read = read(bytes, block.offset, block.bytes())?;
        self.entries(number, &read, visit)
    }

    fn record_rows<'a>(
        &self,
        number: usize,
        bytes: &'a [u8],
    ) -> Result<&'a ArchivedRecordRows<'a>, SnapshotError> {
        let block = &self.blocks[number];
        let payload = self.payload(number, bytes)?;
        access::<ArchivedRecordRows<'_>>(payload)
            .filter(|rows| rows.rows.len() == block.rows as usize)
            .ok_or_else(|| self.damaged(block.offset, "no records"))
    }

    /// The newest version of a key that the snapshot holds, a tombstone included.
    pub fn find(
        &self,
        bytes: &impl SnapshotBytes,
        key: &[u8],
    ) -> Result<Option<Settled>, SnapshotError> {
        let run = placement::shard_of(placement::hash(key), self.header.runs as usize) as u32;
        let blocks = self.blocks_of_runs(run..run + 1);
        let after =
            self.blocks[blocks.clone()].partition_point(|block| &block.first_key[..] <= key);
        let Some(number) = after.checked_sub(1).map(|place| blocks.start + place) else {
            return Ok(None);
        };
        let block = &self.blocks[number];
        let read = read(bytes, block.offset, block.bytes())?;
        let rows = self.record_rows(number, &read)?;
        let place = rows.rows.partition_point(|row| row.key().is_some_and(|other| other < key));
        let Some(row) = rows.rows.get(place).filter(|row| row.key() == Some(key)) else {
            return Ok(None);
        };
        let entry = row.entry();
        entry.map(Some).ok_or_else(|| self.damaged(block.offset, "a record that can't have been"))
    }

    /// The leases, in order.
    pub fn leases(&self, bytes: &impl SnapshotBytes) -> Result<Vec<LeaseRow>, SnapshotError> {
        let mut leases = Vec::new();
        for number in self.of_kind(BlockKind::Leases) {
            let block = &self.blocks[number];
            let read = read(bytes, block.offset, block.bytes())?;
            let rows = access::<ArchivedLeaseRows>(self.payload(number, &read)?)
                .filter(|rows| rows.rows.len() == block.rows as usize)
                .ok_or_else(|| self.damaged(block.offset, "no leases"))?;
            leases.extend(rows.rows.iter().map(|row| LeaseRow {
                id: row.id.to_native(),
                ttl: row.ttl.to_native(),
                remaining: row.remaining.to_native(),
            }));
        }
        Ok(leases)
    }

    /// The documents, in order of their names.
    pub fn documents(&self, bytes: &impl SnapshotBytes) -> Result<Vec<Document>, SnapshotError> {
        let mut documents = Vec::new();
        for number in self.of_kind(BlockKind::Documents) {
            let block = &self.blocks[number];
            let read = read(bytes, block.offset, block.bytes())?;
            let rows = access::<ArchivedDocumentRows<'_>>(self.payload(number, &read)?)
                .filter(|rows| rows.rows.len() == block.rows as usize)
                .ok_or_else(|| self.damaged(block.offset, "no documents"))?;
            documents.extend(rows.rows.iter().map(|row| Document {
                name: Bytes::copy_from_slice(&row.name),
                content: Bytes::copy_from_slice(&row.content),
            }));
        }
        Ok(documents)
    }

    /// Kinds come in the order of their numbers.
    fn of_kind(&self, kind: BlockKind) -> std::ops::Range<usize> {
        let first = self.blocks.partition_point(|block| block.kind.number() < kind.number());
        let end = self.blocks.partition_point(|block| block.kind.number() <= kind.number());
        first..end
    }
}

/// A block of the directory's contents; `None` for one that no snapshot has.
fn directory_block(row: &ArchivedDirectoryRow<'_>) -> Option<Block> {
    let kind = BlockKind::from_number(row.kind.to_native())?;
    let payload_length = row.payload_length.to_native();
    let fits = payload_length as usize <= super::format::PAYLOAD_BYTES_MAX;
    (fits && kind != BlockKind::Directory).then(|| Block {
        offset: row.offset.to_native(),
        kind,
        run: row.run.to_native(),
        rows: row.rows.to_native(),
        payload_length,
        crc: row.crc.to_native(),
        first_key: row.first_key.to_vec().into(),
    })
}

fn read(
    bytes: &impl SnapshotBytes,
    offset: u64,
    length: usize,
) -> Result<AlignedVec, SnapshotError> {
    if offset + length as u64 > bytes.length() {
        return Err(refuse(&bytes.name(), offset, Defect::Short));
    }
    let mut buffer = AlignedVec::with_capacity(length);
    buffer.resize(length, 0);
    bytes.read(offset, &mut buffer).map_err(|error| SnapshotError::Unreadable {
        file: bytes.name(),
        offset,
        reason: error.to_string(),
    })?;
    Ok(buffer)
}

fn refuse(file: &str, offset: u64, defect: Defect) -> SnapshotError {
    match defect {
        Defect::Newer(found) => {
            SnapshotError::NewerFormat { file: file.to_owned(), found, supported: FORMAT_VERSION }
        }
        defect => refuse_text(file, offset, defect.to_string()),
    }
}

fn refuse_text(file: &str, offset: u64, reason: String) -> SnapshotError {
    SnapshotError::Damaged { file: file.to_owned(), offset, reason }
}
