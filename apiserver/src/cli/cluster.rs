//! Flags of clustering, with etcd's names, checks and words.

use clap::{Args, ValueEnum};
use mainstay_engine::cluster::{ClusterOptions, Initial};

use super::listen::{ListenUrl, parse_url};
use super::peer_tls::PeerTlsFlags;
use crate::membership;

/// Longer elections would leave a cluster without a leader for too long: etcd's bound.
const ELECTION_MS_MAX: u64 = 50_000;

/// Where members listen for each other, if nothing is said about that.
const PEER_URL: &str = "http://localhost:2380";

/// Whether a cluster begins or there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClusterState {
    New,
    Existing,
}

/// Who the members are, and how they get along.
#[derive(Debug, Clone, Args)]
pub struct ClusterFlags {
    /// URLs to listen on for other members, comma-separated: http or https, an address, a port.
    /// http://localhost:2380 when another of these flags asks for a cluster, none otherwise
    #[arg(long, value_name = "URLS", value_delimiter = ',', value_parser = parse_peer_listen_url)]
    pub listen_peer_urls: Vec<ListenUrl>,
    /// URLs by which the other members reach this one, comma-separated
    #[arg(long, value_name = "URLS", value_delimiter = ',', default_value = PEER_URL,
          value_parser = membership::peer_url)]
    pub initial_advertise_peer_urls: Vec<String>,
    /// All members of a new cluster, this one included, as in
    /// one=http://10.0.0.1:2380,two=http://10.0.0.2:2380; this one alone unless given. Not looked
    /// at once there are data
    #[arg(long, value_name = "MEMBERS", value_parser = check_initial_cluster)]
    pub initial_cluster: Option<String>,
    /// new, or existing for a member that was added to a cluster before. Not looked at once there
    /// are data
    #[arg(long, value_name = "STATE", default_value = "new")]
    pub initial_cluster_state: ClusterState,
    /// Keeps clusters apart that begin with the same members
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    /// Begin a new cluster of this member alone, with the data that it has. For when most members
    /// are lost for ever: docs/cluster.md
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = clap::ArgAction::Set, hide_default_value = true,
          value_name = "BOOL")]
    pub force_new_cluster: bool,
    /// Milliseconds between two signs of life of the leader
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub heartbeat_interval: u64,
    /// Milliseconds without one until the others elect a new leader
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    pub election_timeout: u64,
    /// Ask the others before an election whether they would vote for this member
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = clap::ArgAction::Set, hide_default_value = true,
          value_name = "BOOL")]
    pub pre_vote: bool,
    /// Refuse changes of members that could cost the quorum
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, action = clap::ArgAction::Set, hide_default_value = true,
          value_name = "BOOL")]
    pub strict_reconfig_check: bool,
    /// Learners that there may be
    #[arg(long, alias = "experimental-max-learners", value_name = "N", default_value_t = 1)]
    pub max_learners: usize,
    #[command(flatten)]
    pub peer_tls: PeerTlsFlags,
}

impl ClusterFlags {
    /// Whether these flags want this member to have, or to find, company.
    pub fn ask_for_company(&self) -> bool {
        !self.listen_peer_urls.is_empty()
            || self.initial_cluster.is_some()
            || self.initial_cluster_state == ClusterState::Existing
            || self.force_new_cluster
    }

    /// Where to listen for the others.
    pub fn peer_listeners(&self) -> Result<Vec<ListenUrl>, String> {
        match self.listen_peer_urls.is_empty() {
            true => Ok(vec![parse_url(PEER_URL)?]),
            false => Ok(self.listen_peer_urls.clone()),
        }
    }

    /// Checks what etcd checks at every start.
    pub fn check(&self) -> Result<(), String> {
        let (heartbeat, election) = (self.heartbeat_interval, self.election_timeout);
        if heartbeat == 0 {
            return Err(format!("--heartbeat-interval must be >0 (set to {heartbeat}ms)"));
        }
        if election == 0 {
            return Err(format!("--election-timeout must be >0 (set to {election}ms)"));
        }
        if heartbeat.saturating_mul(5) > election {
            return Err(format!(
                "--election-timeout[{election}ms] should be at least as 5 times as \
                 --heartbeat-interval[{heartbeat}ms]"
            ));
        }
        if election > ELECTION_MS_MAX {
            return Err(format!(
                "--election-timeout[{election}ms] is too long, and should be set less than \
                 {ELECTION_MS_MAX}ms"
            ));
        }
        Ok(())
    }

    /// What the store is told of its cluster. `client_urls` are those that clients are told.
    pub fn options(
        &self,
        name: &str,
        client_urls: Vec<String>,
        initial: Initial,
    ) -> ClusterOptions {
        ClusterOptions {
            name: name.to_owned(),
            peer_urls: self.initial_advertise_peer_urls.clone(),
            client_urls,
            heartbeat_ms: self.heartbeat_interval,
            election_ms: self.election_timeout,
            pre_vote: self.pre_vote,
            strict_reconfig: self.strict_reconfig_check,
            max_learners: self.max_learners,
            force_new_cluster: self.force_new_cluster,
            initial,
        }
    }

    /// How a member without data begins, or why that can't be said. One that has data has begun.
    pub fn initial(&self, name: &str) -> Result<Initial, String> {
        let advertised = membership::peer_urls(&self.initial_advertise_peer_urls)
            .map_err(|reason| format!("--initial-advertise-peer-urls: {reason}"))?;
        let cluster = match &self.initial_cluster {
            Some(text) => membership::parse_initial_cluster(text)?,
            None => [(name.to_owned(), advertised.clone())].into(),
        };
        match self.initial_cluster_state {
            ClusterState::New => {
                membership::new_cluster(&cluster, name, &advertised, &self.initial_cluster_token)
            }
            ClusterState::Existing => membership::existing_cluster(&cluster, name),
        }
    }
}

fn parse_peer_listen_url(text: &str) -> Result<ListenUrl, String> {
    let url = parse_url(text)?;
    match url.tcp() {
        Some(_) => Ok(url),
        None => Err("members talk over http:// or https:// URLs".to_owned()),
    }
}

/// What the text is worth is seen when it is needed, with the other flags.
fn check_initial_cluster(text: &str) -> Result<String, String> {
    membership::parse_initial_cluster(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, StoreFlags};

    fn store(flags: &[&str]) -> Result<StoreFlags, String> {
        let arguments = ["mainstay", "store"].iter().chain(flags);
        match Cli::try_read(arguments).map_err(|error| error.to_string())?.command {
            Some(Command::Store(flags)) => Ok(*flags),
            other => panic!("{other:?}"),
        }
    }

    fn initial(flags: &[&str]) -> Result<Initial, String> {
        let flags = store(flags)?;
        flags.cluster.check()?;
        flags.cluster.initial(&flags.name)
    }

    #[test]
    fn who_asks_for_company() {
        for (flags, expected) in [
            (&[][..], false),
            (&["--name=a", "--initial-advertise-peer-urls=http://a:1"], false),
            (&["--listen-peer-urls=http://127.0.0.1:1"], true),
            (&["--initial-cluster=default=http://localhost:2380"], true),
            (&["--initial-cluster-state=existing"], true),
            (&["--force-new-cluster"], true),
            (&["--force-new-cluster=false"], false),
        ] {
            let flags = store(flags).expect("good flags");
            assert_eq!(flags.cluster.ask_for_company(), expected);
            let listeners = flags.cluster.peer_listeners().expect("a good default");
            assert_eq!(listeners.len(), 1);
        }
    }

    #[test]
    fn three_members_agree_on_who_they_are() {
        let cluster = "--initial-cluster=a=http://a:1,b=http://b:1,c=http://c:1";
        let mut own = Vec::new();
        let mut ids = Vec::new();
        for name in ["a", "b", "c"] {
            let named = format!("--name={name}");
            let advertised = format!("--initial-advertise-peer-urls=http://{name}:1");
            match initial(&[&named, &advertised, cluster]).expect("good flags") {
                Initial::New { cluster_id, member_id, members } => {
                    own.push(member_id);
                    ids.push((cluster_id, members));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(ids.iter().all(|one| *one == ids[0]));
        let members: Vec<u64> = ids[0].1.iter().map(|member| member.id).collect();
        assert_eq!(own, members);
    }

    #[test]
    fn etcds_checks() {
        for (flags, expected) in [
            (&["--heartbeat-interval=0"][..], "--heartbeat-interval must be >0 (set to 0ms)"),
            (&["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
            (
                &["--heartbeat-interval=100", "--election-timeout=499"],
                "--election-timeout[499ms] should be at least as 5 times as \
                 --heartbeat-interval[100ms]",
            ),
            (
                &["--election-timeout=50001"],
                "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
            ),
            (
                &["--name=x", "--initial-cluster=a=http://a:1"],
                "couldn't find local name \"x\" in the initial cluster configuration",
            ),
            (
                &["--name=a", "--initial-cluster=a=http://a:1"],
                "--initial-cluster has a=http://a:1 but missing from \
                 --initial-advertise-peer-urls=http://localhost:2380",
            ),
            (&["--initial-cluster-state=existing"], "names no other member to ask"),
            (&["--initial-cluster=x"], "one=http"),
            (&["--initial-cluster-state=old"], "existing"),
            (&["--listen-peer-urls=unix:///a"], "http:// or https://"),
            (&["--listen-peer-urls=http://example:1"], "IP address"),
            (&["--initial-advertise-peer-urls=http://a"], "host:port"),
            (&["--peer-cert-file=x"], "--peer-key-file"),
        ] {
            let error = initial(flags).expect_err("bad flags");
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
    }
}
