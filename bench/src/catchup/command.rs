//! The `mainstay-bench catchup` command.

use super::measure;
use super::report::{self, Report};
use crate::cli::{self, CatchUpOptions, Cli, Command};
use crate::compare::command::{peer_facts, peers_of};
use crate::compare::facts::Facts;
use crate::compare::peer::{Peer, PeerKind};
use crate::limits;
use crate::load::run::{End, Plan};
use clap::Parser;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// etcd takes no more than 2 GiB unless it is told to.
const ETCD_QUOTA: &str = "--quota-backend-bytes=17179869184";

/// Runs the command.
///
/// # Errors
/// When a binary is missing, a cluster does not work, or the report cannot be written.
pub fn run(options: &CatchUpOptions) -> Result<ExitCode, String> {
    cli::check_members(options.members, 2)?;
    if options.members == limits::MEMBERS_MAX {
        return Err(format!("--members {}: there is no room for one more", options.members));
    }
    let peers: Vec<Peer> = peers_of(&options.peers)?.into_iter().map(with_room).collect();
    let (fill, load) = (fill_plan(options)?, load_plan(options)?);
    let mut report = Report {
        facts: Facts::collect(&options.dir),
        peers: peers.iter().map(|peer| peer_facts(peer, options.members)).collect(),
        members: options.members,
        keys: options.keys,
        value_size_bytes: options.value_size,
        rate: options.rate,
        outcomes: Vec::new(),
    };
    for peer in &peers {
        report.outcomes.push(measure::measure(peer, options, &fill, &load)?);
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

fn with_room(mut peer: Peer) -> Peer {
    let given = peer.arguments.iter().any(|flag| flag.starts_with("--quota-backend-bytes"));
    if peer.kind == PeerKind::Etcd && !given {
        peer.arguments.push(ETCD_QUOTA.to_owned());
    }
    peer
}

/// Writes every key once, then reads one.
fn fill_plan(options: &CatchUpOptions) -> Result<Plan, String> {
    let mut plan = plan(options, &["--workload", "range"])?;
    plan.end = End::Total(1);
    Ok(plan)
}

/// Puts at an even rate until somebody ends it.
fn load_plan(options: &CatchUpOptions) -> Result<Plan, String> {
    let rate = options.rate.to_string();
    let mut plan = plan(options, &["--workload", "put", "--rate", &rate])?;
    plan.end = End::After(options.beside * 2 + options.patience + Duration::from_secs(60));
    plan.interval = Duration::from_secs(1);
    Ok(plan)
}

/// A plan with the bounds that `mainstay-bench etcd` has.
fn plan(options: &CatchUpOptions, workload: &[&str]) -> Result<Plan, String> {
    let (clients, keys) = (options.clients.to_string(), options.keys.to_string());
    let value_size = options.value_size.to_string();
    let words = ["mainstay-bench", "etcd"].into_iter().chain(workload.iter().copied()).chain([
        "--clients",
        &clients,
        "--key-space",
        &keys,
        "--value-size",
        &value_size,
    ]);
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    match cli.command {
        Command::Etcd(load) => load.plan(),
        _ => unreachable!("these words name the etcd command"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &str) -> CatchUpOptions {
        let words = ["bench", "catchup"].into_iter().chain(arguments.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Catchup(options) => *options,
            _ => panic!("the catchup command"),
        }
    }

    #[test]
    fn options_become_plans() {
        let options = options("--keys 5000 --value-size 99 --rate 250 --beside 5s --patience 30s");
        let fill = fill_plan(&options).unwrap();
        assert_eq!((fill.key_space, fill.value_size_bytes, fill.end), (5000, 99, End::Total(1)));
        let load = load_plan(&options).unwrap();
        assert_eq!((load.rate, load.key_space), (Some(250.0), 5000));
        assert_eq!(load.end, End::After(Duration::from_secs(100)));
    }

    #[test]
    fn etcd_is_given_room() {
        for (peer, expected) in [
            ("e=etcd:/e", vec![ETCD_QUOTA]),
            ("e=etcd:/e --quota-backend-bytes=1", vec!["--quota-backend-bytes=1"]),
            ("m=mainstay:/m", vec![]),
        ] {
            assert_eq!(with_room(Peer::parse(peer).unwrap()).arguments, expected);
        }
    }
}
