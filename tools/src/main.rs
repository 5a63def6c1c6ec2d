//! `mainstayctl`: the operator's tool.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

mod export;
mod failure;
mod files;
mod import;
mod log;
mod progress;
mod remote;
mod schema;
mod snapshot;
mod state;

#[derive(Parser)]
#[command(name = "mainstayctl", version, about = "Inspect, verify and operate Mainstay")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring an etcd's data into a new data directory.
    Import(import::Import),
    /// Write a data directory, or a running server's data, as a snapshot file of etcd.
    Export(export::Export),
    /// Look at the log of a data directory.
    #[command(subcommand)]
    Log(log::Command),
    /// Look at the snapshots of a data directory.
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// The table of the built-in Kubernetes types.
    #[command(subcommand)]
    Schema(schema::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Import(import) => import.run(),
        Command::Export(export) => export.run(),
        Command::Log(command) => log::run(command),
        Command::Snapshot(command) => snapshot::run(command),
        Command::Schema(command) => schema::run(command).map_err(Failure::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mainstayctl: {error}");
            ExitCode::FAILURE
        }
    }
}
