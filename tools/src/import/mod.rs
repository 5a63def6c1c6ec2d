//! `mainstayctl import`: an etcd's data in a new data directory, revisions and all.
//!
//! `source` finds the database and opens it; `load` writes what is in it. The directory gets its
//! name when it is complete: one that was interrupted is never started from.

mod load;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::files::{beside, sync_parent};
use crate::progress::rate;
use crate::remote::Access;
use load::Loaded;
use source::Database;

#[derive(Args)]
#[group(id = "source", required = true, multiple = false)]
pub(crate) struct From {
    /// A file of `etcdctl snapshot save`, or the data directory of an etcd that does not run
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
    /// A running etcd, as in https://127.0.0.1:2379
    #[arg(long, value_name = "URL")]
    endpoints: Option<String>,
}

#[derive(Args)]
pub(crate) struct Import {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    access: Access,
    /// The data directory to make; nothing may be there
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Leave users and roles behind. Everybody can do everything then
    #[arg(long)]
    without_auth: bool,
    /// Read a snapshot file although the checksum at its end does not match
    #[arg(long)]
    skip_hash_check: bool,
}

impl Import {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.data_dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Failure::other(format!(
                "{} is not empty: an etcd's data goes into a new data directory",
                self.data_dir.display()
            )));
        }
        let draft = beside(&self.data_dir, ".importing");
        if draft.exists() {
            return Err(Failure::other(format!(
                "{} is there: another import is under way, or did not finish. If none is, remove \
                 that directory and try again",
                draft.display()
            )));
        }
        let result = self.import(&draft);
        if result.is_err() && draft.exists() {
            fs::remove_dir_all(&draft).map_err(Failure::file("removing", &draft))?;
        }
        result
    }

    fn import(&self, draft: &Path) -> Result<(), Failure> {
        create_directory(draft)?;
        let database = match (&self.from.from, &self.from.endpoints) {
            (Some(path), _) => Database::find(path, self.skip_hash_check)?,
            (None, Some(endpoint)) => {
                Database::fetch(endpoint, &self.access, &draft.join("download"))?
            }
            (None, None) => return Err(Failure::other("give --from or --endpoints")),
        };
        let data = draft.join("data");
        let loaded = load::load(&database, &data, self.without_auth)?;
        if self.data_dir.exists() {
            fs::remove_dir(&self.data_dir).map_err(Failure::file("replacing", &self.data_dir))?;
        }
        fs::rename(&data, &self.data_dir).map_err(Failure::file("renaming", &data))?;
        sync_parent(&self.data_dir)?;
        fs::remove_dir_all(draft).map_err(Failure::file("removing", draft))?;
        report(&self.data_dir, &loaded);
        Ok(())
    }
}

fn create_directory(path: &Path) -> Result<(), Failure> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parents = parent.map_or(Ok(()), fs::create_dir_all);
    parents.and_then(|()| fs::create_dir(path)).map_err(Failure::file("creating", path))
}

fn report(data_dir: &Path, loaded: &Loaded) {
    for note in &loaded.notes {
        eprintln!("warning: {note}");
    }
    println!(
        "{}: revision {}, compacted up to {}; {} versions, {} deletions, {} leases, {} users, \
         {} roles; {}",
        data_dir.display(),
        loaded.revision,
        loaded.compacted,
        loaded.versions,
        loaded.tombstones,
        loaded.leases,
        loaded.users,
        loaded.roles,
        rate(loaded.bytes, loaded.time)
    );
}
