//! Members on loopback: connections come about, break and come back; nonsense is refused.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use mainstay_raft::{Body, Entry, EntryKind, Membership, Message, Snapshot, SnapshotPart};

use super::*;
use crate::cluster::MemberInfo;
use crate::message::{Answer, Request};
use crate::peer::frame::{Kind, Reader, single};
use crate::peer::{Hello, RefusalReason, wire};
use crate::runtime::timer::{monotonic_ms, monotonic_us};

const CLUSTER: u64 = 9;

/// Keeps what it is told.
#[derive(Default)]
struct Told {
    messages: RefCell<Vec<(u64, PeerMessage)>>,
    /// When the last message about reading came.
    read_us: Cell<u64>,
    /// Do not keep what is of snapshots.
    is_forgetful: Cell<bool>,
    removed_by: RefCell<Vec<u64>>,
    join: RefCell<Option<JoinAnswer>>,
    /// Answers each request with `Done`, through these.
    peers: RefCell<Option<Peers>>,
}

impl Handler for Told {
    fn messages(&self, from: u64, mut messages: Vec<PeerMessage>) {
        let is_read = |message: &PeerMessage| {
            matches!(message, PeerMessage::Raft(Message { body: Body::ReadRequest { .. }, .. }))
        };
        if messages.iter().any(is_read) {
            self.read_us.set(monotonic_us());
        }
        if self.is_forgetful.get() {
            messages.retain(is_read);
        }
        for message in &messages {
            if let (PeerMessage::Request { number, .. }, Some(peers)) =
                (message, &*self.peers.borrow())
            {
                let (number, outcome) = (*number, Ok(Answer::Done));
                peers.send(from, PeerMessage::Answer { number, outcome, index: 3 });
            }
        }
        self.messages.borrow_mut().extend(messages.into_iter().map(|message| (from, message)));
    }

    fn join(&self, _peer_urls: &[String]) -> Option<JoinAnswer> {
        self.join.borrow().clone()
    }

    fn removed(&self, by: u64) {
        self.removed_by.borrow_mut().push(by);
    }
}

/// One member of a test.
struct Member {
    info: MemberInfo,
    address: SocketAddr,
    told: Rc<Told>,
    metrics: Arc<PeerMetrics>,
    peers: Peers,
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound")
}

fn info(id: u64, address: SocketAddr) -> MemberInfo {
    let peer_urls = vec![format!("http://{address}")];
    MemberInfo { id, name: format!("m{id}"), peer_urls, ..MemberInfo::default() }
}

fn start(cluster_id: u64, id: u64, address: SocketAddr) -> Member {
    let own = Identity { cluster_id, member_id: id, incarnation: 1, name: format!("m{id}") };
    let network = Arc::new(PlainNetwork { addresses: vec![address] });
    let (told, metrics) = (Rc::new(Told::default()), Arc::new(PeerMetrics::default()));
    let handler: Rc<dyn Handler> = told.clone();
    let peers = Peers::start(own, network, handler, metrics.clone()).expect("a free port");
    *told.peers.borrow_mut() = Some(peers.clone());
    Member { info: info(id, address), address, told, metrics, peers }
}

/// Members 1 to `count` that know each other and are connected.
async fn cluster(count: u64) -> Vec<Member> {
    let members: Vec<Member> = (1..=count).map(|id| start(CLUSTER, id, free_address())).collect();
    let infos: Vec<MemberInfo> = members.iter().map(|member| member.info.clone()).collect();
    members.iter().for_each(|member| member.peers.set_members(&infos));
    for one in &members {
        for other in members.iter().filter(|other| other.info.id != one.info.id) {
            until("connections", || one.peers.is_connected(other.info.id)).await;
        }
    }
    members
}

fn stop(members: &[Member]) {
    for member in members {
        member.peers.stop();
        // It holds its handler, which holds it.
        *member.told.peers.borrow_mut() = None;
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("ten seconds without {what}");
}

fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F + Send + 'static) {
    crate::runtime::run_alone(test).expect("no panic");
}

fn raft(from: u64, to: u64, body: Body) -> PeerMessage {
    PeerMessage::Raft(Message { from, to, term: 3, incarnation: 1, body })
}

fn read(from: u64, to: u64, context: u64) -> PeerMessage {
    raft(from, to, Body::ReadRequest { context })
}

fn contexts(told: &Told) -> Vec<(u64, u64)> {
    let context = |(from, message): &(u64, PeerMessage)| match message {
        PeerMessage::Raft(Message { body: Body::ReadRequest { context }, .. }) => {
            Some((*from, *context))
        }
        _ => None,
    };
    told.messages.borrow().iter().filter_map(context).collect()
}

fn answers(told: &Told) -> Vec<(u64, Result<(), StoreError>)> {
    let answer = |(_, message): &(u64, PeerMessage)| match message {
        PeerMessage::Answer { number, outcome, .. } => {
            Some((*number, outcome.as_ref().map(|_| ()).map_err(Clone::clone)))
        }
        _ => None,
    };
    told.messages.borrow().iter().filter_map(answer).collect()
}

#[test]
fn three_members_talk_to_each_other_in_order() {
    run(|| async {
        let members = cluster(3).await;
        for one in &members {
            for other in members.iter().filter(|other| other.info.id != one.info.id) {
                for context in 0..100 {
                    one.peers.send(other.info.id, read(one.info.id, other.info.id, context));
                }
            }
        }
        for member in &members {
            until("messages", || contexts(&member.told).len() == 200).await;
            for from in (1..=3).filter(|from| *from != member.info.id) {
                let all = contexts(&member.told);
                let numbers: Vec<u64> =
                    all.iter().filter(|one| one.0 == from).map(|one| one.1).collect();
                assert_eq!(numbers, (0..100).collect::<Vec<_>>());
            }
        }
        let counts = members[0].metrics.counts();
        assert_eq!(counts.iter().map(|peer| peer.id).collect::<Vec<_>>(), [2, 3]);
        for peer in counts {
            assert!(
                peer.is_active && peer.sent_bytes > 100 && peer.received_bytes > 100,
                "{peer:?}"
            );
            assert!(peer.round_trips.count > 0, "{peer:?}");
            assert_eq!((peer.disconnects, peer.received_failures), (0, 0));
        }
        stop(&members);
    });
}

#[test]
fn every_request_is_answered_once() {
    run(|| async {
        let members = cluster(2).await;
        let (one, two) = (&members[0], &members[1]);
        let request = |number| PeerMessage::Request { number, request: Request::Leases };
        for number in 0..50 {
            one.peers.send(2, request(number));
        }
        until("answers", || answers(&one.told).len() == 50).await;
        assert_eq!(answers(&one.told), (0..50).map(|number| (number, Ok(()))).collect::<Vec<_>>());
        // Nobody asked this.
        let unasked = PeerMessage::Answer { number: 7, outcome: Ok(Answer::Done), index: 1 };
        two.peers.send(1, unasked);

        // Nobody of that id.
        one.peers.send(5, request(51));
        until("a refusal", || answers(&one.told).len() == 51).await;
        assert_eq!(answers(&one.told)[50], (51, Err(StoreError::NoLeader)));

        // Asked, and gone before the answer.
        *two.told.peers.borrow_mut() = None;
        one.peers.send(2, request(52));
        until("the question", || two.told.messages.borrow().len() == 51).await;
        two.peers.stop();
        until("the loss", || answers(&one.told).len() == 52).await;
        assert_eq!(answers(&one.told)[51], (52, Err(StoreError::LeaderChanged)));
        until("no connection", || !one.peers.is_connected(2)).await;
        one.peers.send(2, request(53));
        until("a refusal", || answers(&one.told).len() == 53).await;
        assert_eq!(answers(&one.told)[52], (53, Err(StoreError::NoLeader)));
        assert!(one.metrics.counts()[0].sent_failures >= 1);
        stop(&members);
    });
}

#[test]
fn a_member_that_comes_back_is_found() {
    run(|| async {
        let mut members = cluster(2).await;
        let two = members.pop().expect("two");
        let infos = [members[0].info.clone(), two.info.clone()];
        let address = two.address;
        stop(&[two]);
        until("a loss", || members[0].metrics.counts()[0].disconnects == 1).await;
        assert!(!members[0].peers.is_connected(2));
        // Its port is free once its listener has noticed.
        sleep(Duration::from_millis(1500)).await;
        let two = start(CLUSTER, 2, address);
        two.peers.set_members(&infos);
        until("connections", || members[0].peers.is_connected(2) && two.peers.is_connected(1))
            .await;
        members[0].peers.send(2, read(1, 2, 7));
        until("a message", || contexts(&two.told) == [(1, 7)]).await;
        members.push(two);
        stop(&members);
    });
}

#[test]
fn members_that_are_removed_are_told_so() {
    run(|| async {
        let members = cluster(3).await;
        let rest: Vec<MemberInfo> = members[..2].iter().map(|member| member.info.clone()).collect();
        members[0].peers.set_members(&rest);
        until("the news", || *members[2].told.removed_by.borrow() == [1]).await;
        until("the end", || !members[2].peers.is_connected(1)).await;
        assert!(!members[0].peers.is_connected(3));
        assert_eq!(members[0].metrics.counts().len(), 1, "forgotten");
        // The other one has not heard of it yet.
        assert!(members[2].peers.is_connected(2));
        members[1].peers.set_members(&rest);
        until("the news", || *members[2].told.removed_by.borrow() == [1, 2]).await;
        stop(&members);
    });
}

#[test]
fn one_that_is_new_is_talked_to_before_it_is_known() {
    run(|| async {
        let members = [start(CLUSTER, 1, free_address()), start(CLUSTER, 2, free_address())];
        let infos: Vec<MemberInfo> = members.iter().map(|member| member.info.clone()).collect();
        // The other one knows itself alone, and dials who has dialed it.
        members[0].peers.set_members(&infos[..1]);
        members[1].peers.set_members(&infos);
        until("connections", || {
            members[0].peers.is_connected(2) && members[1].peers.is_connected(1)
        })
        .await;
        members[0].peers.send(2, read(1, 2, 7));
        until("a message", || contexts(&members[1].told) == [(1, 7)]).await;
        // When it goes without having become a member, it is forgotten.
        members[1].peers.stop();
        until("the end", || members[0].metrics.counts().is_empty()).await;
        // One that was removed before this one started is told so, and not talked to.
        members[0].peers.note_removed([3]);
        let removed = start(CLUSTER, 3, free_address());
        removed.peers.set_members(&[members[0].info.clone(), removed.info.clone()]);
        until("the news", || *removed.told.removed_by.borrow() == [1]).await;
        assert!(members[0].metrics.counts().is_empty());
        stop(&[removed]);
        stop(&members);
    });
}

#[test]
fn another_cluster_is_not_talked_to() {
    run(|| async {
        let members = [start(CLUSTER, 1, free_address()), start(CLUSTER + 1, 2, free_address())];
        let infos: Vec<MemberInfo> = members.iter().map(|member| member.info.clone()).collect();
        members.iter().for_each(|member| member.peers.set_members(&infos));
        sleep(Duration::from_millis(500)).await;
        members[0].peers.send(2, read(1, 2, 1));
        sleep(Duration::from_millis(100)).await;
        assert!(members.iter().all(|member| member.told.messages.borrow().is_empty()));
        assert!(!members[0].peers.is_connected(2) && !members[1].peers.is_connected(1));
        assert!(!members[0].metrics.counts()[0].is_active);
        assert_eq!(members[0].metrics.counts()[0].sent_failures, 1);
        stop(&members);
    });
}

/// What a stranger says, and what it is told before it is cut off; on a thread of its own.
fn say(address: SocketAddr, bytes: Vec<u8>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let _cut_off = stream.write_all(&bytes);
        let _half = stream.shutdown(std::net::Shutdown::Write);
        let mut told = Vec::new();
        let _cut_off = stream.read_to_end(&mut told);
        told
    })
}

/// The last refusal in what a stranger was told.
fn refusal(told: &[u8]) -> Option<crate::peer::Refusal> {
    let mut reader = Reader::default();
    reader.agree(1);
    reader.space()[..told.len()].copy_from_slice(told);
    reader.filled(told.len());
    let mut found = None;
    while let Ok(Some(received)) = reader.next_message() {
        if received.kind == Kind::Refused {
            found = wire::decode_refusal(&received).ok();
        }
    }
    found
}

#[test]
fn nonsense_costs_a_connection_and_nothing_else() {
    run(|| async {
        let members = cluster(2).await;
        let hello = |id, to| {
            let name = "stranger".to_owned();
            let identity = Identity { cluster_id: CLUSTER, member_id: id, incarnation: 1, name };
            let peer_urls = Vec::new();
            wire::hello(&Hello { identity, to, least_version: 1, newest_version: 1, peer_urls })
        };
        let mut flipped = single(Kind::Append, 1, &[0; 100]);
        flipped[50] ^= 1;
        let mut long = single(Kind::Append, 1, &[0; 100]);
        long[..4].copy_from_slice(&(1u32 << 30).to_le_bytes());
        let half = single(Kind::Append, 1, &[0; 100])[..50].to_vec();
        let after = |bytes: &[u8]| [&hello(2, 1), bytes].concat();
        for (bytes, expected) in [
            (b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Some("before the greeting")),
            (vec![0xff; 4096], Some("before the greeting")),
            (hello(2, 3), Some("at the peer URL of member 3")),
            (after(&flipped), Some("damaged frame")),
            (after(&long), Some("a frame of 1073741824 bytes")),
            (after(&single(Kind::Append, 1, &[0; 100])), Some("makes no sense")),
            (after(&half), None),
            (hello(2, 1)[..20].to_vec(), None),
            (Vec::new(), None),
        ] {
            let told = say(members[0].address, bytes.clone());
            until("an end", || told.is_finished()).await;
            let told = refusal(&told.join().expect("no panic"));
            match expected {
                Some(expected) => {
                    let told = told.expect("told why");
                    assert!(told.text.contains(expected), "{}, not {expected}", told.text);
                    if expected.contains("damaged") {
                        assert_eq!(told.reason, RefusalReason::Malformed);
                    }
                }
                None => assert_eq!(told, None),
            }
        }
        assert!(members[0].told.messages.borrow().is_empty());
        assert!(members[0].metrics.counts()[0].received_failures >= 4);
        // The true member 2 was pushed aside, and the members get on again.
        until("connections", || {
            members[0].peers.is_connected(2) && members[1].peers.is_connected(1)
        })
        .await;
        for context in 0.. {
            members[1].peers.send(1, read(2, 1, context));
            sleep(Duration::from_millis(100)).await;
            if !contexts(&members[0].told).is_empty() {
                break;
            }
            assert!(context < 100, "the true member is not heard any more");
        }
        stop(&members);
    });
}

#[test]
fn who_wants_to_join_is_told_who_is_a_member() {
    let address = free_address();
    let (started, is_started) = std::sync::mpsc::channel();
    let (asked, is_asked) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        run(move || async move {
            let member = start(CLUSTER, 1, address);
            member.peers.set_members(std::slice::from_ref(&member.info));
            started.send(member.info.clone()).expect("the test waits");
            // Not at once: it has to find out who is a member.
            sleep(Duration::from_millis(300)).await;
            let members = vec![member.info.clone(), MemberInfo { id: 2, ..MemberInfo::default() }];
            let answer = JoinAnswer { cluster_id: CLUSTER, member_id: 2, members };
            *member.told.join.borrow_mut() = Some(answer);
            until("the end", || is_asked.try_recv().is_ok()).await;
            stop(&[member]);
        });
    });
    let info = is_started.recv().expect("started");
    let network = || Arc::new(PlainNetwork::default());
    let nobody = format!("http://{}", free_address()).parse().expect("a URL");
    let somebody = info.peer_urls[0].parse().expect("a URL");
    let urls = vec!["http://10.0.0.2:2380".to_owned()];
    let answer = ask_to_join(network(), "new", vec![nobody, somebody], urls).expect("it answers");
    assert_eq!((answer.cluster_id, answer.member_id), (CLUSTER, 2));
    assert_eq!(answer.members[0], info);
    asked.send(()).expect("it waits");
    thread.join().expect("no panic");

    let error = ask_to_join(network(), "new", Vec::new(), Vec::new()).expect_err("nobody");
    assert!(matches!(error, JoinError::Nobody(_)), "{error}");
}

#[test]
fn entries_and_snapshots_arrive_whole() {
    run(|| async {
        let members = cluster(2).await;
        let data: Vec<Bytes> = [0usize, 1, 1000, 200 << 10, 9 << 20]
            .map(|size| Bytes::from(vec![size as u8; size]))
            .into();
        let entries = |data: &[Bytes]| -> Vec<Entry> {
            let entry = |(index, data): (usize, &Bytes)| {
                let (index, data) = (index as u64 + 1, data.clone());
                Entry { index, term: 3, kind: EntryKind::Normal, data }
            };
            data.iter().enumerate().map(entry).collect()
        };
        let all = entries(&data);
        let body = Body::Append { prev_index: 0, prev_term: 0, entries: all.clone(), commit: 0 };
        members[0].peers.send(2, raft(1, 2, body.clone()));
        let membership = Membership::of_voters(&[1, 2]);
        let snapshot = Snapshot { index: 1, term: 1, fingerprint: 1, membership };
        let data = Bytes::from(vec![5; 1 << 20]);
        let part = SnapshotPart { snapshot, offset: 0, data, done: true };
        members[0].peers.send(2, raft(1, 2, Body::SnapshotPart(part.clone())));
        until("both", || members[1].told.messages.borrow().len() == 2).await;
        let messages = members[1].told.messages.borrow();
        let found = |wanted: &Body| {
            messages.iter().any(|(_, message)| match message {
                PeerMessage::Raft(message) => message.body == *wanted,
                _ => false,
            })
        };
        assert!(found(&body) && found(&Body::SnapshotPart(part)));
        drop(messages);
        stop(&members);
    });
}

/// How long something urgent takes while a snapshot goes the same way. Prints figures, for
/// docs/performance.md: `cargo test --release -p mainstay-engine --lib urgent -- --nocapture`.
#[test]
fn urgent_messages_pass_a_snapshot() {
    const BEATS: u64 = 200;
    run(|| async {
        for with_snapshot in [false, true] {
            let members = cluster(2).await;
            let (one, two) = (&members[0], &members[1]);
            two.told.is_forgetful.set(true);
            let membership = Membership::of_voters(&[1, 2]);
            let snapshot = Snapshot { index: 1, term: 1, fingerprint: 1, membership };
            let data = Bytes::from(vec![5; 1 << 20]);
            let part = |offset| {
                let (snapshot, data) = (snapshot.clone(), data.clone());
                raft(1, 2, Body::SnapshotPart(SnapshotPart { snapshot, offset, data, done: false }))
            };
            let mut waits_us = Vec::new();
            let (begun_ms, before) = (monotonic_ms(), one.metrics.counts()[0].sent_bytes);
            for beat in 0..BEATS {
                // More parts than the peer takes: some wait all the time.
                for offset in 0..if with_snapshot { 8 } else { 0 } {
                    one.peers.send(2, part(beat * 8 + offset));
                }
                sleep(Duration::from_millis(1)).await;
                two.told.read_us.set(0);
                let sent_us = monotonic_us();
                one.peers.send(2, read(1, 2, beat));
                until("a message", || two.told.read_us.get() > 0).await;
                waits_us.push(two.told.read_us.get() - sent_us);
            }
            let took_ms = (monotonic_ms() - begun_ms).max(1);
            waits_us.sort_unstable();
            let at = |share: usize| waits_us[(waits_us.len() - 1) * share / 100];
            println!(
                "{}: p50 {} us, p99 {} us, most {} us; {} MiB/s",
                if with_snapshot { "beside a snapshot" } else { "alone" },
                at(50),
                at(99),
                at(100),
                (one.metrics.counts()[0].sent_bytes - before) / 1049 / took_ms,
            );
            assert!(at(50) < 100_000, "far below an election's timeout");
            stop(&members);
        }
    });
}
