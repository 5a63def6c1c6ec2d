//! Clusters of real processes on one machine, Mainstay's or etcd's, for tests that look at them from outside.
//! `member` is one process and its command line, `network` what lies between them and can be cut,
//! `namespaces` the kernel's way to do that, `disk` a small disk that fills up, `scenario` what all tests of them share.

mod disk;
mod member;
mod namespaces;
mod network;
pub mod scenario;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_proto::cluster::{MemberAddRequest, MemberAddResponse};
use mainstay_proto::maintenance::{HashKvRequest, HashKvResponse, StatusRequest, StatusResponse};
use prost::Message;

use crate::grpc::{Client, Failure, block_on};
use crate::process::Directory;

pub use disk::SmallDisk;
pub use member::Kind;
use member::{Launch, Member};
pub use network::{Network, Wanted};

/// How long a cluster may take to become healthy on a busy machine.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long members may take to agree on who leads: many elections.
const LEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one question to one member may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// How long replicas may take to hold the same.
const EQUAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at something that changes.
const PAUSE: Duration = Duration::from_millis(25);
/// As many as the addresses of a network are laid out for.
pub const MEMBERS_MAX: usize = 7;

/// What a cluster is made of.
#[derive(Debug)]
pub struct Options {
    pub kind: Kind,
    pub members: usize,
    pub network: Wanted,
    /// Flags for every member besides those that name addresses and directories.
    pub flags: Vec<String>,
    /// The data directory of one member that is not to be among the others'.
    pub data_of: Option<(usize, PathBuf)>,
}

impl Options {
    /// Three members, nothing between them that can be cut.
    pub fn three(kind: Kind) -> Options {
        Options { kind, members: 3, network: Wanted::Direct, flags: Vec::new(), data_of: None }
    }
}

/// A running cluster; all that it started ends with it.
pub struct Cluster {
    kind: Kind,
    flags: Vec<String>,
    token: String,
    members: Vec<Member>,
    network: Network,
    directory: Directory,
}

impl Cluster {
    /// Starts all members and waits until they answer.
    pub fn start(options: Options) -> Cluster {
        assert!((1..=MEMBERS_MAX).contains(&options.members), "a cluster of 1 to {MEMBERS_MAX}");
        let network = Network::make(options.network, options.members);
        let directory = Directory::new();
        let members = (0..options.members).map(|number| {
            let data = match &options.data_of {
                Some((of, path)) if *of == number => path.clone(),
                _ => directory.path().join(format!("m{number}")),
            };
            let log = directory.path().join(format!("m{number}.log"));
            Member::new(number, network.addresses(number), data, log)
        });
        let mut cluster = Cluster {
            kind: options.kind,
            flags: options.flags,
            token: format!("mainstay-test-{}", std::process::id()),
            members: members.collect(),
            network,
            directory,
        };
        for number in 0..options.members {
            cluster.launch(number, "new");
        }
        cluster.wait_healthy();
        cluster
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many members there are, running or not.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where clients find this member.
    pub fn client(&self, member: usize) -> &str {
        &self.members[member].addresses.client
    }

    /// Where clients find each member.
    pub fn clients(&self) -> Vec<String> {
        self.members.iter().map(|member| member.addresses.client.clone()).collect()
    }

    pub fn data(&self, member: usize) -> &Path {
        &self.members[member].data
    }

    pub fn is_running(&mut self, member: usize) -> bool {
        self.members[member].is_running()
    }

    fn launch(&mut self, number: usize, state: &str) {
        let urls = self
            .members
            .iter()
            .map(|member| format!("{}=http://{}", member.name, member.addresses.peer_advertised));
        let cluster = urls.collect::<Vec<_>>().join(",");
        let launch = Launch {
            kind: self.kind,
            cluster: &cluster,
            state,
            token: &self.token,
            flags: &self.flags,
            prefix: &self.network.command_prefix(number),
        };
        let process = self.members[number].launch(&launch);
        self.network.runs(number, process);
    }

    /// Starts a member that is not running; does not wait until it answers.
    pub fn start_member(&mut self, member: usize) {
        self.launch(member, "new");
    }

    /// Ends a member as a crash would.
    pub fn kill(&mut self, member: usize) {
        self.members[member].kill();
    }

    /// Asks a member to stop, and waits until it has.
    pub fn stop(&mut self, member: usize) {
        self.members[member].stop();
    }

    /// SIGSTOP.
    pub fn pause(&self, member: usize) {
        self.members[member].signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self, member: usize) {
        self.members[member].signal("CONT");
    }

    /// What a member said, of all its lives.
    pub fn log(&self, member: usize) -> String {
        self.members[member].log_text()
    }

    /// Waits until every member that runs says that it is healthy.
    pub fn wait_healthy(&mut self) {
        for member in 0..self.size() {
            if self.members[member].started() {
                self.wait_member_healthy(member);
            }
        }
    }

    /// Waits until this member says that it is healthy.
    pub fn wait_member_healthy(&mut self, member: usize) {
        let deadline = Instant::now() + HEALTH_TIMEOUT;
        while !self.members[member].is_healthy() {
            assert!(self.members[member].is_running(), "member {member} has ended");
            assert!(
                Instant::now() < deadline,
                "member {member} does not become healthy: {:#?}",
                (0..self.size()).map(|member| self.status(member)).collect::<Vec<_>>()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// A unary call to one member; `None` when there is no answer in time.
    pub fn ask<Q: Message, A: Message + Default>(
        &self,
        member: usize,
        path: &str,
        request: &Q,
    ) -> Option<Result<A, Failure>> {
        let answer = async {
            let client = Client::try_connect(self.client(member)).await?;
            client.try_unary(path, request).await
        };
        block_on(async { tokio::time::timeout(ASK_TIMEOUT, answer).await.ok()? })
    }

    pub fn status(&self, member: usize) -> Option<StatusResponse> {
        self.ask(member, "/etcdserverpb.Maintenance/Status", &StatusRequest {})?.ok()
    }

    /// Waits until most members name the same one, and that one agrees.
    pub fn leader(&self) -> usize {
        self.leader_other_than(None)
    }

    /// Likewise, of a leader that is not `not`: the members that can hear each other may need an election first.
    pub fn leader_other_than(&self, not: Option<usize>) -> usize {
        let deadline = Instant::now() + LEADER_TIMEOUT;
        loop {
            if let Some(leader) = self.agreed_leader().filter(|leader| Some(*leader) != not) {
                return leader;
            }
            assert!(Instant::now() < deadline, "no leader but {not:?} after {LEADER_TIMEOUT:?}");
            std::thread::sleep(PAUSE);
        }
    }

    fn agreed_leader(&self) -> Option<usize> {
        let responsive = |member: &usize| self.members[*member].responds();
        let statuses: Vec<(usize, StatusResponse)> = (0..self.size())
            .filter(responsive)
            .filter_map(|member| Some((member, self.status(member)?)))
            .collect();
        let (leader, own) = statuses.iter().find(|(_, status)| {
            status.leader != 0
                && status.header.is_some_and(|own| own.member_id == status.leader)
                && statuses.iter().all(|(_, other)| other.raft_term <= status.raft_term)
        })?;
        let followers = statuses
            .iter()
            .filter(|(_, status)| status.leader == own.leader && status.raft_term == own.raft_term);
        (followers.count() * 2 > self.size()).then_some(*leader)
    }

    /// The leader and the others.
    pub fn roles(&self) -> (usize, Vec<usize>) {
        let leader = self.leader();
        (leader, (0..self.size()).filter(|member| *member != leader).collect())
    }

    /// Adds a member to the cluster and starts it; does not wait until it answers.
    pub fn add_member(&mut self, via: usize) -> usize {
        self.add(via, false)
    }

    /// Likewise, one without a vote.
    pub fn add_learner(&mut self, via: usize) -> usize {
        self.add(via, true)
    }

    fn add(&mut self, via: usize, is_learner: bool) -> usize {
        let number = self.size();
        assert!(number < MEMBERS_MAX);
        let addresses = self.network.grow(number);
        let peer = format!("http://{}", addresses.peer_advertised);
        let request = MemberAddRequest { peer_urls: vec![peer], is_learner };
        let path = "/etcdserverpb.Cluster/MemberAdd";
        let added: Option<Result<MemberAddResponse, Failure>> = self.ask(via, path, &request);
        added.expect("an answer").expect("a member is added");
        let data = self.directory.path().join(format!("m{number}"));
        let log = self.directory.path().join(format!("m{number}.log"));
        self.members.push(Member::new(number, addresses, data, log));
        self.launch(number, "existing");
        number
    }

    /// Waits until all members have come as far as `revision` and hold the same by their hashes.
    pub fn assert_replicas_equal(&self, revision: i64) {
        let deadline = Instant::now() + EQUAL_TIMEOUT;
        for member in 0..self.size() {
            while !self.has_reached(member, revision) {
                assert!(
                    Instant::now() < deadline,
                    "member {member} does not reach revision {revision}: {:?}",
                    self.status(member)
                );
                std::thread::sleep(PAUSE);
            }
        }
        let hashes: Vec<HashKvResponse> = (0..self.size())
            .map(|member| {
                let request = HashKvRequest { revision };
                let path = "/etcdserverpb.Maintenance/HashKV";
                let answer: Option<Result<HashKvResponse, Failure>> =
                    self.ask(member, path, &request);
                answer.expect("an answer").expect("a hash")
            })
            .collect();
        let of = |hash: &HashKvResponse| (hash.hash, hash.compact_revision);
        assert!(
            hashes.iter().all(|hash| of(hash) == of(&hashes[0])),
            "replicas differ at revision {revision}: {hashes:?}"
        );
    }

    fn has_reached(&self, member: usize, revision: i64) -> bool {
        let status = self.status(member).and_then(|status| status.header);
        status.is_some_and(|header| header.revision >= revision)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill();
        }
        if std::thread::panicking() {
            for member in &self.members {
                eprintln!("the end of what {} said:\n{}\n", member.name, member.log_end());
            }
        }
    }
}

pub(crate) use member::free_port;
