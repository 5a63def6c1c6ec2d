//! What can go wrong while the table is made, and reading and writing its files.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum SchemaError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the definitions are not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the definitions: {place}: {problem}")]
    Definition { place: String, problem: String },
    #[error("line {line}: {problem}")]
    List { line: usize, problem: String },
}

/// A whole file as text.
pub(crate) fn read(path: &Path) -> Result<String, SchemaError> {
    fs::read_to_string(path).map_err(|source| SchemaError::Read { path: path.to_owned(), source })
}

/// Replaces a file.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), SchemaError> {
    fs::write(path, text).map_err(|source| SchemaError::Write { path: path.to_owned(), source })
}
