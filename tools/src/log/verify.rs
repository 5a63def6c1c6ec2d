//! `mainstayctl log verify`: is everything that was acknowledged still there, and does it fit
//! together? What a start checks, and more, without a start.

use clap::Args;
use mainstay_engine::effect::{Control, Item};
use mainstay_engine::log::Membership;
use mainstay_engine::log::decode::{decode, decode_hard_state};
use mainstay_engine::log::frame::FrameKind;
use mainstay_engine::log::scan::ScannedFrame;
use mainstay_engine::log::segment::{Restart, file_name};
use mainstay_engine::runtime::disk::offline::IdleDirectory;
use serde_json::json;

use super::{Common, Output};
use crate::failure::Failure;
use crate::progress::{Progress, rate};

#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    common: Common,
}

/// What was seen, and where the log has come to.
#[derive(Default)]
struct Seen {
    frames: u64,
    entries: u64,
    revisions: u64,
    changes: u64,
    bytes: u64,
    /// Index and revision of the last entry, `None` before the first frame.
    reached: Option<(u64, i64)>,
    /// Entries that a new leader replaced, and the index up to which some were committed by then.
    replaced: u64,
    commit: u64,
    begins_after: i64,
    compacted: i64,
    /// The largest revision before which some revision changed nothing.
    gap: Option<(i64, String)>,
}

impl Verify {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let directory = IdleDirectory::open(&self.common.data_dir)?;
        let mut frames = directory.frames()?;
        let mut progress = Progress::new("verifying");
        let mut seen = Seen::default();
        while let Some(frame) = frames.next_frame()? {
            seen.take(&frame)?;
            let (done, total) = frames.progress();
            progress.show(done, total);
        }
        seen.check_gap()?;
        let (_, total) = frames.progress();
        let took = rate(total, progress.end());
        let (index, revision) = seen.reached.unwrap_or_default();
        let cut = frames.cut().map(|cut| {
            format!(
                "{} byte {}: the unfinished end of a crash ({}), never acknowledged; the next \
                 start cuts it off",
                cut.file, cut.offset, cut.reason
            )
        });
        if self.common.output == Output::Json {
            let report = json!({
                "frames": seen.frames,
                "entries": seen.entries,
                "revisions": seen.revisions,
                "changes": seen.changes,
                "payloadBytes": seen.bytes,
                "replacedEntries": seen.replaced,
                "beginsAfterRevision": seen.begins_after,
                "index": index,
                "revision": revision,
                "compactRevision": seen.compacted,
                "unfinishedEnd": cut,
            });
            println!("{report}");
            return Ok(());
        }
        println!(
            "the log is intact: {} frames, {} entries up to index {index}, revisions {}..{revision} \
             with {} changes, compacted up to {}; {took}",
            seen.frames, seen.entries, seen.begins_after, seen.changes, seen.compacted
        );
        if let Some(cut) = cut {
            println!("{cut}");
        }
        Ok(())
    }
}

impl Seen {
    /// The frame's checksums and its place in the chain have been checked when it was read.
    fn take(&mut self, frame: &ScannedFrame) -> Result<(), Failure> {
        let header = &frame.header;
        let wrong = |reason: String| {
            Failure::other(format!(
                "{} byte {}: {reason}. The checksums hold, so this is a defect of the program \
                 that wrote it and not of the disk: keep a copy of the directory and report it",
                file_name(header.segment),
                frame.offset
            ))
        };
        self.frames += 1;
        self.bytes += frame.payload.len() as u64;
        match header.kind {
            FrameKind::SegmentStart => {
                let before = (header.index, header.revision_after);
                if self.reached.is_none() {
                    self.begins_after = before.1;
                }
                let reached = *self.reached.get_or_insert(before);
                // A segment that begins before the end of the one before replaces entries.
                if before.0 < reached.0 && before.1 <= reached.1 {
                    if before.0 < self.commit {
                        return Err(wrong(format!(
                            "entries behind {} are replaced, and {} was committed",
                            before.0, self.commit
                        )));
                    }
                    self.replaced += reached.0 - before.0;
                    self.reached = Some(before);
                } else if reached != before && reached != (0, 0) {
                    return Err(wrong(format!(
                        "the segment begins at index {} and revision {}, the one before ended at \
                         {} and {}",
                        before.0, before.1, reached.0, reached.1
                    )));
                }
            }
            FrameKind::HardState => {
                let state = decode_hard_state(&frame.payload);
                let state = state.map_err(|error| wrong(error.to_string()))?;
                self.commit = self.commit.max(state.commit);
            }
            FrameKind::Restart => {
                let restart = Restart::decode(&frame.payload);
                restart.ok_or_else(|| wrong("a restart that makes no sense".to_owned()))?;
                self.begins_after = header.revision_after;
                self.reached = Some((header.index, header.revision_after));
                self.commit = header.index;
                self.gap = None;
            }
            FrameKind::Membership => {
                let membership = Membership::decode(&frame.payload);
                membership.ok_or_else(|| wrong("a membership that makes no sense".to_owned()))?;
                self.follow(header.index, header.revision_before).map_err(wrong)?;
                self.entries += 1;
                self.reached = Some((header.index, header.revision_after));
            }
            FrameKind::Entry => {
                let batch =
                    decode(header, &frame.payload).map_err(|error| wrong(error.to_string()))?;
                self.follow(batch.index, batch.revision_before).map_err(wrong)?;
                let revision = batch.revision_before;
                self.entries += 1;
                let place = format!("{} byte {}", file_name(header.segment), frame.offset);
                self.items(&batch.items, revision, batch.revision_after, &place);
                self.reached = Some((batch.index, batch.revision_after));
            }
        }
        Ok(())
    }

    /// Whether an entry goes on where the log is.
    fn follow(&self, entry: u64, revision_before: i64) -> Result<(), String> {
        let (index, revision) = self.reached.unwrap_or_default();
        if entry != index + 1 {
            return Err(format!("entry {entry} where {} comes next", index + 1));
        }
        if revision_before != revision {
            return Err(format!(
                "entry {entry} follows revision {revision_before} and the log is at {revision}"
            ));
        }
        Ok(())
    }

    fn items(&mut self, items: &[Item], before: i64, after: i64, place: &str) {
        let mut revision = before;
        for item in items {
            match item {
                Item::Effect(effect) => {
                    if effect.revision != revision + 1 {
                        self.gap = Some((effect.revision, place.to_owned()));
                    }
                    revision = effect.revision;
                    self.revisions += 1;
                    self.changes += effect.changes.len() as u64;
                }
                Item::Control(Control::Compact { revision }) => {
                    self.compacted = self.compacted.max(*revision);
                }
                // The log gives deletions as effects.
                Item::Deletion(_) | Item::Control(_) => {}
            }
        }
        if revision != after {
            self.gap = Some((after, place.to_owned()));
        }
    }

    /// Every revision changes something; only what was imported from an etcd, and compacted there,
    /// may lack some.
    fn check_gap(&self) -> Result<(), Failure> {
        match &self.gap {
            Some((revision, place)) if *revision - 1 > self.compacted => {
                Err(Failure::other(format!(
                    "{place}: revisions are missing before {revision}, and history is compacted \
                     up to {} only",
                    self.compacted
                )))
            }
            _ => Ok(()),
        }
    }
}
