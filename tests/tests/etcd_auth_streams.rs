//! Open streams of the etcd door, and rights that change meanwhile.

use mainstay_proto::{election, kv, lease, lock, maintenance, watch};
use mainstay_tests::grpc::{Client, block_on};
use mainstay_tests::process::{Directory, Mainstay};
use mainstay_tests::users::{
    BAD_TOKEN, DENIED, FLAGS, NOBODY, auth, call, clients, failure, key, permission, put, read,
    revocation, until, write,
};

type WatchStream = mainstay_tests::grpc::Stream<watch::WatchRequest, watch::WatchResponse>;

async fn open_watch(client: &Client, from: &str, to: &str) -> (WatchStream, watch::WatchResponse) {
    let mut stream: WatchStream = client.stream("/etcdserverpb.Watch/Watch").await;
    let answer = add_watch(&mut stream, from, to).await;
    (stream, answer)
}

async fn add_watch(stream: &mut WatchStream, from: &str, to: &str) -> watch::WatchResponse {
    let (key, range_end) = (key(from), key(to));
    let create = watch::WatchCreateRequest { key, range_end, ..Default::default() };
    let request_union = Some(watch::WatchRequestUnion::Create(create));
    stream.send(&watch::WatchRequest { request_union });
    stream.next().await.expect("an answer")
}

#[test]
fn watches_see_what_their_user_may_read_and_no_longer_than_that() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &FLAGS);
    block_on(async {
        let early = Client::connect(&server.etcd).await;
        let (mut before, created) = open_watch(&early, "b", "").await;
        assert!(created.created && !created.canceled);
        let (nobody, root, bob) = clients(&server).await;
        // Opened by nobody before authentication was on: over.
        let end = before.next().await.expect("an end");
        assert!(end.canceled && end.cancel_reason == NOBODY, "{end:?}");

        for (client, from, to, reason) in [
            (&nobody, "b", "", NOBODY),
            (&nobody.with_token("nonsense"), "b", "", BAD_TOKEN),
            (&bob, "z", "", DENIED),
            (&bob, "a", "n", DENIED),
            (&bob, "a", "\0", DENIED),
            (&bob, "", "\0", DENIED),
        ] {
            let (_stream, answer) = open_watch(client, from, to).await;
            assert!(answer.created && answer.canceled && answer.watch_id == -1, "{answer:?}");
            assert_eq!(answer.cancel_reason, reason, "{from:?} {to:?}");
        }

        auth(&root, "RoleGrantPermission", &permission(0, "x", "")).await.expect("granted");
        let (mut idle, _) = open_watch(&bob, "a", "c").await;
        let kept = add_watch(&mut idle, "x", "").await;
        assert!(kept.created && !kept.canceled);
        let (mut busy, _) = open_watch(&bob, "b", "").await;
        write(&root, "b").await.expect("written");
        for stream in [&mut idle, &mut busy] {
            assert_eq!(stream.next().await.expect("an event").events.len(), 1);
        }
        auth(&root, "RoleRevokePermission", &revocation("a", "m")).await.expect("revoked");
        // Nothing that is written from here on is seen: the first thing that comes is the end.
        write(&root, "b").await.expect("written");
        for stream in [&mut idle, &mut busy] {
            let end = stream.next().await.expect("an end");
            assert!(end.canceled && end.events.is_empty(), "{end:?}");
            assert_eq!(end.cancel_reason, DENIED);
        }
        // The stream lives on with what is left.
        write(&root, "x").await.expect("written");
        let event = idle.next().await.expect("an event");
        assert_eq!((event.watch_id, event.events.len()), (kept.watch_id, 1));
    });
    assert!(server.stop().success());
}

#[test]
fn leaders_are_shown_as_long_as_there_is_a_right_to_them_and_leases_live_without() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &FLAGS);
    block_on(async {
        let (nobody, root, bob) = clients(&server).await;
        let path = "etcdserverpb.Lease/LeaseGrant";
        let grant = lease::LeaseGrantRequest { ttl: 100, id: 9 };
        let _: lease::LeaseGrantResponse = call(&bob, path, grant).await.expect("a lease");
        let path = "etcdserverpb.KV/Put";
        let attached = kv::PutRequest { lease: 9, ..put("b") };
        let _: kv::PutResponse = call(&bob, path, attached).await.expect("attached");
        type KeepAlive = mainstay_tests::grpc::Stream<
            lease::LeaseKeepAliveRequest,
            lease::LeaseKeepAliveResponse,
        >;
        let keep_alive = "/etcdserverpb.Lease/LeaseKeepAlive";
        let mut lives: KeepAlive = bob.stream(keep_alive).await;
        lives.send(&lease::LeaseKeepAliveRequest { id: 9 });
        assert_eq!(lives.next().await.expect("an answer").ttl, 100);

        let campaign = election::CampaignRequest { name: key("e"), lease: 0, value: key("1") };
        let path = "v3electionpb.Election/Campaign";
        let _: election::CampaignResponse = call(&bob, path, campaign).await.expect("elected");
        type Observe =
            mainstay_tests::grpc::Stream<election::LeaderRequest, election::LeaderResponse>;
        let request = election::LeaderRequest { name: key("e") };
        let mut leaders: Observe = bob.open("/v3electionpb.Election/Observe", &request).await;
        assert!(leaders.next().await.expect("a leader").kv.is_some());

        auth(&root, "RoleRevokePermission", &revocation("a", "m")).await.expect("revoked");
        // As in etcd, whoever knows a lease may renew it: the others of a stream go on.
        lives.send(&lease::LeaseKeepAliveRequest { id: 9 });
        assert_eq!(lives.next().await.expect("an answer").ttl, 100);
        let proclaimed = read(&root, "e", "f").await.expect("the leader").kvs[0].clone();
        let rewrite = kv::PutRequest { key: proclaimed.key, value: key("2"), ..Default::default() };
        let _: kv::PutResponse =
            call(&root, "etcdserverpb.KV/Put", rewrite).await.expect("written");
        assert_eq!(leaders.end().await.expect("a failure").message, DENIED);
        let mut without: KeepAlive = nobody.stream(keep_alive).await;
        for (id, ttl) in [(9, 100), (10, 0)] {
            without.send(&lease::LeaseKeepAliveRequest { id });
            assert_eq!(without.next().await.expect("an answer").ttl, ttl);
        }
    });
    assert!(server.stop().success());
}

#[test]
fn what_began_before_there_were_users_ends_with_them() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &FLAGS);
    block_on(async {
        let early = Client::connect(&server.etcd).await;
        // More than the windows of a stream and the server take.
        for number in 0..32 {
            let value = vec![b'v'; 1 << 20].into();
            let large = kv::PutRequest { value, ..put(&format!("z/{number}")) };
            let _: kv::PutResponse =
                call(&early, "etcdserverpb.KV/Put", large).await.expect("written");
        }
        type Snapshot = mainstay_tests::grpc::Stream<
            maintenance::SnapshotRequest,
            maintenance::SnapshotResponse,
        >;
        let request = maintenance::SnapshotRequest {};
        // On a connection of its own: what is not read there fills its window.
        let reader = Client::connect(&server.etcd).await;
        let mut snapshot: Snapshot =
            reader.open("/etcdserverpb.Maintenance/Snapshot", &request).await;
        assert!(snapshot.next().await.expect("the beginning").remaining_bytes > 0);

        // The second waits for the first, and so does the second candidate.
        let path = "v3lockpb.Lock/Lock";
        let name = || lock::LockRequest { name: key("l"), lease: 0 };
        let _: lock::LockResponse = call(&early, path, name()).await.expect("locked");
        let campaign = || election::CampaignRequest { name: key("e"), lease: 0, value: key("1") };
        let election = "v3electionpb.Election/Campaign";
        let _: election::CampaignResponse =
            call(&early, election, campaign()).await.expect("elected");
        let (waits, stands) = (early.clone(), early.clone());
        let lock = tokio::spawn(async move {
            let answer: Result<lock::LockResponse, _> = call(&waits, path, name()).await;
            failure(answer)
        });
        let candidate = tokio::spawn(async move {
            let answer: Result<election::CampaignResponse, _> =
                call(&stands, election, campaign()).await;
            failure(answer)
        });
        until("both stand in line", async || {
            read(&early, "a", "m").await.expect("read").kvs.len() == 4
        })
        .await;

        let (_nobody, root, _bob) = clients(&server).await;
        assert_eq!(lock.await.expect("an answer"), NOBODY);
        assert_eq!(candidate.await.expect("an answer"), NOBODY);
        until("they have left the lines", async || {
            read(&root, "a", "m").await.expect("read").kvs.len() == 2
        })
        .await;
        assert_eq!(snapshot.end().await.expect("a failure").message, NOBODY);
    });
    assert!(server.stop().success());
}
