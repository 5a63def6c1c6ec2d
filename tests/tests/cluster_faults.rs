//! Three real members whose processes, links and disks fail while clients write, read and watch. Every history is
//! checked (tests/src/history/check.rs says for what), every seed printed. `MAINSTAY_TEST_CLUSTER=etcd` runs the same against
//! etcd, which is how it is known that the tests ask for nothing that etcd does not give.

use std::time::{Duration, Instant};

use mainstay_proto::kv::{RangeRequest, RangeResponse};
use mainstay_tests::cluster::scenario::{
    announce, is_long, judge, one_at_a_time, options, random_faults,
};
use mainstay_tests::cluster::{Cluster, SmallDisk, Wanted};
use mainstay_tests::grpc::{Client, Failure};
use mainstay_tests::history::{Load, Run};

/// Answers that clients get before and after each fault.
const SOME: u64 = 100;

/// Once, or twice if there is time.
fn rounds(what: &str) -> usize {
    if is_long(what) { 2 } else { 1 }
}

#[test]
fn members_are_killed() {
    let _alone = one_at_a_time();
    let Some(options) = options("kills", Wanted::Direct) else { return };
    let mut cluster = Cluster::start(options);
    let run = Run::start(&cluster, &Load::usual());
    run.wait_answered(SOME);
    for _ in 0..rounds("a second round of kills") {
        let (leader, followers) = cluster.roles();
        for member in [leader, followers[0]] {
            cluster.kill(member);
            run.wait_answered(SOME);
            cluster.start_member(member);
            cluster.wait_member_healthy(member);
        }
    }
    run.wait_answered(SOME);
    judge("kills", &run.finish(&cluster));
}

#[test]
fn all_members_are_killed_and_stopped_at_once() {
    let _alone = one_at_a_time();
    let Some(options) = options("kills of all", Wanted::Direct) else { return };
    let mut cluster = Cluster::start(options);
    let run = Run::start(&cluster, &Load::usual());
    for end in [Cluster::kill, Cluster::stop] {
        run.wait_answered(SOME);
        (0..3).for_each(|member| end(&mut cluster, member));
        (0..3).for_each(|member| cluster.start_member(member));
        cluster.wait_healthy();
    }
    run.wait_answered(SOME);
    judge("kills of all", &run.finish(&cluster));
}

/// What waits in a sleeping leader's sockets was asked after others had elected a new one and written: its answer, when
/// it wakes, must know of that.
#[test]
fn a_leader_that_slept_serves_nothing_stale() {
    let _alone = one_at_a_time();
    let Some(options) = options("sleeping leaders", Wanted::Direct) else { return };
    let mut cluster = Cluster::start(options);
    let run = Run::start(&cluster, &Load::usual());
    for round in 0..rounds("a second leader that sleeps") {
        run.wait_answered(SOME);
        let (leader, followers) = cluster.roles();
        run.put(&cluster, &followers, ASLEEP, &format!("before {round}"));
        let questions = SleepersQuestions::new(cluster.client(leader));
        cluster.pause(leader);
        cluster.leader_other_than(Some(leader));
        let (_, newest) = run.put(&cluster, &followers, ASLEEP, &format!("after {round}"));
        questions.ask_and_wake(&cluster, leader, &newest);
        cluster.wait_member_healthy(leader);
    }
    judge("sleeping leaders", &run.finish(&cluster));
}

/// Reads on connections to a member that were open before it went to sleep.
struct SleepersQuestions {
    runtime: tokio::runtime::Runtime,
    clients: Vec<Client>,
}

const ASLEEP: &str = "/history/~asleep";

impl SleepersQuestions {
    fn new(address: &str) -> SleepersQuestions {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let clients = runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..8 {
                let client = Client::connect(address).await;
                let _warm = read(&client).await;
                clients.push(client);
            }
            clients
        });
        SleepersQuestions { runtime, clients }
    }

    fn ask_and_wake(&self, cluster: &Cluster, member: usize, newest: &str) {
        let found = self.runtime.block_on(async {
            let asked = self.clients.iter().map(read);
            let asked = futures_util::future::join_all(asked);
            let wake = async {
                // So that the questions are in its sockets first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                cluster.resume(member);
            };
            let (found, ()) = futures_util::future::join(asked, wake).await;
            found
        });
        let answers: Vec<&String> = found.iter().flatten().collect();
        assert!(answers.iter().all(|found| *found == newest), "stale: {answers:?}, not {newest}");
        eprintln!("a leader that woke up answered {} of {} reads", answers.len(), found.len());
    }
}

/// A linearizable read; `None` when it was not answered.
async fn read(client: &Client) -> Option<String> {
    let request = RangeRequest { key: ASLEEP.into(), ..Default::default() };
    let asked = client.try_unary("/etcdserverpb.KV/Range", &request);
    let answer: Option<Result<RangeResponse, Failure>> =
        tokio::time::timeout(Duration::from_secs(10), asked).await.ok()?;
    let pair = answer?.ok()?.kvs.pop()?;
    Some(String::from_utf8_lossy(&pair.value).into_owned())
}

#[test]
fn links_are_cut() {
    let _alone = one_at_a_time();
    let Some(options) = options("cut links", Wanted::Links) else { return };
    let mut cluster = Cluster::start(options);
    // Whoever asks a member that is cut off should not wait there for long.
    let load = Load { timeout: Duration::from_millis(1200), ..Load::usual() };
    let run = Run::start(&cluster, &load);
    run.wait_answered(SOME);

    let (leader, _) = cluster.roles();
    announce("the leader is alone");
    cluster.network().isolate(leader, 3);
    // It still answers serializable reads and believes to lead for a while: the others have to say.
    std::thread::sleep(Duration::from_secs(2));
    run.wait_answered(SOME);
    cluster.network().heal();
    cluster.wait_healthy();

    let (leader, followers) = cluster.roles();
    announce("the leader is deaf: all hear it, it hears nobody");
    followers.iter().for_each(|follower| cluster.network().cut(*follower, leader));
    std::thread::sleep(Duration::from_secs(2));
    run.wait_answered(SOME);
    cluster.network().heal();
    cluster.wait_healthy();

    if is_long("cuts between the leader and one follower") {
        let (leader, followers) = cluster.roles();
        announce("one follower does not hear the leader");
        cluster.network().cut(leader, followers[0]);
        std::thread::sleep(Duration::from_secs(2));
        run.wait_answered(SOME);
        cluster.network().heal();
        cluster.wait_healthy();

        let (leader, followers) = cluster.roles();
        announce("the leader and one follower do not hear each other, the third hears both");
        cluster.network().cut_both_ways(leader, followers[0]);
        std::thread::sleep(Duration::from_secs(2));
        run.wait_answered(SOME);
        cluster.network().heal();
        cluster.wait_healthy();
    }
    run.wait_answered(SOME);
    judge("cut links", &run.finish(&cluster));
}

#[test]
fn links_are_slow_and_break() {
    if !is_long("links that are slow and break") {
        return;
    }
    let _alone = one_at_a_time();
    let Some(options) = options("slow links", Wanted::Proxies) else { return };
    let mut cluster = Cluster::start(options);
    let run = Run::start(&cluster, &Load::usual());
    run.wait_answered(SOME);
    let (leader, followers) = cluster.roles();
    // One way is slower than the other, and one follower's than the other's.
    for (from, to, delay_ms) in
        [(leader, followers[0], 20), (followers[0], leader, 5), (leader, followers[1], 60)]
    {
        cluster.network().delay(from, to, Duration::from_millis(delay_ms));
    }
    for _ in 0..5 {
        run.wait_answered(SOME / 3);
        cluster.network().break_connections(leader, followers[0]);
        run.wait_answered(SOME / 3);
        cluster.network().break_connections(followers[1], leader);
    }
    cluster.network().heal();
    cluster.wait_healthy();
    run.wait_answered(SOME);
    judge("slow links", &run.finish(&cluster));
}

/// A follower whose disk is full may end or refuse; the others go on, and it comes back when there is room again. (What a
/// leader with a full disk does is told in docs/cluster.md.)
#[test]
fn a_disk_is_full() {
    if !is_long("a full disk") {
        return;
    }
    let _alone = one_at_a_time();
    let disk = match SmallDisk::new(DISK_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("NOT TESTED: a full disk: {reason}"),
    };
    let Some(mut options) = options("a full disk", Wanted::Direct) else { return };
    let member = 1;
    options.data_of = Some((member, disk.path().join("data")));
    let mut cluster = Cluster::start(options);
    // Much data, so that what was set aside beforehand is soon used up.
    let load = Load { padding_bytes: 64 << 10, ..Load::usual() };
    let run = Run::start(&cluster, &load);
    run.wait_answered(SOME);
    if cluster.leader() == member {
        cluster.kill(member);
        cluster.leader_other_than(Some(member));
        cluster.start_member(member);
        cluster.wait_member_healthy(member);
    }
    disk.fill();
    let full_at = Instant::now();
    while cluster.is_running(member) && full_at.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(50));
    }
    announce(match cluster.is_running(member) {
        true => "the member with the full disk goes on",
        false => "the member with the full disk has ended",
    });
    run.wait_answered(SOME);
    cluster.kill(member);
    run.wait_answered(SOME);
    disk.empty();
    cluster.start_member(member);
    cluster.wait_member_healthy(member);
    run.wait_answered(SOME);
    let summary = judge("a full disk", &run.finish(&cluster));
    assert_eq!(summary.refused, 0, "one member's full disk is nobody else's: {summary}");
}

/// Room for what a member sets aside for its log, and some.
const DISK_BYTES: u64 = 512 << 20;

/// Faults of all kinds in an order that the seed draws, as long as `MAINSTAY_TEST_SOAK_SECONDS` says.
#[test]
fn soak() {
    let Ok(seconds) = std::env::var("MAINSTAY_TEST_SOAK_SECONDS") else {
        return eprintln!("LEFT OUT: random faults; MAINSTAY_TEST_SOAK_SECONDS=600 has them");
    };
    let seconds: u64 = seconds.parse().expect("MAINSTAY_TEST_SOAK_SECONDS is a number");
    let _alone = one_at_a_time();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seed = mainstay_tests::history::seed();
    while Instant::now() < end {
        let Some(options) = options("random faults", Wanted::Links) else { return };
        random_faults(options, seed, end.min(Instant::now() + Duration::from_secs(60)));
        seed += 1;
    }
}
