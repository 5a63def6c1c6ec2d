//! The `mainstay-bench compare` command: takes turns among the servers, round by round, and
//! writes the report.

use super::comparison::{Comparison, PeerFacts};
use super::facts::{self, Facts};
use super::measure::{self, Request};
use super::page;
use super::peer::{MemberPlace, Peer, PeerKind};
use crate::cli::{self, Cli, Command, CompareOptions, PeerOptions};
use crate::load::run::Plan;
use crate::result::summary::{grouped, microseconds};
use crate::{interrupt, limits};
use clap::{Parser, ValueEnum};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Rough time for starting, preparing and stopping a server, for the estimate only.
const OVERHEAD: Duration = Duration::from_secs(2);

/// Runs the command.
///
/// # Errors
/// When a binary is missing, a server does not work, or the report cannot be written.
pub fn run(options: &CompareOptions) -> Result<ExitCode, String> {
    let peers = peers_of(&options.peers)?;
    let plans = plans(options)?;
    cli::check_members(options.members, 1)?;
    let turns = turns(peers.len(), plans.len(), options.rounds);
    if turns.is_empty() || turns.len() > limits::RUNS_MAX {
        return Err(format!("{} runs, expected 1 to {}", turns.len(), limits::RUNS_MAX));
    }
    let each = options.idle + options.warmup + options.duration + OVERHEAD;
    eprintln!(
        "{} runs of about {} s: {} minutes",
        turns.len(),
        each.as_secs(),
        (each * turns.len() as u32).as_secs().div_ceil(60)
    );
    let mut comparison = Comparison {
        facts: Facts::collect(&options.dir),
        peers: peers.iter().map(|peer| peer_facts(peer, options.members)).collect(),
        members: options.members,
        began_unix_seconds: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
        rounds: options.rounds,
        runs: Vec::new(),
    };
    for (number, turn) in turns.iter().enumerate() {
        if interrupt::requested() {
            return Err("stopped; no report was written".to_owned());
        }
        let request = Request {
            peer: &peers[turn.peer],
            plan: plans[turn.plan].clone(),
            round: turn.round,
            idle: options.idle,
            members: options.members,
            parent: &options.dir,
        };
        let run = measure::measure(&request)?;
        if run.figures.interrupted {
            return Err("stopped; no report was written".to_owned());
        }
        eprintln!(
            "{:>4}/{} round {} {:<12} {:>5} clients  {:<10} {:>10}/s  p99 {:>8}  {:>6.1} us CPU each{}",
            number + 1,
            turns.len(),
            turn.round + 1,
            run.workload,
            run.clients,
            run.peer,
            grouped(run.figures.operations_per_second, 0),
            microseconds(run.figures.latency.p99_us),
            run.cpu_us_per_operation,
            match run.figures.error_count() {
                0 => String::new(),
                count => format!("  {} ERRORS", grouped(count as f64, 0)),
            }
        );
        comparison.runs.push(run);
    }
    write(&options.output, page::page(&comparison).as_bytes())?;
    println!("{}", options.output.display());
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&comparison).map_err(|error| error.to_string())?;
        write(path, &json)?;
    }
    let failed = comparison.error_count() > 0 && !options.allow_errors;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// One run's place in the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    round: usize,
    plan: usize,
    peer: usize,
}

/// Peers take turns for each load; every other round in reverse, so that a machine that slowly
/// warms up or a disk that slowly fills treats them alike.
fn turns(peers: usize, plans: usize, rounds: usize) -> Vec<Turn> {
    let mut turns = Vec::new();
    for round in 0..rounds {
        for plan in 0..plans {
            for position in 0..peers {
                let peer = if round % 2 == 0 { position } else { peers - 1 - position };
                turns.push(Turn { round, plan, peer });
            }
        }
    }
    turns
}

/// The servers that take part, their binaries found.
///
/// # Errors
/// When an option is none, or a binary is missing: with the way to get it.
pub fn peers_of(options: &PeerOptions) -> Result<Vec<Peer>, String> {
    let mut peers = Vec::new();
    for text in &options.peer {
        peers.push(Peer::parse(text)?);
    }
    if peers.is_empty() {
        let plain = |name: &str, kind, path: &Path| Peer {
            name: name.to_owned(),
            kind,
            path: path.to_owned(),
            arguments: Vec::new(),
        };
        peers.push(plain("etcd", PeerKind::Etcd, &options.etcd_bin));
        let beside_us = std::env::current_exe().ok().map(|path| path.with_file_name("mainstay"));
        let mainstay = match (&options.mainstay_bin, beside_us) {
            (Some(path), _) => path.clone(),
            (None, Some(path)) if path.exists() => path,
            _ => "mainstay".into(),
        };
        peers.push(plain("mainstay", PeerKind::Mainstay, &mainstay));
    }
    if peers.len() > limits::PEERS_MAX {
        return Err(format!("{} peers, expected at most {}", peers.len(), limits::PEERS_MAX));
    }
    for (number, peer) in peers.iter().enumerate() {
        if peers[..number].iter().any(|other| other.name == peer.name) {
            return Err(format!("two peers are named {}", peer.name));
        }
    }
    peers.into_iter().map(Peer::locate).collect()
}

/// What a report says of a server, or of the first member of a cluster.
#[must_use]
pub fn peer_facts(peer: &Peer, members: usize) -> PeerFacts {
    let urls = (0..members).map(|member| format!("m{member}=http://127.0.0.1:0"));
    let cluster = urls.collect::<Vec<_>>().join(",");
    let place = MemberPlace { name: "m0", ports: [0, 0], cluster: &cluster, state: "new" };
    let directory = Path::new("DIR");
    let flags = match members {
        1 => peer.flags(directory, place.ports),
        _ => peer.member_flags(directory, &place),
    };
    let flags = flags.join(" ");
    PeerFacts {
        name: peer.name.clone(),
        version: facts::version(&peer.path),
        command: format!("{} {}", peer.path.display(), flags.replace(":0", ":PORT")),
    }
}

/// One plan per workload and client count, with the options that `mainstay-bench etcd` takes.
fn plans(options: &CompareOptions) -> Result<Vec<Plan>, String> {
    let mut plans = Vec::new();
    for workload in &options.workloads {
        for clients in &options.clients {
            plans.push(plan(options, *workload, *clients)?);
        }
    }
    Ok(plans)
}

fn plan(
    options: &CompareOptions,
    workload: crate::cli::WorkloadName,
    clients: usize,
) -> Result<Plan, String> {
    let name = workload.to_possible_value().map(|value| value.get_name().to_owned());
    let mut words = vec!["mainstay-bench".to_owned(), "etcd".to_owned()];
    words.extend(["--workload".to_owned(), name.unwrap_or_default()]);
    words.extend(["--clients".to_owned(), clients.to_string()]);
    words.extend(options.load_options.iter().cloned());
    let cli = Cli::try_parse_from(words).map_err(|error| format!("load options: {error}"))?;
    let Command::Etcd(load) = cli.command else {
        return Err("load options: expected those of mainstay-bench etcd".to_owned());
    };
    let mut plan = load.plan()?;
    plan.end = crate::load::run::End::After(options.duration);
    plan.warm_up = options.warmup;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &str) -> CompareOptions {
        let words = ["bench", "compare"].into_iter().chain(arguments.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Compare(options) => *options,
            _ => panic!("the compare command"),
        }
    }

    #[test]
    fn peers_take_turns() {
        let order: Vec<(usize, usize, usize)> =
            turns(2, 2, 2).iter().map(|turn| (turn.round, turn.plan, turn.peer)).collect();
        assert_eq!(
            order,
            [
                (0, 0, 0),
                (0, 0, 1),
                (0, 1, 0),
                (0, 1, 1),
                (1, 0, 1),
                (1, 0, 0),
                (1, 1, 1),
                (1, 1, 0)
            ]
        );
    }

    #[test]
    fn plans_take_load_options() {
        let options =
            options("--clients 1,64 --workloads put,lease-flood --duration 3s -- --value-size 99");
        let plans = plans(&options).unwrap();
        let seen: Vec<_> = plans.iter().map(|plan| (plan.kind.name(), plan.clients)).collect();
        assert_eq!(seen, [("put", 1), ("put", 64), ("lease-flood", 1), ("lease-flood", 64)]);
        assert_eq!(plans[0].value_size_bytes, 99);
        assert_eq!(plans[0].end, crate::load::run::End::After(Duration::from_secs(3)));
    }

    #[test]
    fn a_missing_etcd_is_told_with_the_way_to_get_it() {
        let error = peers_of(&options("--etcd-bin /no/etcd").peers).unwrap_err();
        assert!(error.contains("apt-get install etcd-server"), "{error}");
        let error = peers_of(&options("--peer a=etcd:/x --peer a=etcd:/x").peers).unwrap_err();
        assert!(error.contains("two peers"), "{error}");
    }
}
