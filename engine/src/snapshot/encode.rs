//! From entries to the bytes of a snapshot file, front to back.

use mainstay_raft::Membership;

use super::format::{
    ALIGNMENT, BlockHeader, BlockKind, End, FILE_ALIGNMENT, FOOTER_BYTES, Footer, HEADER_BYTES,
    Header, PAYLOAD_BYTES_MAX, payload_crc, seed,
};
use super::rows::{
    DirectoryRow, DirectoryRows, Document, DocumentRow, DocumentRows, LeaseRow, LeaseRows,
    RecordRow, RecordRows, archive,
};
use crate::mvcc::Settled;
use crate::record::Record;

/// Bytes of keys and values (and of their rows) that fill a block. One key is found by reading one
/// block, so small is good; a directory entry for every hundred keys costs nothing to speak of.
/// (Tests take little, so that a handful of keys makes several blocks.)
const BLOCK_BYTES: usize = if cfg!(test) { 1 << 10 } else { 64 << 10 };

/// What a row takes besides key and value.
const ROW_BYTES: usize = size_of::<super::rows::ArchivedRecordRow<'static>>();

/// Leases, or directory entries, in one block.
const ROWS_PER_BLOCK: usize = if cfg!(test) { 8 } else { 2048 };

/// What is remembered of a block for the directory.
struct Written {
    offset: u64,
    payload_length: u32,
    crc: u32,
    kind: BlockKind,
    run: u32,
    rows: u32,
    first_key: Box<[u8]>,
}

/// Makes a snapshot file. The bytes collect in [`pending`](Encoder::pending) until they are taken.
pub struct Encoder {
    seed: u32,
    runs: u32,
    pending: Vec<u8>,
    /// Bytes of the file that were taken.
    taken: u64,
    previous_crc: u32,
    blocks: Vec<Written>,
    run: u32,
    entries: Vec<Settled>,
    entries_bytes: usize,
    /// Of the current run.
    last: Option<Record>,
    leases: Vec<LeaseRow>,
    footer: Footer,
}

impl Encoder {
    /// Begins a file for the data directory with this salt.
    pub fn new(salt: u64, header: &Header) -> Encoder {
        let encoded = header.encode(salt);
        Encoder {
            seed: seed(salt, header.index),
            runs: header.runs,
            pending: encoded.value.to_vec(),
            taken: 0,
            previous_crc: encoded.crc,
            blocks: Vec::new(),
            run: 0,
            entries: Vec::new(),
            entries_bytes: 0,
            last: None,
            leases: Vec::new(),
            footer: Footer::default(),
        }
    }

    /// The bytes that are made and not yet taken.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Takes note that the first `length` pending bytes are written.
    pub fn take(&mut self, length: usize) {
        self.pending.drain(..length);
        self.taken += length as u64;
    }

    /// Adds an entry of a run. Runs come one after the other, and the keys of each in order.
    pub fn add_entry(&mut self, run: u32, entry: Settled) {
        assert!(run >= self.run && run < self.runs, "runs come in order");
        if run > self.run {
            self.end_records();
            self.run = run;
            self.last = None;
        }
        let record = &entry.record;
        let ascends = self.last.as_ref().is_none_or(|last| last.key() < record.key());
        assert!(ascends, "the keys of a run ascend");
        let length = record.key_and_value().len();
        self.footer.records += 1;
        if !record.is_tombstone() {
            self.footer.live_bytes += length as u64;
        }
        self.last = Some(record.clone());
        self.entries.push(entry);
        self.entries_bytes += length + ROW_BYTES;
        if self.entries_bytes >= BLOCK_BYTES {
            self.end_records();
        }
    }

    /// Adds leases, behind all entries, in order of their ids.
    pub fn add_leases(&mut self, leases: &[LeaseRow]) {
        self.end_records();
        self.footer.leases += leases.len() as u64;
        self.leases.extend_from_slice(leases);
        while self.leases.len() >= ROWS_PER_BLOCK {
            let rest = self.leases.split_off(ROWS_PER_BLOCK);
            self.end_leases();
            self.leases = rest;
        }
    }

    /// Adds documents, behind all leases, in order of their names. Each call makes a block.
    pub fn add_documents(&mut self, documents: &[Document]) {
        self.end_records();
        self.end_leases();
        let rows: Vec<DocumentRow<'_>> = documents
            .iter()
            .map(|document| DocumentRow { name: &document.name, content: &document.content })
            .collect();
        if rows.is_empty() {
            return;
        }
        let count = rows.len();
        self.footer.documents += count as u64;
        self.block(BlockKind::Documents, 0, count, &[], &archive(&DocumentRows { rows }));
    }

    /// Adds who is a member where the snapshot begins, behind everything else: for a snapshot of a
    /// member of a cluster.
    pub fn add_membership(&mut self, membership: &Membership) {
        self.end_records();
        self.end_leases();
        self.block(BlockKind::Membership, 0, 1, &[], &membership.encode());
    }

    /// Adds directory and footer. Gives the last bytes of the file.
    pub fn finish(mut self, end: End) -> Vec<u8> {
        self.end_records();
        self.end_leases();
        self.footer.directory_offset = self.offset();
        let blocks = std::mem::take(&mut self.blocks);
        for part in blocks.chunks(ROWS_PER_BLOCK) {
            let rows = part.iter().map(directory_row).collect();
            let payload = archive(&DirectoryRows { rows });
            self.block(BlockKind::Directory, 0, part.len(), &[], &payload);
        }
        let length = self.offset() as usize + FOOTER_BYTES;
        let padding = length.next_multiple_of(FILE_ALIGNMENT) - length;
        self.pending.resize(self.pending.len() + padding, 0);
        self.footer.end = end;
        self.footer.last_crc = self.previous_crc;
        self.footer.file_bytes = (length + padding) as u64;
        self.pending.extend_from_slice(&self.footer.encode(self.seed));
        self.pending
    }

    fn offset(&self) -> u64 {
        self.taken + self.pending.len() as u64
    }

    fn end_records(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        let entries = std::mem::take(&mut self.entries);
        self.entries_bytes = 0;
        let rows = entries.iter().map(RecordRow::of).collect();
        let payload = archive(&RecordRows { rows });
        let first_key = entries[0].record.key();
        self.block(BlockKind::Records, self.run, entries.len(), first_key, &payload);
    }

    fn end_leases(&mut self) {
        let rows = std::mem::take(&mut self.leases);
        if !rows.is_empty() {
            let count = rows.len();
            self.block(BlockKind::Leases, 0, count, &[], &archive(&LeaseRows { rows }));
        }
    }

    fn block(&mut self, kind: BlockKind, run: u32, rows: usize, first_key: &[u8], payload: &[u8]) {
        assert!(payload.len() <= PAYLOAD_BYTES_MAX, "the log holds no larger record");
        let offset = self.offset();
        assert!(offset.is_multiple_of(ALIGNMENT as u64));
        let header_place = self.pending.len();
        let payload_place = header_place + super::format::BLOCK_HEADER_BYTES;
        self.pending.resize(payload_place, 0);
        self.pending.extend_from_slice(payload);
        self.pending.resize(payload_place + payload.len().next_multiple_of(ALIGNMENT), 0);
        let header = BlockHeader {
            payload_crc: payload_crc(self.seed, &self.pending[payload_place..]),
            previous_crc: self.previous_crc,
            number: self.footer.blocks,
            kind,
            payload_length: payload.len() as u32,
            run,
        };
        let encoded = header.encode(self.seed);
        self.pending[header_place..payload_place].copy_from_slice(&encoded.value);
        self.previous_crc = encoded.crc;
        self.footer.blocks += 1;
        self.blocks.push(Written {
            offset,
            payload_length: header.payload_length,
            crc: encoded.crc,
            kind,
            run,
            rows: rows as u32,
            first_key: first_key.into(),
        });
    }
}

fn directory_row(written: &Written) -> DirectoryRow<'_> {
    DirectoryRow {
        offset: written.offset,
        payload_length: written.payload_length,
        crc: written.crc,
        kind: written.kind.number(),
        run: written.run,
        rows: written.rows,
        first_key: &written.first_key,
    }
}

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGNMENT));
