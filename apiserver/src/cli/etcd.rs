//! etcd's flags besides those that name doors and files: those that do something here, and those
//! that are taken without effect so that a command line written for etcd starts a Mainstay.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::listen::{ListenUrl, parse_url};
use crate::etcd::alarm::Quota;
use crate::etcd::auto_compaction::{Mode, Retention};

/// Flags of etcd that mean the same here.
#[derive(Debug, Clone, Args)]
pub struct EtcdFlags {
    /// What --auto-compaction-retention counts: time or revisions
    #[arg(long, value_name = "MODE", default_value = "periodic")]
    pub auto_compaction_mode: Mode,
    /// History to keep, as in 10m, 1h or 1 (an hour); or so many revisions; 0 keeps all
    #[arg(long, value_name = "LENGTH", default_value = "0")]
    pub auto_compaction_retention: String,
    /// Bytes of live keys and values beyond which writes are refused, until there is space again;
    /// 0 for no limit (etcd's is 2 GiB then)
    #[arg(long, value_name = "BYTES", default_value_t = 0, allow_negative_numbers = true)]
    pub quota_backend_bytes: i64,
    /// Operations that a transaction may have
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = parse_operations)]
    pub max_txn_ops: usize,
    /// URLs to serve /metrics and /health on besides, comma-separated
    #[arg(long, value_name = "URLS", value_delimiter = ',', value_parser = parse_url)]
    pub listen_metrics_urls: Vec<ListenUrl>,
    #[command(flatten)]
    pub without_effect: WithoutEffect,
}

impl EtcdFlags {
    /// How much history is kept; `None` for all.
    pub fn retention(&self) -> Result<Option<Retention>, String> {
        Retention::parse(self.auto_compaction_mode, &self.auto_compaction_retention)
    }

    pub fn quota(&self) -> Quota {
        Quota::of_flag(self.quota_backend_bytes)
    }
}

/// The most operations that a transaction may be allowed: nested ones are bounded by this too.
const MAX_OPERATIONS: usize = 10_000;

fn parse_operations(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX_OPERATIONS).contains(number));
    number.ok_or_else(|| format!("must be a number from 1 to {MAX_OPERATIONS}"))
}

/// How often a silent watcher is told how far it has come, in etcd's older name too.
pub(super) const PROGRESS_ALIAS: &str = "experimental-watch-progress-notify-interval";

/// The flags that were given and have no effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WithoutEffect(pub Vec<&'static str>);

/// Why a flag has no effect.
const NO_BBOLT: &str = "there is no bbolt file";
const OWN_PACE: &str = "the store sets its own pace";
const SAFE: &str = "the store is never written without it";
const CHECKED: &str = "every entry carries a checksum, and what is damaged is mended by the others";
const STDERR: &str = "the log is lines of text on standard error";

/// Whether a flag is a switch (`--pre-vote`, `--pre-vote=false`) or has a value.
use Kind::{Switch, Value};
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Switch,
    Value,
}

/// etcd's flags that are taken without effect, and why there is none.
const WITHOUT_EFFECT: &[(&str, Kind, &str)] = &[
    ("initial-election-tick-advance", Switch, "a member that starts campaigns as soon as it may"),
    ("raft-read-timeout", Value, OWN_PACE),
    ("raft-write-timeout", Value, OWN_PACE),
    ("snapshot-catchup-entries", Value, OWN_PACE),
    ("corrupt-check-time", Value, CHECKED),
    ("compact-hash-check-time", Value, CHECKED),
    ("compact-hash-check-enabled", Switch, CHECKED),
    ("initial-corrupt-check", Switch, "checksums are verified at every start"),
    ("downgrade-check-time", Value, "there is nothing to go down to"),
    ("snapshot-count", Value, OWN_PACE),
    ("max-snapshots", Value, OWN_PACE),
    ("max-wals", Value, OWN_PACE),
    ("compaction-batch-limit", Value, OWN_PACE),
    ("compaction-sleep-interval", Value, OWN_PACE),
    ("backend-batch-interval", Value, NO_BBOLT),
    ("backend-batch-limit", Value, NO_BBOLT),
    ("backend-bbolt-freelist-type", Value, NO_BBOLT),
    ("bootstrap-defrag-threshold-megabytes", Value, NO_BBOLT),
    ("memory-mlock", Switch, "pages of the log are not mapped"),
    ("txn-mode-write-with-shared-buffer", Switch, NO_BBOLT),
    ("stop-grpc-service-on-defrag", Switch, NO_BBOLT),
    ("enable-lease-checkpoint", Switch, "leases are always checkpointed"),
    ("enable-lease-checkpoint-persist", Switch, "leases are always checkpointed"),
    ("unsafe-no-fsync", Switch, SAFE),
    ("socket-reuse-port", Switch, "every core listens on the same port already"),
    ("socket-reuse-address", Switch, "it is always set"),
    ("enable-grpc-gateway", Switch, "the gateway is always served"),
    ("enable-pprof", Switch, "there is no Go runtime to profile"),
    ("enable-v2", Switch, "there is no v2 API"),
    ("v2-deprecation", Value, "there is no v2 API"),
    ("metrics", Value, "all metrics are always served"),
    ("logger", Value, STDERR),
    ("log-outputs", Value, STDERR),
    ("log-format", Value, STDERR),
    ("enable-log-rotation", Switch, STDERR),
    ("log-rotation-config-json", Value, STDERR),
    ("warning-apply-duration", Value, "slow requests are counted, not logged"),
    ("warning-unary-request-duration", Value, "slow requests are counted, not logged"),
    ("feature-gates", Value, "etcd's features have no switches here"),
    ("enable-distributed-tracing", Switch, "there is no tracing"),
    ("distributed-tracing-address", Value, "there is no tracing"),
    ("distributed-tracing-service-name", Value, "there is no tracing"),
    ("distributed-tracing-instance-id", Value, "there is no tracing"),
    ("distributed-tracing-sampling-rate", Value, "there is no tracing"),
];

/// Those that older etcd versions call `--experimental-...`.
const WAS_EXPERIMENTAL: &[&str] = &[
    "initial-corrupt-check",
    "corrupt-check-time",
    "compact-hash-check-enabled",
    "compact-hash-check-time",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "peer-skip-client-san-verification",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "bootstrap-defrag-threshold-megabytes",
    "snapshot-catchup-entries",
    "memory-mlock",
    "txn-mode-write-with-shared-buffer",
    "stop-grpc-service-on-defrag",
    "enable-lease-checkpoint",
    "enable-lease-checkpoint-persist",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "distributed-tracing-address",
    "distributed-tracing-service-name",
    "distributed-tracing-instance-id",
    "distributed-tracing-sampling-rate",
];

impl WithoutEffect {
    /// The flags given and why each has no effect, for the log.
    pub fn reasons(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        let given = |name: &&str| self.0.contains(name);
        WITHOUT_EFFECT
            .iter()
            .filter(move |(name, _, _)| given(name))
            .map(|(name, _, why)| (*name, *why))
    }

    /// For `--help`: all names.
    fn help() -> String {
        let names: Vec<_> = WITHOUT_EFFECT.iter().map(|(name, ..)| format!("--{name}")).collect();
        format!("Flags of etcd that are taken without effect:\n  {}", names.join(" "))
    }
}

impl FromArgMatches for WithoutEffect {
    fn from_arg_matches(matches: &ArgMatches) -> Result<WithoutEffect, clap::Error> {
        let given = |(name, ..): &(&'static str, Kind, &str)| {
            matches.value_source(name).is_some().then_some(*name)
        };
        Ok(WithoutEffect(WITHOUT_EFFECT.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = WithoutEffect::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for WithoutEffect {
    fn augment_args(command: Command) -> Command {
        let argument = |(name, kind, why): &(&'static str, Kind, &'static str)| {
            let argument = Arg::new(*name)
                .long(*name)
                .action(ArgAction::Append)
                .help(format!("No effect: {why}"))
                .hide(true);
            let argument = match WAS_EXPERIMENTAL.contains(name) {
                true => argument.alias(format!("experimental-{name}")),
                false => argument,
            };
            match kind {
                Value => argument.num_args(1).allow_hyphen_values(true),
                Switch => {
                    let argument = argument.num_args(0..=1).require_equals(true);
                    argument.value_parser(clap::builder::BoolishValueParser::new())
                }
            }
        };
        command.args(WITHOUT_EFFECT.iter().map(argument)).after_long_help(WithoutEffect::help())
    }

    fn augment_args_for_update(command: Command) -> Command {
        WithoutEffect::augment_args(command)
    }
}

/// Has each of these flags of `command` take its value from the environment too, under etcd's name
/// for it: `--data-dir` from `ETCD_DATA_DIR`. The command line counts more.
pub(super) fn with_environment(command: Command, flags: &[String]) -> Command {
    command.mut_args(|argument| {
        let name = argument.get_long().filter(|name| flags.iter().any(|flag| flag == name));
        let Some(name) = name else { return argument };
        let variable = format!("ETCD_{}", name.to_ascii_uppercase().replace('-', "_"));
        argument.env(variable).hide_env(true)
    })
}

/// Shorter intervals would keep a server with many watchers busy; etcd has the same bound.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    Ok(crate::duration::parse(text)?.max(Duration::from_millis(100)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command as Chosen, StoreFlags};

    fn store(flags: &[&str]) -> Result<StoreFlags, clap::Error> {
        let arguments = ["mainstay", "store"].iter().chain(flags);
        match Cli::try_read(arguments)?.command {
            Some(Chosen::Store(flags)) => Ok(*flags),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_command_line_for_etcd_is_taken() {
        // As kubeadm writes it.
        let flags = store(&[
            "--advertise-client-urls=https://192.0.2.10:2379",
            "--client-cert-auth=true",
            "--data-dir=/var/lib/etcd",
            "--experimental-initial-corrupt-check=true",
            "--experimental-watch-progress-notify-interval=5s",
            "--feature-gates=InitialCorruptCheck=true",
            "--initial-advertise-peer-urls=https://192.0.2.10:2380",
            "--initial-cluster=one=https://192.0.2.10:2380",
            "--listen-metrics-urls=http://127.0.0.1:2381",
            "--name=one",
            "--peer-client-cert-auth=true",
            "--snapshot-count=10000",
            "--pre-vote=false",
            "--unsafe-no-fsync",
            "--auto-compaction-retention=1",
            "--quota-backend-bytes=-1",
            "--log-level=fatal",
        ])
        .expect("good flags");
        assert!(flags.tls.client_cert_auth);
        assert_eq!(flags.watch_progress_notify_interval, Duration::from_secs(5));
        assert_eq!(flags.cluster.initial_advertise_peer_urls, ["https://192.0.2.10:2380"]);
        assert!(flags.cluster.peer_tls.peer_client_cert_auth && !flags.cluster.pre_vote);
        assert_eq!(flags.etcd.retention(), Ok(Some(Retention::Time(Duration::from_secs(3600)))));
        assert_eq!(flags.etcd.quota(), Quota::default());
        let names: Vec<_> = flags.etcd.without_effect.reasons().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["initial-corrupt-check", "snapshot-count", "unsafe-no-fsync", "feature-gates",]
        );
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for (flags, expected) in [
            (&["--auto-compaction-mode=hourly"][..], "periodic"),
            (&["--max-txn-ops=0"], "10000"),
            (&["--discovery=http://x"], "--discovery"),
            (&["--heartbeat-intervall=5"], "--heartbeat-interval"),
        ] {
            let error = store(flags).expect_err("bad flags").to_string();
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
    }

    #[test]
    fn every_flag_has_etcds_variable() {
        let command = Cli::full_command();
        let store = command.find_subcommand("store").expect("a command");
        for (flag, variable) in
            [("data-dir", "ETCD_DATA_DIR"), ("heartbeat-interval", "ETCD_HEARTBEAT_INTERVAL")]
        {
            let found = store.get_arguments().find(|argument| argument.get_long() == Some(flag));
            let found = found.and_then(Arg::get_env).and_then(|name| name.to_str());
            assert_eq!(found, Some(variable));
        }
        let serve = command.find_subcommand("serve").expect("a command");
        let port = serve.get_arguments().find(|one| one.get_long() == Some("secure-port"));
        assert_eq!(port.expect("a flag").get_env(), None, "it is not etcd's");
    }
}
