//! A running server, asked over gRPC: an etcd, a Mainstay, or what speaks as one.
//!
//! `client` is a connection and its calls, `tls` its secrets; `snapshot` fetches the server's
//! database as a file, `keys` makes such a file of what a server without snapshots lists.

mod client;
mod keys;
mod snapshot;
mod tls;

use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use client::{CallError, Client};

/// gRPC's code for a method that a server does not have.
const UNIMPLEMENTED: u32 = 12;

/// How to reach a server. The flags are etcdctl's.
#[derive(Args)]
pub(crate) struct Access {
    /// CA of a server with https, PEM
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Certificate to show to the server, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Key of --cert, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// User of the server: the name, a colon and the password. It must have the role root
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Option<String>,
}

/// Writes the database of a server to `path`, its checksum at the end. Gives the length.
pub(crate) fn snapshot(endpoint: &str, access: &Access, path: &Path) -> Result<u64, Failure> {
    run(endpoint, async {
        let client = Client::connect(endpoint, access).await?;
        Ok(snapshot::fetch(&client, path).await?)
    })
}

/// As [`snapshot`], and from servers without that method by listing keys and leases. Gives what a
/// person should know.
pub(crate) fn everything(
    endpoint: &str,
    access: &Access,
    path: &Path,
) -> Result<Option<String>, Failure> {
    run(endpoint, async {
        let client = Client::connect(endpoint, access).await?;
        match snapshot::fetch(&client, path).await {
            Ok(_) => Ok(None),
            Err(CallError::Refused { code: UNIMPLEMENTED, .. }) => {
                keys::fetch(&client, path).await.map(Some)
            }
            Err(error) => Err(error.into()),
        }
    })
}

fn run<T>(endpoint: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::other)?;
    tokio::task::LocalSet::new()
        .block_on(&runtime, work)
        .map_err(|failure| Failure::other(format!("asking {endpoint}: {failure}")))
}
