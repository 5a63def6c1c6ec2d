//! `mainstayctl`: the operator's tool.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod schema;

#[derive(Parser)]
#[command(name = "mainstayctl", version, about = "Inspect, verify and operate Mainstay")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The table of the built-in Kubernetes types.
    #[command(subcommand)]
    Schema(schema::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Schema(command) => schema::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mainstayctl: {error}");
            ExitCode::FAILURE
        }
    }
}
