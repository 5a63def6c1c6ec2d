//! The `mainstay-bench data` command.

use super::measure;
use super::report::{self, Report};
use crate::cli::{Cli, Command, DataOptions};
use crate::compare::command::{peer_facts, peers_of};
use crate::compare::facts::Facts;
use crate::interrupt;
use crate::load::run::{End, Plan};
use clap::Parser;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the command.
///
/// # Errors
/// When a binary is missing, a server does not work, or the report cannot be written.
pub fn run(options: &DataOptions) -> Result<ExitCode, String> {
    let peers = peers_of(&options.peers)?;
    let (fill, rewrite) = (fill_plan(options)?, rewrite_plan(options)?);
    let mut report = Report {
        facts: Facts::collect(&options.dir),
        peers: peers.iter().map(|peer| peer_facts(peer, 1)).collect(),
        keys: fill.key_space,
        value_size_bytes: fill.value_size_bytes,
        rewrite_keys: options.rewrite_keys,
        rewrite_clients: options.clients,
        filled: Vec::new(),
        rewritten: Vec::new(),
    };
    for peer in &peers {
        eprintln!("{}: writing {} keys, restarting twice", peer.name, fill.key_space);
        report.filled.push(measure::fill(peer, &fill, options.settle, &options.dir)?);
        stop_if_asked()?;
    }
    for peer in peers.iter().filter(|_| rewrite.is_some()) {
        let Some(plan) = &rewrite else { break };
        eprintln!(
            "{}: rewriting {} keys for {} s",
            peer.name,
            plan.key_space,
            options.rewrite.as_secs()
        );
        report.rewritten.push(measure::rewrite(peer, plan, &options.dir)?);
        stop_if_asked()?;
    }
    print!("{}", report::text(&report));
    let write = |path: &std::path::Path, bytes: &[u8]| {
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

fn stop_if_asked() -> Result<(), String> {
    if interrupt::requested() {
        return Err("stopped; no report was written".to_owned());
    }
    Ok(())
}

/// Writes every key once, then reads one.
fn fill_plan(options: &DataOptions) -> Result<Plan, String> {
    let mut plan = plan(options, "range", options.keys)?;
    plan.end = End::Total(1);
    Ok(plan)
}

fn rewrite_plan(options: &DataOptions) -> Result<Option<Plan>, String> {
    if options.rewrite.is_zero() {
        return Ok(None);
    }
    let mut plan = plan(options, "put", options.rewrite_keys)?;
    plan.end = End::After(options.rewrite);
    plan.interval = (options.rewrite / 300).max(Duration::from_secs(1));
    Ok(Some(plan))
}

/// A plan with the bounds that `mainstay-bench etcd` has.
fn plan(options: &DataOptions, workload: &str, keys: u64) -> Result<Plan, String> {
    let (clients, keys) = (options.clients.to_string(), keys.to_string());
    let value_size = options.value_size.to_string();
    let words = [
        ["mainstay-bench", "etcd"],
        ["--workload", workload],
        ["--clients", &clients],
        ["--key-space", &keys],
        ["--value-size", &value_size],
    ];
    let cli = Cli::try_parse_from(words.concat()).map_err(|error| error.to_string())?;
    match cli.command {
        Command::Etcd(load) => load.plan(),
        _ => unreachable!("these words name the etcd command"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::run::Kind;

    fn options(arguments: &str) -> DataOptions {
        let words = ["bench", "data"].into_iter().chain(arguments.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Data(options) => *options,
            _ => panic!("the data command"),
        }
    }

    #[test]
    fn options_become_plans() {
        let options = options("--keys 5000 --rewrite-keys 70 --rewrite 10m --value-size 99");
        let fill = fill_plan(&options).unwrap();
        assert_eq!((fill.key_space, fill.value_size_bytes, fill.end), (5000, 99, End::Total(1)));
        assert!(matches!(fill.kind, Kind::Range { .. }) && fill.prepare);
        let rewrite = rewrite_plan(&options).unwrap().unwrap();
        assert_eq!((rewrite.kind, rewrite.key_space), (Kind::Put, 70));
        assert_eq!(rewrite.interval, Duration::from_secs(2));
    }

    #[test]
    fn nothing_is_rewritten_unless_asked() {
        assert!(rewrite_plan(&options("--rewrite 0s")).unwrap().is_none());
    }

    #[test]
    fn bounds_are_those_of_the_load() {
        assert!(fill_plan(&options("--keys 0")).unwrap_err().contains("--key-space"));
        assert!(fill_plan(&options("--value-size 9999999")).unwrap_err().contains("--value-size"));
    }
}
