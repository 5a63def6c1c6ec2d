//! Where the versions of all keys lie, each under a number that stays the same.

use super::version::Versions;

/// A key's number: what both indexes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle(u32);

/// Entries per chunk. Chunks never move, so growing copies nothing, however many keys there are.
const CHUNK: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Entries {
    chunks: Vec<Vec<Option<Versions>>>,
    free: Vec<Handle>,
}

impl Entries {
    pub(super) fn insert(&mut self, versions: Versions) -> Handle {
        if let Some(handle) = self.free.pop() {
            *self.slot(handle) = Some(versions);
            return handle;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(if self.chunks.is_empty() { 0 } else { CHUNK }));
        }
        let last = self.chunks.len() - 1;
        let index = last * CHUNK + self.chunks[last].len();
        self.chunks[last].push(Some(versions));
        Handle(u32::try_from(index).expect("a shard holds fewer than 2^32 keys"))
    }

    pub(super) fn remove(&mut self, handle: Handle) {
        let removed = self.slot(handle).take();
        assert!(removed.is_some(), "an entry is removed once");
        self.free.push(handle);
    }

    /// The versions under a handle that an index holds.
    pub(super) fn get(&self, handle: Handle) -> &Versions {
        self.find(handle).expect("the indexes hold handles of entries that exist")
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> &mut Versions {
        self.slot(handle).as_mut().expect("the indexes hold handles of entries that exist")
    }

    /// The versions under a handle that may be out of date.
    pub(super) fn find(&self, handle: Handle) -> Option<&Versions> {
        let index = handle.0 as usize;
        self.chunks[index / CHUNK][index % CHUNK].as_ref()
    }

    pub(super) fn key(&self, handle: Handle) -> &[u8] {
        self.get(handle).key()
    }

    fn slot(&mut self, handle: Handle) -> &mut Option<Versions> {
        let index = handle.0 as usize;
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }
}
