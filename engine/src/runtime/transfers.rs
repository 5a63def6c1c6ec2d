//! Core 0 gives raft what it wants of the log and of snapshots, for other members.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use mainstay_raft::{Damage, EntriesWanted, EntryKind, Install, SnapshotWanted};

use super::core::CoreState;
use super::disk::{EntriesRead, HistoryError, Outgoing, SnapshotFile, SnapshotFolder};
use super::timer::monotonic_ms;
use super::{blocking, spawn_local};
use crate::replica::Replica;

/// The snapshots of this member, and what others want of them.
#[derive(Default)]
pub(super) struct Shelf {
    /// By index.
    pub(super) kept: RefCell<Vec<Arc<SnapshotFile>>>,
    /// There is none that another member could use.
    pub(super) needed: Cell<bool>,
    /// One of another member is to take the place of everything here.
    pub(super) install: RefCell<Option<Box<Install>>>,
    outgoing: RefCell<Option<Arc<Outgoing>>>,
    preparing: Cell<bool>,
    /// When a part was last wanted.
    sent_ms: Cell<u64>,
}

impl Shelf {
    pub(super) fn of(kept: Vec<Arc<SnapshotFile>>) -> Shelf {
        Shelf { kept: RefCell::new(kept), ..Shelf::default() }
    }

    /// The beginning of the snapshot that is being sent, if a part was wanted within `within_ms`.
    pub(super) fn sending(&self, within_ms: u64) -> Option<u64> {
        let fresh = monotonic_ms() - self.sent_ms.get() <= within_ms;
        let outgoing = self.outgoing.borrow();
        let outgoing = outgoing.as_ref().filter(|_| fresh)?;
        Some(outgoing.snapshot().layout().header.index)
    }

    /// Lets go of what was sent and is not wanted any more.
    pub(super) fn forget_sent(&self, after_ms: u64) {
        if self.sending(after_ms).is_none() {
            self.outgoing.take();
        }
    }
}

/// Serves what raft wants, as long as this core runs.
pub(super) async fn serve(core: Rc<CoreState>, shelf: Rc<Shelf>, folder: SnapshotFolder) {
    loop {
        let wanted = core.wanted().await;
        for entries in wanted.entries {
            spawn_local(read_entries(Rc::clone(&core), entries));
        }
        for part in wanted.snapshots {
            spawn_local(send_part(Rc::clone(&core), Rc::clone(&shelf), folder.clone(), part));
        }
        if wanted.install.is_some() {
            *shelf.install.borrow_mut() = wanted.install;
        }
    }
}

async fn read_entries(core: Rc<CoreState>, wanted: EntriesWanted) {
    let read = core.history.entries(wanted).await;
    core.drive(|replica, out| {
        let now_ms = monotonic_ms();
        match read {
            Ok(EntriesRead::Entries(entries)) => replica.entries_read(entries, now_ms, out),
            Ok(EntriesRead::Damaged(damage)) => replica.entry_damaged(damage, now_ms, out),
            // Of those that were replaced meanwhile: who needed them asks anew.
            Ok(EntriesRead::Compacted | EntriesRead::Absent) => {
                replica.entries_compacted(wanted.from, now_ms, out);
            }
            Err(error) => {
                let damage = unreadable(replica, wanted.from, &error);
                match damage {
                    Some(damage) => replica.entry_damaged(damage, now_ms, out),
                    None => replica.entries_compacted(wanted.from, now_ms, out),
                }
            }
        }
    });
}

/// Of the entry no more is known than what raft remembers.
fn unreadable(replica: &Replica, index: u64, error: &HistoryError) -> Option<Damage> {
    eprintln!("warning: entry {index}: {error}");
    let term = replica.member()?.sequencer().node().term_at(index)?;
    Some(Damage { index, term, kind: EntryKind::Normal })
}

async fn send_part(
    core: Rc<CoreState>,
    shelf: Rc<Shelf>,
    folder: SnapshotFolder,
    wanted: SnapshotWanted,
) {
    shelf.sent_ms.set(monotonic_ms());
    let outgoing = outgoing(&core, &shelf, folder, &wanted).await;
    let Some(outgoing) = outgoing else {
        return core.drive(|replica, out| {
            replica.snapshot_unavailable(wanted.to, monotonic_ms(), out);
        });
    };
    let name = outgoing.name();
    let goes_on =
        wanted.snapshot.as_ref().is_some_and(|known| (known.index, known.fingerprint) == name);
    let offset = if goes_on { wanted.offset } else { 0 };
    let read = blocking(move || outgoing.read(offset, wanted.max_bytes)).await;
    core.drive(|replica, out| match read {
        Ok((data, done)) => {
            replica.snapshot_part(wanted.to, name, offset, data, done, monotonic_ms(), out);
        }
        Err(error) => {
            eprintln!("warning: a snapshot can't be sent: {error}");
            replica.snapshot_unavailable(wanted.to, monotonic_ms(), out);
        }
    });
}

/// What is sent to whoever wants this.
async fn outgoing(
    core: &Rc<CoreState>,
    shelf: &Shelf,
    folder: SnapshotFolder,
    wanted: &SnapshotWanted,
) -> Option<Arc<Outgoing>> {
    let ready = shelf.outgoing.borrow().clone();
    if let Some(ready) = ready {
        let known = wanted.snapshot.as_ref();
        let same = known.is_none_or(|known| (known.index, known.fingerprint) == ready.name());
        if same && is_usable(core, ready.snapshot()) {
            return Some(ready);
        }
    }
    if shelf.preparing.replace(true) {
        return None;
    }
    let prepared = match choose(core, shelf, wanted) {
        Some(file) => {
            let history = core.history.clone();
            let prepared = blocking(move || Outgoing::prepare(file, &history, &folder)).await;
            prepared.map_err(|error| eprintln!("warning: a snapshot can't be sent: {error}")).ok()
        }
        None => {
            shelf.needed.set(true);
            None
        }
    };
    shelf.preparing.set(false);
    let prepared = prepared.map(Arc::new);
    shelf.outgoing.borrow_mut().clone_from(&prepared);
    prepared
}

/// The snapshot that a transfer goes on with, or the oldest one that is of use: all history behind
/// it comes with the log.
fn choose(
    core: &Rc<CoreState>,
    shelf: &Shelf,
    wanted: &SnapshotWanted,
) -> Option<Arc<SnapshotFile>> {
    let kept = shelf.kept.borrow();
    let mut usable = kept.iter().filter(|file| is_usable(core, file));
    let name = |file: &SnapshotFile| (file.layout().footer.end.index, file.layout().fingerprint());
    let known = wanted.snapshot.as_ref().map(|known| (known.index, known.fingerprint));
    let same = usable.clone().find(|file| known == Some(name(file)));
    same.or_else(|| usable.next()).cloned()
}

/// Whether another member can use a snapshot, and raft knows where it stands.
fn is_usable(core: &Rc<CoreState>, file: &SnapshotFile) -> bool {
    let (header, end) = (file.layout().header, file.layout().footer.end);
    let begins_after = core.history.begins_after_index();
    header.cluster_id != 0
        && header.index >= begins_after
        && core.drive(|replica, _| {
            let node = replica.member().map(|member| member.sequencer().node());
            node.is_some_and(|node| end.index <= node.commit() && node.term_at(end.index).is_some())
        })
}
