//! `mainstayctl export`: the data as a snapshot file of etcd, for `etcdctl snapshot restore`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use mainstay_bbolt::etcd::write::{Contents, Facts, KeyVersion};
use mainstay_bbolt::etcd::{Auth, Lease, document};
use mainstay_engine::Record;

use crate::failure::Failure;
use crate::files;
use crate::progress::{Progress, rate};
use crate::remote::{self, Access};
use crate::state::State;

#[derive(Args)]
#[group(id = "source", required = true, multiple = false)]
pub(crate) struct Source {
    /// The data directory of a server that does not run
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A running server, as in https://127.0.0.1:2379
    #[arg(long, value_name = "URL")]
    endpoints: Option<String>,
}

#[derive(Args)]
pub(crate) struct Export {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    access: Access,
    /// Where to write the snapshot file; nothing may be there
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

impl Export {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Export { source, access, to } = self;
        match (source.data_dir, source.endpoints) {
            (Some(directory), _) => write(&directory, &to),
            (None, Some(endpoint)) => {
                let progress = Progress::new("");
                let bytes = remote::snapshot(&endpoint, &access, &to)?;
                println!("{}: {}", to.display(), rate(bytes, progress.end()));
                Ok(())
            }
            (None, None) => Err(Failure::other("give --data-dir or --endpoints")),
        }
    }
}

fn write(directory: &Path, to: &Path) -> Result<(), Failure> {
    let progress = Progress::new("");
    let state = State::read(directory)?;
    let facts = facts(&state)?;
    let contents = Contents::new(&facts, state.into_records().map(Version).collect());
    let contents = contents.map_err(Failure::other)?;
    let keys = contents.version_count();
    let bytes = files::write_database(to, Arc::new(contents))?;
    println!(
        "{}: {keys} keys and {} leases at revision {}, {}",
        to.display(),
        facts.leases.len(),
        facts.revision,
        rate(bytes, progress.end())
    );
    Ok(())
}

fn facts(state: &State) -> Result<Facts, Failure> {
    let auth = match state.documents.get(document::NAME) {
        Some(content) => document::decode(content).map_err(Failure::Other)?,
        None => Auth::default(),
    };
    let lease = |(id, ttl, left)| Lease { id, ttl, remaining_ttl: left };
    Ok(Facts {
        revision: state.reached.revision,
        // The newest versions alone are written.
        compacted: state.reached.revision,
        raft_index: state.reached.index,
        raft_term: state.reached.term,
        leases: state.leases.entries().map(lease).collect(),
        auth,
        members: Vec::new(),
    })
}

#[derive(Debug)]
struct Version(Record);

impl KeyVersion for Version {
    fn key(&self) -> &[u8] {
        self.0.key()
    }
    fn value(&self) -> &[u8] {
        self.0.value()
    }
    fn create_revision(&self) -> i64 {
        self.0.create_revision()
    }
    fn mod_revision(&self) -> i64 {
        self.0.mod_revision()
    }
    fn version(&self) -> i64 {
        self.0.version()
    }
    fn lease(&self) -> i64 {
        self.0.lease()
    }
}
