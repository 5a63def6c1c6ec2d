//! Members that come and go, by etcdctl, and what a cluster without a leader says.

use std::time::{Duration, Instant};

use mainstay_proto::kv::{RangeRequest, RangeResponse};
use mainstay_proto::maintenance::{MoveLeaderRequest, MoveLeaderResponse};
use mainstay_proto::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};
use mainstay_tests::cluster::scenario::one_at_a_time;
use mainstay_tests::cluster::{Cluster, Kind, Options};
use mainstay_tests::etcdctl::{self, Etcdctl};
use mainstay_tests::grpc::{Client, Stream, block_on};
use mainstay_tests::http;

/// How long something may take that takes a few elections.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(what: &str) -> Option<Cluster> {
    if !etcdctl::is_present() {
        etcdctl::skipped(what);
        return None;
    }
    let cluster = Cluster::start(Options::three(Kind::Mainstay));
    let ctl = Etcdctl::new(cluster.client(0));
    let unstarted = || ctl.ok(&["member", "list"]).contains("unstarted");
    wait_for("all members are known to have started", || !unstarted());
    Some(cluster)
}

#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn id(cluster: &Cluster, member: usize) -> String {
    let header = cluster.status(member).and_then(|status| status.header).expect("a status");
    format!("{:x}", header.member_id)
}

#[track_caller]
fn fails(ctl: &Etcdctl, arguments: &[&str], expected: &str) {
    let said = ctl.fails(arguments);
    assert!(said.contains(expected), "{arguments:?}: {said}");
}

#[test]
fn a_learner_comes_is_promoted_leads_and_goes() {
    let _alone = one_at_a_time();
    let Some(mut cluster) = start("a member that comes and goes") else { return };
    let ctl = Etcdctl::new(cluster.client(0));
    ctl.ok(&["put", "a", "1"]);
    let new = cluster.add_learner(1);
    wait_for("the learner catches up", || {
        let status = cluster.status(new);
        let old = cluster.status(0).map(|status| status.raft_applied_index);
        status.is_some_and(|status| status.is_learner && Some(status.raft_applied_index) >= old)
    });
    let own = id(&cluster, new);
    let there = Etcdctl::new(cluster.client(new));
    assert!(there.ok(&["get", "a", "--consistency=s"]).contains('1'));
    for refused in [&["put", "a", "2"][..], &["get", "a"], &["member", "list"]] {
        fails(&there, refused, "rpc not supported for learner");
    }
    fails(
        &ctl,
        &["member", "add", "x", "--learner", "--peer-urls=http://127.0.0.1:1"],
        "too many learner members",
    );
    wait_for("the promotion", || ctl.run_with(&["member", "promote", &own], "").success);
    fails(&ctl, &["member", "promote", &own], "can only promote a learner member");
    there.ok(&["put", "a", "2"]);

    let leader = cluster.leader();
    Etcdctl::new(cluster.client(leader)).ok(&["move-leader", &own]);
    wait_for("it leads", || {
        cluster.status(0).is_some_and(|status| format!("{:x}", status.leader) == own)
    });
    // Whoever is asked may see the leader go before it has said that it does.
    let said = ctl.run_with(&["member", "remove", &own], "");
    assert!(said.success || said.stderr.contains("leader changed"), "{}", said.stderr);
    wait_for("it stops", || !cluster.is_running(new));
    wait_for("another one leads", || {
        let led = |status: mainstay_proto::maintenance::StatusResponse| status.leader != 0;
        cluster.status(0).is_some_and(led)
    });
    let list = ctl.ok(&["member", "list"]);
    assert!(list.lines().count() == 3 && !list.contains(&own), "{list}");
    assert!(ctl.ok(&["get", "a"]).contains('2'));
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let _alone = one_at_a_time();
    let Some(cluster) = start("refused changes of members") else { return };
    let (leader, followers) = cluster.roles();
    let ctl = Etcdctl::new(cluster.client(followers[0]));
    let leading = Etcdctl::new(cluster.client(leader));
    let own = id(&cluster, leader);
    let list = ctl.ok(&["member", "list"]);
    let taken = list.split(", ").find(|word| word.starts_with("http")).expect("a URL");
    fails(
        &ctl,
        &["member", "add", "x", &format!("--peer-urls={taken}")],
        "Peer URLs already exists",
    );
    fails(&ctl, &["member", "remove", "123"], "member not found");
    fails(&ctl, &["member", "promote", &own], "can only promote a learner member");
    fails(&leading, &["move-leader", "123"], "bad leader transferee");
    let moved: Option<Result<MoveLeaderResponse, _>> = cluster.ask(
        followers[0],
        "/etcdserverpb.Maintenance/MoveLeader",
        &MoveLeaderRequest { target_id: 1 },
    );
    let failure = moved.expect("an answer").expect_err("it does not lead");
    assert_eq!((failure.code, &failure.message[..]), (9, "etcdserver: not leader"));
}

#[test]
fn a_cluster_without_a_leader_says_so() {
    let _alone = one_at_a_time();
    let Some(mut cluster) = start("no leader") else { return };
    Etcdctl::new(cluster.client(0)).ok(&["put", "a", "1"]);
    let (leader, followers) = cluster.roles();
    let left = followers[0];
    let address = cluster.client(left).to_owned();
    let watch = WatchRequest {
        request_union: Some(WatchRequestUnion::Create(WatchCreateRequest {
            key: "a".into(),
            ..WatchCreateRequest::default()
        })),
    };
    block_on(async {
        let client = Client::connect(&address).await;
        let requiring = client.requiring_leader();
        let mut stream: Stream<WatchRequest, WatchResponse> =
            requiring.stream_with("/etcdserverpb.Watch/Watch", &watch).await;
        assert!(stream.next().await.expect("an answer").created);
        cluster.kill(leader);
        cluster.kill(followers[1]);
        let begun = Instant::now();
        let ended = stream.end().await.expect("the stream ends with an error");
        assert_eq!((ended.code, &ended.message[..]), (14, "etcdserver: no leader"));
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());

        let get = |serializable| RangeRequest {
            key: "a".into(),
            serializable,
            ..RangeRequest::default()
        };
        let found: RangeResponse =
            client.unary("/etcdserverpb.KV/Range", &get(true)).await.expect("a stale read");
        assert_eq!(found.kvs.len(), 1);
        let read: Result<RangeResponse, _> =
            requiring.unary("/etcdserverpb.KV/Range", &get(false)).await;
        assert_eq!(read.expect_err("no leader").message, "etcdserver: no leader");
        // Without that wish it waits, and never for ever.
        let begun = Instant::now();
        let read: Result<RangeResponse, _> =
            client.unary("/etcdserverpb.KV/Range", &get(false)).await;
        let failure = read.expect_err("no leader").message;
        assert!(failure.starts_with("etcdserver: request timed out"), "{failure}");
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    });
    let status = cluster.status(left).expect("a status");
    assert_eq!(status.leader, 0);
    assert!(status.errors.iter().any(|error| error == "etcdserver: no leader"), "{status:?}");
    let health = http::get(&address, "/health");
    assert!(health.body.contains("RAFT NO LEADER"), "{health:?}");
    let metrics = http::get(&address, "/metrics").body;
    assert!(metrics.contains("\netcd_server_has_leader 0\n"));
    cluster.start_member(leader);
    wait_for("a leader", || cluster.status(left).is_some_and(|status| status.leader != 0));
    cluster.wait_member_healthy(left);
}
