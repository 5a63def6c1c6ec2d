//! The `mainstay-bench failover` command.

use super::measure;
use super::report::{self, Report};
use crate::cli::{self, FailoverOptions};
use crate::compare::command::{peer_facts, peers_of};
use crate::compare::facts::Facts;
use crate::limits;
use std::path::Path;
use std::process::ExitCode;

/// Runs the command.
///
/// # Errors
/// When a binary is missing, a cluster does not work, or the report cannot be written.
pub fn run(options: &FailoverOptions) -> Result<ExitCode, String> {
    let peers = peers_of(&options.peers)?;
    // Two members cannot lose one.
    cli::check_members(options.members, 3)?;
    if options.kills == 0 || options.kills > limits::KILLS_MAX {
        return Err(format!("--kills {}, expected 1 to {}", options.kills, limits::KILLS_MAX));
    }
    if options.every.is_zero() || options.request_timeout.is_zero() {
        return Err("--every and --request-timeout must be over 0".to_owned());
    }
    let mut report = Report {
        facts: Facts::collect(&options.dir),
        peers: peers.iter().map(|peer| peer_facts(peer, options.members)).collect(),
        members: options.members,
        every_ms: options.every.as_secs_f64() * 1e3,
        outcomes: Vec::new(),
    };
    for peer in &peers {
        report.outcomes.push(measure::measure(peer, options)?);
    }
    print!("{}", report::text(&report));
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    if let Some(path) = &options.output {
        write(path, report::page(&report).as_bytes())?;
    }
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&report).map_err(|error| error.to_string())?;
        write(path, &json)?;
    }
    Ok(ExitCode::SUCCESS)
}
