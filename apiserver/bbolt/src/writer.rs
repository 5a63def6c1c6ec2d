//! Writes a database front to back, in one go and little memory.
//!
//! The first pages of a file tell where its root is, and that is known last. So what goes in is
//! gone through twice: [`Writer::measure`] counts pages and needs keys and lengths alone, and
//! [`Writer::write`] makes the bytes. Both passes take the same decisions by the same code.
//!
//! Buckets come in order of their names, keys in order within a bucket. A tree is built from its
//! leaves up: a page that is full is written at once, and its first key goes into the page above.
//! So of each level there is one page in memory.

use crate::page::{
    BRANCH, BUCKET_BYTES, ELEMENT_BYTES, ELEMENT_IS_BUCKET, FREELIST, HEADER_BYTES, LEAF, Meta,
    PAGE_BYTES, PageHeader,
};

/// Pages before the first of a tree: two metas and an empty freelist.
const FREELIST_PAGE: u64 = 2;
const FIRST_TREE_PAGE: u64 = 3;

/// Children that a branch page has at least: bbolt can't shrink a tree with fewer.
const CHILDREN_MIN: usize = 2;

/// A bucket whose only page is no larger than this is kept in the value of its name, as bbolt does.
const INLINE_BYTES: usize = PAGE_BYTES / 4;

/// Bytes that bbolt accepts as a key.
pub const KEY_BYTES_MAX: usize = 32_768;

/// What the first pass found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    root: u64,
    page_count: u64,
}

impl Plan {
    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.page_count * PAGE_BYTES as u64
    }
}

/// One of the two passes.
#[derive(Debug)]
pub struct Writer {
    pages: Pages,
    plan: Option<Plan>,
    root: Tree,
    /// The bucket that is being filled.
    bucket: Option<(Vec<u8>, Tree)>,
}

/// Pages that are done.
#[derive(Debug)]
struct Pages {
    next: u64,
    /// Their bytes, until the caller takes them; nothing in the first pass.
    bytes: Vec<u8>,
    keeps_bytes: bool,
}

impl Writer {
    /// The first pass.
    pub fn measure() -> Writer {
        Writer::new(None)
    }

    /// The second pass: the same buckets, keys and values again.
    pub fn write(plan: Plan) -> Writer {
        let mut writer = Writer::new(Some(plan));
        let bytes = &mut writer.pages.bytes;
        for transaction in 0..2 {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: plan.root,
                freelist: FREELIST_PAGE,
                page_count: plan.page_count,
                transaction,
            };
            meta.write(transaction, bytes);
        }
        PageHeader { id: FREELIST_PAGE, flags: FREELIST, count: 0, overflow: 0 }.write(bytes);
        bytes.resize(FIRST_TREE_PAGE as usize * PAGE_BYTES, 0);
        writer
    }

    fn new(plan: Option<Plan>) -> Writer {
        let keeps_bytes = plan.is_some();
        let pages = Pages { next: FIRST_TREE_PAGE, bytes: Vec::new(), keeps_bytes };
        Writer { pages, plan, root: Tree::new(), bucket: None }
    }

    /// Begins a bucket; its name is larger than those before.
    pub fn begin_bucket(&mut self, name: &[u8]) {
        self.end_bucket();
        self.bucket = Some((name.to_vec(), Tree::new()));
    }

    /// Adds an entry to the bucket; its key is larger than those before. `value` appends exactly
    /// `value_bytes` bytes, and is called in the second pass only.
    ///
    /// Panics without a bucket, or when key or value are not as described.
    pub fn put(&mut self, key: &[u8], value_bytes: usize, value: impl FnOnce(&mut Vec<u8>)) {
        let (_, tree) = self.bucket.as_mut().expect("a bucket has begun");
        tree.add(0, key, value_bytes, value, &mut self.pages);
    }

    /// Takes the bytes made so far. Keep the file's memory low by taking them often.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pages.bytes)
    }

    /// How many bytes wait to be taken.
    pub fn bytes_waiting(&self) -> usize {
        self.pages.bytes.len()
    }

    /// Ends the pass. Gives the plan for the second one, and the last bytes.
    ///
    /// Panics when the second pass was not given what the first one was: what was written
    /// already is wrong then.
    pub fn finish(mut self) -> (Plan, Vec<u8>) {
        self.end_bucket();
        let root = self.root.end(&mut self.pages);
        let plan = Plan { root, page_count: self.pages.next };
        assert!(self.plan.is_none_or(|planned| planned == plan), "the passes differ");
        (plan, self.pages.bytes)
    }

    fn end_bucket(&mut self) {
        let Some((name, tree)) = self.bucket.take() else { return };
        let mut value = Vec::with_capacity(BUCKET_BYTES);
        if tree.is_inline() {
            value.resize(BUCKET_BYTES, 0); // root 0: it is here
            let bytes = BUCKET_BYTES + tree.leaf.bytes();
            if self.pages.keeps_bytes {
                tree.leaf.write_leaf(0, &mut value);
            } else {
                value.resize(bytes, 0);
            }
        } else {
            value.extend_from_slice(&tree.end(&mut self.pages).to_le_bytes());
            value.resize(BUCKET_BYTES, 0);
        }
        let (length, append) = (value.len(), |out: &mut Vec<u8>| out.extend_from_slice(&value));
        self.root.add(ELEMENT_IS_BUCKET, &name, length, append, &mut self.pages);
    }
}

impl Pages {
    /// Gives a page of so many bytes its number, and lets `write` make it.
    fn add(&mut self, bytes: usize, write: impl FnOnce(u64, &mut Vec<u8>)) -> u64 {
        let id = self.next;
        let count = bytes.div_ceil(PAGE_BYTES);
        self.next += count as u64;
        if self.keeps_bytes {
            let start = self.bytes.len();
            write(id, &mut self.bytes);
            assert_eq!(self.bytes.len() - start, bytes, "page {id} is as long as measured");
            self.bytes.resize(start + count * PAGE_BYTES, 0);
        }
        id
    }
}

/// One bucket's tree: of each level the page that is being filled.
#[derive(Debug)]
struct Tree {
    leaf: Leaf,
    /// Branch pages, lowest level first.
    branches: Vec<Branch>,
    last_key: Option<Vec<u8>>,
}

impl Tree {
    fn new() -> Tree {
        Tree { leaf: Leaf::default(), branches: Vec::new(), last_key: None }
    }

    fn add(
        &mut self,
        flags: u32,
        key: &[u8],
        value_bytes: usize,
        value: impl FnOnce(&mut Vec<u8>),
        pages: &mut Pages,
    ) {
        assert!(key.len() <= KEY_BYTES_MAX && !key.is_empty(), "a key of {} bytes", key.len());
        let last = self.last_key.get_or_insert_default();
        assert!(key > &last[..], "keys ascend");
        last.clear();
        last.extend_from_slice(key);
        let bytes = ELEMENT_BYTES + key.len() + value_bytes;
        if !self.leaf.elements.is_empty() && self.leaf.bytes() + bytes > PAGE_BYTES {
            self.flush_leaf(pages);
        }
        self.leaf.add(flags, key, value_bytes, value, pages.keeps_bytes);
    }

    fn is_inline(&self) -> bool {
        self.branches.is_empty() && self.leaf.bytes() <= INLINE_BYTES
    }

    fn flush_leaf(&mut self, pages: &mut Pages) {
        let leaf = std::mem::take(&mut self.leaf);
        let id = pages.add(leaf.bytes(), |id, out| leaf.write_leaf(id, out));
        self.add_child(0, leaf.first_key, id, pages);
    }

    /// Notes a page that was written in the branch page above it, `level` levels over the leaves.
    fn add_child(&mut self, level: usize, first_key: Vec<u8>, id: u64, pages: &mut Pages) {
        if self.branches.len() == level {
            self.branches.push(Branch::default());
        }
        let branch = &mut self.branches[level];
        let bytes = branch.bytes() + ELEMENT_BYTES + first_key.len();
        if bytes > PAGE_BYTES && branch.children.len() > CHILDREN_MIN {
            // The last child goes with the new one, so that no page ends up with a single one.
            let last = branch.children.pop();
            let full = std::mem::take(branch);
            branch.children.extend(last);
            let id = pages.add(full.bytes(), |id, out| full.write_branch(id, out));
            let first = full.children.into_iter().next().map(|(key, _)| key);
            self.add_child(level + 1, first.unwrap_or_default(), id, pages);
        }
        self.branches[level].children.push((first_key, id));
    }

    /// Writes what is left and gives the root's page.
    fn end(mut self, pages: &mut Pages) -> u64 {
        if self.branches.is_empty() {
            return pages.add(self.leaf.bytes(), |id, out| self.leaf.write_leaf(id, out));
        }
        self.flush_leaf(pages);
        let mut level = 0;
        loop {
            let branch = std::mem::take(&mut self.branches[level]);
            let id = pages.add(branch.bytes(), |id, out| branch.write_branch(id, out));
            level += 1;
            if level == self.branches.len() {
                return id;
            }
            let first = branch.children.into_iter().next().map(|(key, _)| key);
            self.add_child(level, first.unwrap_or_default(), id, pages);
        }
    }
}

/// A leaf that is being filled. Without bytes in the first pass.
#[derive(Debug, Default)]
struct Leaf {
    /// Flags, key length, value length.
    elements: Vec<(u32, u32, u32)>,
    data: Vec<u8>,
    data_bytes: usize,
    first_key: Vec<u8>,
}

impl Leaf {
    fn bytes(&self) -> usize {
        HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data_bytes
    }

    fn add(
        &mut self,
        flags: u32,
        key: &[u8],
        value_bytes: usize,
        value: impl FnOnce(&mut Vec<u8>),
        keeps_bytes: bool,
    ) {
        if self.elements.is_empty() {
            self.first_key = key.to_vec();
        }
        let value_length = u32::try_from(value_bytes).expect("values are smaller than 2 GiB");
        self.elements.push((flags, key.len() as u32, value_length));
        self.data_bytes += key.len() + value_bytes;
        if keeps_bytes {
            self.data.extend_from_slice(key);
            value(&mut self.data);
            assert_eq!(self.data.len(), self.data_bytes, "the value is as long as it was said");
        }
    }

    fn write_leaf(&self, id: u64, out: &mut Vec<u8>) {
        header(id, LEAF, self.elements.len(), self.bytes()).write(out);
        let mut data_offset = self.elements.len() * ELEMENT_BYTES;
        for (number, &(flags, key_bytes, value_bytes)) in self.elements.iter().enumerate() {
            let position = (data_offset - number * ELEMENT_BYTES) as u32;
            for word in [flags, position, key_bytes, value_bytes] {
                out.extend_from_slice(&word.to_le_bytes());
            }
            data_offset += (key_bytes + value_bytes) as usize;
        }
        out.extend_from_slice(&self.data);
    }
}

/// A branch page that is being filled: the first key of each child, and its page.
#[derive(Debug, Default)]
struct Branch {
    children: Vec<(Vec<u8>, u64)>,
}

impl Branch {
    fn bytes(&self) -> usize {
        let child = |(key, _): &(Vec<u8>, u64)| ELEMENT_BYTES + key.len();
        HEADER_BYTES + self.children.iter().map(child).sum::<usize>()
    }

    fn write_branch(&self, id: u64, out: &mut Vec<u8>) {
        header(id, BRANCH, self.children.len(), self.bytes()).write(out);
        let mut key_offset = self.children.len() * ELEMENT_BYTES;
        for (number, (key, child)) in self.children.iter().enumerate() {
            let position = (key_offset - number * ELEMENT_BYTES) as u32;
            out.extend_from_slice(&position.to_le_bytes());
            out.extend_from_slice(&(key.len() as u32).to_le_bytes());
            out.extend_from_slice(&child.to_le_bytes());
            key_offset += key.len();
        }
        self.children.iter().for_each(|(key, _)| out.extend_from_slice(key));
    }
}

fn header(id: u64, flags: u16, count: usize, bytes: usize) -> PageHeader {
    let count = u16::try_from(count).expect("a page of this size has no more elements");
    // A page in a bucket's value has no pages behind it, and never more bytes than one.
    PageHeader { id, flags, count, overflow: (bytes.div_ceil(PAGE_BYTES) - 1) as u32 }
}
