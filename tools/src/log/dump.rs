//! `mainstayctl log dump`.

use std::io::{self, BufWriter, ErrorKind, Write};

use clap::Args;
use mainstay_engine::effect::Item;
use mainstay_engine::log::decode::decode;
use mainstay_engine::log::frame::FrameKind;
use mainstay_engine::log::scan::ScannedFrame;
use mainstay_engine::runtime::disk::offline::IdleDirectory;

use super::{Common, Output, line};
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Dump {
    #[command(flatten)]
    common: Common,
    /// List only what changed something at this revision or later
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    from_revision: i64,
    /// List only what changed something at this revision or earlier
    #[arg(long, value_name = "REVISION", default_value_t = i64::MAX)]
    to_revision: i64,
    /// List only changes of keys with this prefix
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,
}

impl Dump {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let directory = IdleDirectory::open(&self.common.data_dir)?;
        let mut frames = directory.frames()?;
        let mut output = BufWriter::new(io::stdout().lock());
        while let Some(frame) = frames.next_frame()? {
            let written = self.frame(&frame, &mut output)?;
            match written {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                written => written.map_err(|error| Failure::other(format!("writing: {error}")))?,
            }
        }
        if let Some(cut) = frames.cut() {
            eprintln!(
                "{} byte {}: the unfinished end of a crash ({}); the next start cuts it off",
                cut.file, cut.offset, cut.reason
            );
        }
        output.flush().or_else(|error| {
            let closed = error.kind() == ErrorKind::BrokenPipe;
            if closed { Ok(()) } else { Err(Failure::other(format!("writing: {error}"))) }
        })
    }

    /// Whether the outer result fails for the frame, and the inner one for the output.
    fn frame(
        &self,
        frame: &ScannedFrame,
        output: &mut impl Write,
    ) -> Result<io::Result<()>, Failure> {
        let header = &frame.header;
        let everything = self.from_revision <= 0 && self.to_revision == i64::MAX;
        let everything = everything && self.prefix.is_empty();
        let outside = header.revision_after < self.from_revision
            || header.revision_before >= self.to_revision;
        if !everything && (outside || header.kind != FrameKind::Entry) {
            return Ok(Ok(()));
        }
        let items = match header.kind {
            FrameKind::Entry => {
                let batch = decode(header, &frame.payload).map_err(|error| {
                    Failure::other(format!("{}: {error}", line::frame_text(frame)))
                })?;
                batch.items
            }
            FrameKind::SegmentStart
            | FrameKind::HardState
            | FrameKind::Membership
            | FrameKind::Restart => Vec::new(),
        };
        let items: Vec<Item> =
            items.into_iter().filter_map(|item| self.wanted(item, everything)).collect();
        if !everything && items.is_empty() {
            return Ok(Ok(()));
        }
        Ok(self.write(frame, &items, output))
    }

    fn write(
        &self,
        frame: &ScannedFrame,
        items: &[Item],
        output: &mut impl Write,
    ) -> io::Result<()> {
        if self.common.output == Output::Json {
            let items = items.iter().map(line::item_json).collect();
            return writeln!(output, "{}", line::frame_json(frame, items));
        }
        writeln!(output, "{}", line::frame_text(frame))?;
        if let Some(facts) = line::facts(frame) {
            writeln!(output, "    {facts}")?;
        }
        for text in items.iter().flat_map(line::item_text) {
            writeln!(output, "    {text}")?;
        }
        Ok(())
    }

    /// What is left of an item once it is reduced to what was asked for.
    fn wanted(&self, item: Item, everything: bool) -> Option<Item> {
        match item {
            item if everything => Some(item),
            Item::Effect(mut effect) => {
                let revisions = self.from_revision..=self.to_revision;
                if !revisions.contains(&effect.revision) {
                    return None;
                }
                let prefix = self.prefix.as_bytes();
                effect.changes.retain(|change| change.record.key().starts_with(prefix));
                (!effect.changes.is_empty()).then_some(Item::Effect(effect))
            }
            // The log gives deletions as effects.
            Item::Deletion(_) | Item::Control(_) => None,
        }
    }
}
