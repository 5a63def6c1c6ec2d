//! Reads a database from any file, without trusting it.
//!
//! Every page is checked when it is met: its number, its kind, that its elements lie within it,
//! that keys ascend, and that no more pages are met than the file has (so a tree that bites its
//! tail ends). What is wrong is an error that names the page. Memory: the pages from the root
//! to a leaf.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::error::Error;
use crate::page::{
    BRANCH, BUCKET_BYTES, ELEMENT_BYTES, ELEMENT_IS_BUCKET, HEADER_BYTES, LEAF, META_PAGE_BYTES,
    Meta, PageHeader, u32_at, u64_at,
};

/// Pages above each other in a tree. Two children a page would make four billion leaves of these.
const DEPTH_MAX: usize = 32;

/// Buckets within each other that [`Database::check`] follows; etcd has one level.
const NESTING_MAX: usize = 8;

/// Bytes that the pages from a root to a leaf may take together, overflow included. etcd's
/// requests are at most a few MiB each.
const PATH_BYTES_MAX: usize = 256 << 20;

/// Sizes of pages that operating systems have.
const PAGE_BYTES_LEAST: u32 = 1024;
const PAGE_BYTES_MOST: u32 = 1 << 16;

/// Where a database's bytes are.
pub trait Source {
    /// Bytes in all.
    fn length(&self) -> u64;

    /// Fills `buffer` from `offset` on.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = start.checked_add(buffer.len()).and_then(|end| self.get(start..end));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A file, of the length that it had when it was opened.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
}

impl FileSource {
    pub fn new(file: File) -> io::Result<FileSource> {
        let length = file.metadata()?.len();
        Ok(FileSource { file, length })
    }
}

impl Source for FileSource {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

/// A database that is open for reading.
#[derive(Debug)]
pub struct Database<'a, S: ?Sized> {
    source: &'a S,
    meta: Meta,
}

/// A bucket's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The root page, or the page whose element holds the bucket itself.
    page: u64,
    /// The bucket's only page, when it is that small.
    inline: Option<Vec<u8>>,
}

/// What a key leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Bytes(&'a [u8]),
    Bucket(Bucket),
}

impl<'a, S: Source + ?Sized> Database<'a, S> {
    /// Finds the newest state that the file describes.
    pub fn open(source: &'a S) -> Result<Database<'a, S>, Error> {
        let first = read_meta(source, 0);
        let sizes = (PAGE_BYTES_LEAST.ilog2()..=PAGE_BYTES_MOST.ilog2()).map(|bits| 1u64 << bits);
        let second = match &first {
            Ok(meta) => read_meta(source, u64::from(meta.page_bytes)),
            // The other one is at the start of the second page, however large pages are.
            Err(_) => sizes
                .map(|offset| (offset, read_meta(source, offset)))
                .find(|(offset, meta)| {
                    meta.as_ref().is_ok_and(|meta| u64::from(meta.page_bytes) == *offset)
                })
                .map_or(Err("there is no second one".to_owned()), |(_, meta)| meta),
        };
        let meta = match (first, second) {
            (Ok(first), Ok(second)) => {
                if second.transaction > first.transaction {
                    second
                } else {
                    first
                }
            }
            (Ok(meta), Err(_)) | (Err(_), Ok(meta)) => meta,
            (Err(reason), Err(_)) => {
                return Err(Error::NoDatabase {
                    reason: format!("its first page does not describe one ({reason})"),
                });
            }
        };
        let known = meta.page_bytes.is_power_of_two()
            && (PAGE_BYTES_LEAST..=PAGE_BYTES_MOST).contains(&meta.page_bytes);
        if !known {
            return Err(Error::NoDatabase {
                reason: format!("pages of {} bytes are not supported", meta.page_bytes),
            });
        }
        let expected = u128::from(meta.page_count) * u128::from(meta.page_bytes);
        if expected > u128::from(source.length()) {
            return Err(Error::NoDatabase {
                reason: format!(
                    "it should have {expected} bytes and has {}: it was cut short",
                    source.length()
                ),
            });
        }
        Ok(Database { source, meta })
    }

    /// Bytes of all pages. A file may be longer.
    pub fn bytes(&self) -> u64 {
        self.meta.page_count * u64::from(self.meta.page_bytes)
    }

    /// The bucket of all buckets.
    pub fn root(&self) -> Bucket {
        Bucket { page: self.meta.root, inline: None }
    }

    /// The bucket `name` of the root.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, Error> {
        let mut cursor = self.cursor(&self.root())?;
        while let Some((key, value)) = cursor.next()? {
            if let Value::Bucket(bucket) = value
                && key == name
            {
                return Ok(Some(bucket));
            }
        }
        Ok(None)
    }

    /// Walks over a bucket, in order of its keys.
    pub fn cursor(&self, bucket: &Bucket) -> Result<Cursor<'a, S>, Error> {
        let page = match &bucket.inline {
            Some(bytes) => Page::parse(bucket.page, bytes.clone())?,
            None => self.page(bucket.page, 0)?,
        };
        Ok(Cursor {
            database: Database { source: self.source, meta: self.meta },
            path: vec![(page, 0)],
            pages_left: self.meta.page_count,
            last_key: None,
        })
    }

    /// Reads every page of every bucket; gives the number of keys.
    pub fn check(&self) -> Result<u64, Error> {
        let mut keys = 0;
        let mut open = vec![self.cursor(&self.root())?];
        while let Some(nesting) = open.len().checked_sub(1) {
            let cursor = &mut open[nesting];
            let found = cursor.next()?;
            match found {
                None => {
                    let left = cursor.pages_left;
                    open.pop();
                    // Buckets share nothing: what one has read is no part of another.
                    open.last_mut().into_iter().for_each(|parent| parent.pages_left = left);
                }
                Some((_, Value::Bytes(_))) => keys += 1,
                Some((_, Value::Bucket(bucket))) => {
                    if nesting > NESTING_MAX {
                        let reason = format!("more than {NESTING_MAX} buckets within each other");
                        return Err(Error::page(bucket.page, reason));
                    }
                    let (child, left) = (self.cursor(&bucket)?, cursor.pages_left);
                    let own_page = u64::from(bucket.inline.is_none());
                    let left = left.checked_sub(own_page).ok_or_else(|| {
                        Error::page(bucket.page, "buckets have more pages than the file")
                    })?;
                    open.push(Cursor { pages_left: left, ..child });
                }
            }
        }
        Ok(keys)
    }

    /// Reads a page with its overflow. `held` bytes are in memory already.
    fn page(&self, id: u64, held: usize) -> Result<Page, Error> {
        if id < 2 || id >= self.meta.page_count {
            let reason = format!("there is no such page: the file has {}", self.meta.page_count);
            return Err(Error::page(id, reason));
        }
        let page_bytes = self.meta.page_bytes as usize;
        let mut bytes = vec![0; page_bytes];
        let offset = id * page_bytes as u64;
        self.read(offset, &mut bytes)?;
        let header = PageHeader::read(&bytes).ok_or_else(|| Error::page(id, "it is too short"))?;
        if header.id != id {
            return Err(Error::page(id, format!("it says to be page {}", header.id)));
        }
        if header.overflow > 0 {
            if id + u64::from(header.overflow) >= self.meta.page_count {
                return Err(Error::page(id, "it reaches beyond the end of the file"));
            }
            let length = (header.overflow as usize + 1).saturating_mul(page_bytes);
            if held.saturating_add(length) > PATH_BYTES_MAX {
                let reason =
                    format!("it has {length} bytes; {PATH_BYTES_MAX} is the most supported");
                return Err(Error::page(id, reason));
            }
            bytes.resize(length, 0);
            self.read(offset + page_bytes as u64, &mut bytes[page_bytes..])?;
        }
        Page::parse(id, bytes)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let length = buffer.len();
        self.source.read(offset, buffer).map_err(|source| Error::Read { offset, length, source })
    }
}

fn read_meta<S: Source + ?Sized>(source: &S, offset: u64) -> Result<Meta, String> {
    let mut bytes = [0; META_PAGE_BYTES];
    source.read(offset, &mut bytes).map_err(|error| error.to_string())?;
    Meta::read(&bytes).map_err(str::to_owned)
}

/// A branch or a leaf, with its overflow.
#[derive(Debug)]
struct Page {
    id: u64,
    is_leaf: bool,
    count: usize,
    bytes: Vec<u8>,
}

impl Page {
    /// Checks what can be checked without looking at elements.
    fn parse(id: u64, bytes: Vec<u8>) -> Result<Page, Error> {
        let header = PageHeader::read(&bytes).ok_or_else(|| Error::page(id, "it is too short"))?;
        let is_leaf = match header.flags {
            LEAF => true,
            BRANCH => false,
            flags => {
                let reason = format!("it is neither branch nor leaf (flags {flags:#x})");
                return Err(Error::page(id, reason));
            }
        };
        let count = usize::from(header.count);
        if HEADER_BYTES + count * ELEMENT_BYTES > bytes.len() {
            return Err(Error::page(id, format!("{count} elements do not fit into it")));
        }
        if !is_leaf && count == 0 {
            return Err(Error::page(id, "a branch without children"));
        }
        Ok(Page { id, is_leaf, count, bytes })
    }

    fn word(&self, element: usize, number: usize) -> u32 {
        // `parse` has seen that all elements are there.
        u32_at(&self.bytes, HEADER_BYTES + element * ELEMENT_BYTES + number * 4).unwrap_or_default()
    }

    fn child(&self, element: usize) -> u64 {
        u64_at(&self.bytes, HEADER_BYTES + element * ELEMENT_BYTES + 8).unwrap_or_default()
    }

    /// Key and value of a leaf's element, and whether the value is a bucket.
    fn entry(&self, element: usize) -> Result<(&[u8], &[u8], bool), Error> {
        let start = HEADER_BYTES + element * ELEMENT_BYTES;
        let word = |number| self.word(element, number) as usize;
        let key_start = start.saturating_add(word(1));
        let key_end = key_start.saturating_add(word(2));
        let value_end = key_end.saturating_add(word(3));
        let key = self.bytes.get(key_start..key_end);
        let value = self.bytes.get(key_end..value_end);
        match (key, value) {
            (Some(key), Some(value)) if key_start >= HEADER_BYTES + self.count * ELEMENT_BYTES => {
                Ok((key, value, self.word(element, 0) & ELEMENT_IS_BUCKET != 0))
            }
            _ => Err(Error::page(self.id, format!("element {element} lies outside of it"))),
        }
    }
}

/// A walk over one bucket.
#[derive(Debug)]
pub struct Cursor<'a, S: ?Sized> {
    database: Database<'a, S>,
    /// From the root: each page, and which of its elements comes next.
    path: Vec<(Page, usize)>,
    /// Pages that may still be read before it is clear that some are read again and again.
    pages_left: u64,
    last_key: Option<Vec<u8>>,
}

impl<S: Source + ?Sized> Cursor<'_, S> {
    /// The next key with what it leads to; `None` at the end.
    #[allow(clippy::should_implement_trait)] // what it gives borrows from it
    pub fn next(&mut self) -> Result<Option<(&[u8], Value<'_>)>, Error> {
        if !self.find_leaf()? {
            return Ok(None);
        }
        let Some((page, element)) = self.path.last_mut() else { return Ok(None) };
        let (key, value, is_bucket) = page.entry(*element)?;
        if self.last_key.as_ref().is_some_and(|last| key <= &last[..]) {
            return Err(Error::page(page.id, format!("key {element} is not in order")));
        }
        let last_key = self.last_key.get_or_insert_default();
        last_key.clear();
        last_key.extend_from_slice(key);
        *element += 1;
        let value = if is_bucket {
            Value::Bucket(read_bucket(page.id, value)?)
        } else {
            Value::Bytes(value)
        };
        Ok(Some((key, value)))
    }

    /// Pages that were not read yet: for a progress bar.
    pub fn pages_left(&self) -> u64 {
        self.pages_left
    }

    /// Makes the last page of the path a leaf with an element left. False at the end.
    fn find_leaf(&mut self) -> Result<bool, Error> {
        while let Some((page, element)) = self.path.last_mut() {
            if *element >= page.count {
                self.path.pop();
                continue;
            }
            if page.is_leaf {
                return Ok(true);
            }
            let (id, child) = (page.id, page.child(*element));
            *element += 1;
            if self.path.len() >= DEPTH_MAX {
                return Err(Error::page(id, format!("the tree is deeper than {DEPTH_MAX} pages")));
            }
            self.pages_left = self.pages_left.checked_sub(1).ok_or_else(|| {
                Error::page(id, "more pages hang below each other than the file has")
            })?;
            let held = self.path.iter().map(|(page, _)| page.bytes.len()).sum();
            let child = self.database.page(child, held)?;
            self.path.push((child, 0));
        }
        Ok(false)
    }
}

fn read_bucket(page: u64, value: &[u8]) -> Result<Bucket, Error> {
    match u64_at(value, 0) {
        Some(0) => {
            let inline = value.get(BUCKET_BYTES..).unwrap_or_default().to_vec();
            Ok(Bucket { page, inline: Some(inline) })
        }
        Some(root) if value.len() >= BUCKET_BYTES => Ok(Bucket { page: root, inline: None }),
        _ => Err(Error::page(page, "the description of a bucket in it is too short")),
    }
}
