//! `mainstayctl log`: what is in the log of a data directory, and whether it is intact.
//!
//! Both commands read the log front to back, a frame at a time, and write nothing. They need a
//! directory that no server uses, and keep servers away while they read.

mod dump;
mod line;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::failure::Failure;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List frames, and what the batches in them do.
    Dump(dump::Dump),
    /// Read everything: checksums, chain, indexes and revisions.
    Verify(verify::Verify),
}

#[derive(Args)]
pub(crate) struct Common {
    /// The data directory of a server that does not run
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// How to write it
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// JSON, one object a line
    Json,
}

/// Runs a subcommand of `mainstayctl log`.
pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dump(dump) => dump.run(),
        Command::Verify(verify) => verify.run(),
    }
}
