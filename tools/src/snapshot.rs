//! `mainstayctl snapshot inspect`: which snapshots a data directory has, and whether they are whole.
//!
//! (`mainstayctl export` writes snapshot files for an etcd; these are the store's own.)

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mainstay_engine::runtime::disk::offline::{IdleDirectory, Snapshot};
use serde_json::json;

use crate::failure::Failure;
use crate::log::Output;
use crate::progress::Progress;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the snapshots, newest first, and read all that is in them.
    Inspect(Inspect),
}

#[derive(Args)]
pub(crate) struct Inspect {
    /// The data directory of a server that does not run
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// How to write it
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "text")]
    output: Output,
    /// Look at the outlines alone
    #[arg(long)]
    quick: bool,
}

/// Runs a subcommand of `mainstayctl snapshot`.
pub(crate) fn run(command: Command) -> Result<(), Failure> {
    let Command::Inspect(inspect) = command;
    let directory = IdleDirectory::open(&inspect.data_dir)?;
    let indexes = directory.snapshots()?;
    let mut damaged = 0;
    for &index in &indexes {
        let snapshot = directory.snapshot(index).and_then(|snapshot| {
            if !inspect.quick {
                read_all(&snapshot)?;
            }
            Ok(snapshot)
        });
        match snapshot {
            Ok(snapshot) => inspect.tell(index, &snapshot),
            Err(error) => {
                damaged += 1;
                println!("{error}");
            }
        }
    }
    if inspect.output == Output::Text && indexes.is_empty() {
        println!("{} has no snapshots: its log holds everything", inspect.data_dir.display());
    }
    if damaged > 0 {
        return Err(Failure::other(format!("{damaged} of {} snapshots are bad", indexes.len())));
    }
    Ok(())
}

/// Checks every block, and that the footer counts what is there.
fn read_all(snapshot: &Snapshot) -> Result<(), mainstay_engine::snapshot::SnapshotError> {
    let footer = snapshot.layout().footer;
    let mut progress = Progress::new("reading the snapshot");
    let mut records = 0;
    snapshot.entries(|_| records += 1, |done| progress.show(done, footer.file_bytes))?;
    progress.end();
    let leases = snapshot.leases()?.len() as u64;
    let documents = snapshot.documents()?.len() as u64;
    let counted = (footer.records, footer.leases, footer.documents);
    if (records, leases, documents) != counted {
        return Err(mainstay_engine::snapshot::SnapshotError::Damaged {
            file: snapshot.name().to_owned(),
            offset: footer.file_bytes,
            reason: format!(
                "it holds {records} records, {leases} leases and {documents} documents, its \
                 footer says {counted:?}"
            ),
        });
    }
    Ok(())
}

impl Inspect {
    fn tell(&self, index: u64, snapshot: &Snapshot) {
        let (header, footer) = (snapshot.layout().header, snapshot.layout().footer);
        let blocks = snapshot.layout().blocks().len();
        if self.output == Output::Json {
            let line = json!({
                "file": snapshot.name(),
                "index": index,
                "term": header.term,
                "revision": header.revision,
                "compactRevision": header.compacted,
                "endIndex": footer.end.index,
                "endRevision": footer.end.revision,
                "records": footer.records,
                "leases": footer.leases,
                "documents": footer.documents,
                "liveBytes": footer.live_bytes,
                "fileBytes": footer.file_bytes,
                "runs": header.runs,
                "blocks": blocks,
                "contentsRead": !self.quick,
            });
            println!("{line}");
            return;
        }
        let read = if self.quick { "outline intact" } else { "intact" };
        println!(
            "{}: {read}; index {index}, revisions {}..{}, compacted up to {}; {} records, {} \
             leases, {} documents, {} live bytes in {} bytes, {blocks} blocks, {} runs",
            snapshot.name(),
            header.revision,
            footer.end.revision,
            header.compacted,
            footer.records,
            footer.leases,
            footer.documents,
            footer.live_bytes,
            footer.file_bytes,
            header.runs
        );
    }
}
