//! Why a command did not do what it was asked for. Every text says where and what to do.

use std::fmt::Display;
use std::io;
use std::path::Path;

use mainstay_engine::runtime::disk::DiskError;
use thiserror::Error;

use crate::schema::SchemaError;

#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// Something with a file that the operating system refused.
    #[error("{doing} {path}: {source}")]
    File { doing: &'static str, path: String, source: io::Error },
    /// A database that is not as it should be.
    #[error("{path}: {source}")]
    Database { path: String, source: mainstay_bbolt::Error },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("{0}")]
    Other(String),
}

impl Failure {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Failure + use<> {
        let path = path.display().to_string();
        move |source| Failure::File { doing, path: path.clone(), source }
    }

    pub(crate) fn other(text: impl Display) -> Failure {
        Failure::Other(text.to_string())
    }
}
