//! What operators and clients do with three real members: restart them one after the other, ask any of them, hold leases
//! while leaders change. `MAINSTAY_TEST_CLUSTER=etcd` runs the same against etcd.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_proto::cluster::{MemberListRequest, MemberListResponse};
use mainstay_proto::kv::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, Request, RequestOp, TxnRequest, TxnResponse,
};
use mainstay_proto::lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use mainstay_proto::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};
use mainstay_tests::cluster::scenario::{announce, is_long, judge, one_at_a_time, options};
use mainstay_tests::cluster::{Cluster, Wanted};
use mainstay_tests::grpc::{Client, Stream, block_on};
use mainstay_tests::history::{Clock, LeaseHolder, Load, Run};

/// Failures that a client of etcd meets when members restart, and that end by asking again.
const MAY_BE_ASKED_AGAIN: [&str; 2] = ["the connection broke", "14: "];

#[test]
fn members_restart_one_after_the_other() {
    let _alone = one_at_a_time();
    let Some(options) = options("a rolling restart", Wanted::Direct) else { return };
    let mut cluster = Cluster::start(options);
    let run = Run::start(&cluster, &Load::usual());
    run.wait_answered(200);
    // The leader as the second: one restart before it has to lead, and one after it.
    let (leader, followers) = cluster.roles();
    for member in [followers[0], leader, followers[1]] {
        cluster.stop(member);
        cluster.start_member(member);
        cluster.wait_member_healthy(member);
        run.wait_answered(200);
    }
    let summary = judge("a rolling restart", &run.finish(&cluster));
    let again = |reason: &&String| !MAY_BE_ASKED_AGAIN.iter().any(|may| reason.starts_with(may));
    let hard: Vec<&String> = summary.reasons.keys().filter(again).collect();
    assert!(hard.is_empty(), "failures that asking again would not have met in etcd: {hard:?}");
}

/// A client need not know who leads.
#[test]
fn every_member_serves_everything() {
    let _alone = one_at_a_time();
    let Some(options) = options("any member", Wanted::Direct) else { return };
    let cluster = Cluster::start(options);
    let (leader, followers) = cluster.roles();
    announce(&format!("member {leader} leads"));
    for member in followers.into_iter().chain([leader]) {
        block_on(async {
            let client = Client::connect(cluster.client(member)).await;
            keys_are_served(&client, member).await;
            leases_are_served(&client, member).await;
            watches_are_served(&client, member).await;
            members_are_listed(&client).await;
        });
    }
}

async fn keys_are_served(client: &Client, member: usize) {
    let key: Bytes = format!("/any/{member}").into();
    let put = PutRequest { key: key.clone(), value: "one".into(), ..Default::default() };
    let done: PutResponse = client.unary("/etcdserverpb.KV/Put", &put).await.expect("a put");
    let written = done.header.expect("a header").revision;
    // Both kinds of reads, on the same member, at once: it has seen its own client's write.
    for serializable in [false, true] {
        let get = RangeRequest { key: key.clone(), serializable, ..Default::default() };
        let found: RangeResponse =
            client.unary("/etcdserverpb.KV/Range", &get).await.expect("a read");
        assert_eq!(found.kvs.len(), 1, "serializable: {serializable}");
        assert_eq!((&found.kvs[0].value[..], found.kvs[0].mod_revision), (&b"one"[..], written));
    }
    let operation =
        RequestOp { request: Some(Request::Put(PutRequest { value: "two".into(), ..put })) };
    let both = TxnRequest { success: vec![operation], ..Default::default() };
    let done: TxnResponse =
        client.unary("/etcdserverpb.KV/Txn", &both).await.expect("a transaction");
    assert!(done.succeeded);
    let now = done.header.expect("a header").revision;
    assert!(now > written);
    let delete = DeleteRangeRequest { key: key.clone(), prev_kv: true, ..Default::default() };
    let path = "/etcdserverpb.KV/DeleteRange";
    let gone: DeleteRangeResponse = client.unary(path, &delete).await.expect("a deletion");
    assert_eq!((gone.deleted, &gone.prev_kvs[0].value[..]), (1, &b"two"[..]));
    let past = RangeRequest { key: key.clone(), revision: now, ..Default::default() };
    let found: RangeResponse = client.unary("/etcdserverpb.KV/Range", &past).await.expect("a read");
    assert_eq!(found.kvs.len(), 1, "the past is still there");
    let compact = CompactionRequest { revision: now + 1, physical: true };
    let path = "/etcdserverpb.KV/Compact";
    let _done: CompactionResponse = client.unary(path, &compact).await.expect("a compaction");
    let path = "/etcdserverpb.KV/Range";
    let refused: Result<RangeResponse, _> = client.unary(path, &past).await;
    let refused = refused.expect_err("compacted").message;
    assert!(refused.contains("required revision has been compacted"), "{refused}");
}

async fn leases_are_served(client: &Client, member: usize) {
    let id = 0xa11 + member as i64;
    let grant = LeaseGrantRequest { ttl: 60, id };
    let path = "/etcdserverpb.Lease/LeaseGrant";
    let granted: LeaseGrantResponse = client.unary(path, &grant).await.expect("a lease");
    assert_eq!((granted.id, granted.ttl), (id, 60));
    let key: Bytes = format!("/any/{member}/leased").into();
    let put = PutRequest { key: key.clone(), lease: id, ..Default::default() };
    let _done: PutResponse = client.unary("/etcdserverpb.KV/Put", &put).await.expect("a put");
    let request = LeaseKeepAliveRequest { id };
    let mut renewals: Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse> =
        client.stream_with("/etcdserverpb.Lease/LeaseKeepAlive", &request).await;
    assert_eq!(renewals.next().await.expect("renewed").ttl, 60);
    let ask = LeaseTimeToLiveRequest { id, keys: true };
    let path = "/etcdserverpb.Lease/LeaseTimeToLive";
    let left: LeaseTimeToLiveResponse = client.unary(path, &ask).await.expect("its time");
    assert!((1..=60).contains(&left.ttl) && left.granted_ttl == 60, "{left:?}");
    assert_eq!(left.keys, std::slice::from_ref(&key));
    let path = "/etcdserverpb.Lease/LeaseRevoke";
    let revoke = LeaseRevokeRequest { id };
    let _done: LeaseRevokeResponse = client.unary(path, &revoke).await.expect("revoked");
    let get = RangeRequest { key, ..Default::default() };
    let found: RangeResponse = client.unary("/etcdserverpb.KV/Range", &get).await.expect("a read");
    assert!(found.kvs.is_empty(), "a lease takes its keys along");
}

async fn watches_are_served(client: &Client, member: usize) {
    let key: Bytes = format!("/any/{member}/watched").into();
    let create = WatchCreateRequest { key: key.clone(), ..Default::default() };
    let request = WatchRequest { request_union: Some(WatchRequestUnion::Create(create)) };
    let mut stream: Stream<WatchRequest, WatchResponse> =
        client.stream_with("/etcdserverpb.Watch/Watch", &request).await;
    assert!(stream.next().await.expect("an answer").created);
    let put = PutRequest { key: key.clone(), value: "seen".into(), ..Default::default() };
    let done: PutResponse = client.unary("/etcdserverpb.KV/Put", &put).await.expect("a put");
    let told = stream.next().await.expect("an event");
    let pair = told.events[0].kv.clone().expect("a key");
    assert_eq!((pair.key, pair.mod_revision), (key, done.header.expect("a header").revision));
}

/// What members tell of themselves they publish after their start: soon, not at once.
async fn members_are_listed(client: &Client) {
    let started = Instant::now();
    loop {
        let request = MemberListRequest { linearizable: true };
        let path = "/etcdserverpb.Cluster/MemberList";
        let list: MemberListResponse = client.unary(path, &request).await.expect("a list");
        let mut names: Vec<&str> = list.members.iter().map(|member| member.name.as_str()).collect();
        names.sort_unstable();
        let published = list.members.iter().all(|member| !member.client_urls.is_empty());
        if names == ["m0", "m1", "m2"] && published {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{list:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Keys live as long as their leases are renewed and no shorter, whoever leads, and go when nobody renews them.
#[test]
fn leases_outlive_their_leaders() {
    let _alone = one_at_a_time();
    let Some(options) = options("leases", Wanted::Direct) else { return };
    let mut cluster = Cluster::start(options);
    let (clock, members) = (Clock::start(), cluster.clients());
    // Two elections, and the whole time once more from each new leader.
    let holder = |number, ttl_seconds, renewed_seconds| LeaseHolder {
        number,
        ttl_seconds,
        renewed_for: Duration::from_secs(renewed_seconds),
        grace: Duration::from_secs(20),
    };
    let holders = [holder(0, 5, 0), holder(1, 3, 6), holder(2, 4, 5)];
    let lives = holders.map(|holder| holder.start(clock, members.clone()));
    for _ in 0..if is_long("leases over a second fail-over") { 2 } else { 1 } {
        std::thread::sleep(Duration::from_millis(2500));
        let leader = cluster.leader();
        cluster.kill(leader);
        cluster.leader_other_than(Some(leader));
        cluster.start_member(leader);
        cluster.wait_member_healthy(leader);
    }
    for life in lives {
        let story = life.join().expect("a holder ends well");
        announce(&format!("{story:?}"));
        story.check().unwrap_or_else(|wrong| panic!("{wrong}"));
        let renewed = !story.holder.renewed_for.is_zero();
        assert_eq!(story.renewals > 0, renewed, "{story:?}");
    }
}
