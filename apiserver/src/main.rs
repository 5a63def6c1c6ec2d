//! The `mainstay` binary.

use std::process::ExitCode;

use mainstay_apiserver::cli::{Cli, Command};
use mainstay_apiserver::serve;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::read();
    let served = match &cli.command {
        Some(Command::Store(flags)) => serve::store(flags),
        Some(Command::Serve(flags)) => serve::serve(flags),
        None => serve::serve(&cli.serve),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mainstay: {error}");
            ExitCode::FAILURE
        }
    }
}
