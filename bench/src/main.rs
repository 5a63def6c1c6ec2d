//! The command line of `mainstay-bench`: reads options, runs, and turns errors into exit codes.

use clap::Parser;
use mainstay_bench::cli::{Cli, Command};
use std::process::ExitCode;

/// The loader makes and drops a few small objects per request: a faster allocator leaves more of
/// the machine to the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    mainstay_bench::interrupt::watch();
    let outcome = match &cli.command {
        Command::Etcd(options) => mainstay_bench::load::command::run(options),
        Command::Compare(options) => mainstay_bench::compare::command::run(options),
        Command::Data(options) => mainstay_bench::data::command::run(options),
        Command::Failover(options) => mainstay_bench::failover::command::run(options),
        Command::Catchup(options) => mainstay_bench::catchup::command::run(options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mainstay-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
