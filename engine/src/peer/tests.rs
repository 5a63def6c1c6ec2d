//! Two sessions that talk to each other, without a socket.

use mainstay_raft::{Body, Message};

use super::frame::{Kind, single};
use super::message::Hello;
use super::*;
use crate::cluster::MemberInfo;

fn identity(cluster_id: u64, member_id: u64, name: &str) -> Identity {
    Identity { cluster_id, member_id, incarnation: member_id + 100, name: name.to_owned() }
}

fn urls() -> Vec<String> {
    vec!["http://127.0.0.1:2380".to_owned()]
}

fn roster(members: &[u64]) -> Roster {
    let mut roster = Roster::default();
    roster.update(members.iter().copied());
    roster
}

fn give(session: &mut Session, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let space = session.space();
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        session.filled(count);
        bytes = &bytes[count..];
    }
}

/// Hands over what one says, and gives what the other makes of it.
fn pass(
    from: &mut Session,
    to: &mut Session,
    roster: &Roster,
) -> Result<Option<Event>, SessionError> {
    give(to, &from.take_output());
    to.next_event(roster)
}

/// Both ends, when all goes well.
fn opened() -> (Session, Session, Roster) {
    let roster = roster(&[1, 2, 3]);
    let mut dialer = Session::dial(identity(9, 1, "one"), urls(), 2);
    let mut acceptor = Session::accept(identity(9, 2, "two"));
    for (expected, opened) in [
        ("one", pass(&mut dialer, &mut acceptor, &roster)),
        ("two", pass(&mut acceptor, &mut dialer, &Roster::default())),
    ] {
        let Ok(Some(Event::Opened(peer))) = opened else { panic!("{opened:?}") };
        assert_eq!((peer.identity.name.as_str(), peer.version), (expected, NEWEST_VERSION));
    }
    (dialer, acceptor, roster)
}

fn raft(from: u64, to: u64) -> PeerMessage {
    let body = Body::ReadRequest { context: 5 };
    PeerMessage::Raft(Message { from, to, term: 3, incarnation: 4, body })
}

fn bytes(message: &PeerMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoded = wire::encode(message, NEWEST_VERSION).expect("short");
    while !encoded.write_frame(&mut bytes) {}
    bytes
}

#[test]
fn both_ends_get_to_know_each_other() {
    let (mut dialer, mut acceptor, roster) = opened();
    give(&mut acceptor, &bytes(&raft(1, 2)));
    let heard = acceptor.next_event(&roster);
    assert!(matches!(heard, Ok(Some(Event::Message(PeerMessage::Raft(_))))), "{heard:?}");
    give(&mut acceptor, &wire::ping(Kind::Ping, 1, 77));
    assert!(matches!(acceptor.next_event(&roster), Ok(None)));
    let pong = pass(&mut acceptor, &mut dialer, &roster);
    assert!(matches!(pong, Ok(Some(Event::Pong(77)))), "{pong:?}");
}

#[test]
fn strangers_are_told_why() {
    let of = identity;
    for (own, dialed, to, members, expected) in [
        (of(8, 1, "one"), of(9, 2, "two"), 2, &[1, 2][..], "cluster ID mismatch: member 2 (two)"),
        (
            of(9, 1, "one"),
            of(9, 2, "two"),
            3,
            &[1, 2, 3],
            "member 2 (two) is at the peer URL of member 3",
        ),
        (
            of(9, 1, "one"),
            of(9, 1, "one"),
            2,
            &[1, 2],
            "member 1 (one) is at the peer URL of member 2",
        ),
    ] {
        let mut dialer = Session::dial(own, urls(), to);
        let mut acceptor = Session::accept(dialed);
        let refused = pass(&mut dialer, &mut acceptor, &roster(members));
        let Err(SessionError::Refusing(refusal)) = refused else { panic!("{refused:?}") };
        assert!(refusal.text.contains(expected), "{}, not {expected}", refusal.text);
        let told = pass(&mut acceptor, &mut dialer, &Roster::default()).expect_err("refused");
        assert_eq!(told, SessionError::Refused(refusal));
        assert!(!told.says_removed());
    }
}

#[test]
fn the_dialer_looks_whom_it_has_reached() {
    let greeting = |cluster_id, member_id| {
        let identity = identity(cluster_id, member_id, "x");
        wire::hello(&Hello {
            identity,
            to: 1,
            least_version: 1,
            newest_version: 1,
            peer_urls: urls(),
        })
    };
    for (answer, expected) in [
        (greeting(8, 2), "cluster ID mismatch"),
        (greeting(9, 3), "is at the peer URL of member 2"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "before the greeting"),
        (single(Kind::Hello, 1, b"short"), "makes no sense"),
    ] {
        let mut dialer = Session::dial(identity(9, 1, "one"), urls(), 2);
        let _hello = dialer.take_output();
        give(&mut dialer, &answer);
        let error = dialer.next_event(&Roster::default()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}, not {expected}");
        assert!(!dialer.take_output().is_empty(), "the other end is told");
        assert!(matches!(dialer.next_event(&Roster::default()), Ok(None)), "it is over");
    }
}

#[test]
fn one_that_is_new_is_heard_and_says_where_it_is() {
    let mut dialer = Session::dial(identity(9, 7, ""), urls(), 2);
    let mut acceptor = Session::accept(identity(9, 2, "two"));
    let opened = pass(&mut dialer, &mut acceptor, &roster(&[1, 2]));
    let Ok(Some(Event::Opened(peer))) = opened else { panic!("{opened:?}") };
    assert_eq!((peer.identity.member_id, peer.peer_urls), (7, urls()));
}

#[test]
fn versions_are_agreed_on() {
    for (least, newest, expected) in [
        (1, 1, Some(1)),
        (1, 9, Some(NEWEST_VERSION)),
        (NEWEST_VERSION, NEWEST_VERSION + 1, Some(NEWEST_VERSION)),
        (NEWEST_VERSION + 1, NEWEST_VERSION + 2, None),
    ] {
        let hello = Hello {
            identity: identity(9, 1, "one"),
            to: 2,
            least_version: least,
            newest_version: newest,
            peer_urls: Vec::new(),
        };
        let mut acceptor = Session::accept(identity(9, 2, "two"));
        give(&mut acceptor, &wire::hello(&hello));
        match (acceptor.next_event(&roster(&[1, 2])), expected) {
            (Ok(Some(Event::Opened(peer))), Some(version)) => assert_eq!(peer.version, version),
            (Err(SessionError::Refusing(refusal)), None) => {
                assert_eq!(refusal.reason, RefusalReason::Version);
                assert!(refusal.text.contains("upgrade the older one"), "{}", refusal.text);
            }
            (other, _) => panic!("{least} to {newest}: {other:?}"),
        }
    }
}

#[test]
fn removed_members_are_told_so() {
    let mut roster = roster(&[1, 2]);
    assert_eq!(roster.update([2]), [1]);
    let mut dialer = Session::dial(identity(9, 1, "one"), urls(), 2);
    let mut acceptor = Session::accept(identity(9, 2, "two"));
    pass(&mut dialer, &mut acceptor, &roster).expect_err("removed");
    let told = pass(&mut acceptor, &mut dialer, &roster).expect_err("removed");
    assert!(told.says_removed() && told.to_string().contains("member 1 was removed"), "{told}");

    // One that was there while it was removed.
    let (mut dialer, mut acceptor, _) = opened();
    acceptor.refuse(RefusalReason::Removed, session::removed(1));
    assert!(pass(&mut acceptor, &mut dialer, &roster).expect_err("removed").says_removed());
    assert!(roster.update([1, 2]).is_empty());
    assert!(!roster.has_removed(1) && roster.contains(1), "it was added anew");
}

#[test]
fn nobody_speaks_for_others() {
    for (message, expected) in [
        (raft(3, 2), "a message of member 3 to member 2 on the connection of member 1"),
        (raft(1, 3), "a message of member 1 to member 3 on the connection of member 1"),
    ] {
        let (_, mut acceptor, roster) = opened();
        give(&mut acceptor, &bytes(&message));
        let error = acceptor.next_event(&roster).expect_err(expected).to_string();
        assert_eq!(error, expected);
    }
    // The other end of a connection that was dialed only answers pings.
    let (mut dialer, _, roster) = opened();
    give(&mut dialer, &bytes(&raft(2, 1)));
    let error = dialer.next_event(&roster).expect_err("unexpected");
    assert_eq!(error, SessionError::Unexpected(Kind::Raft));
}

#[test]
fn who_wants_to_join_asks_and_does_nothing_else() {
    let guest = || {
        let mut guest = Session::ask_to_join("new");
        let mut acceptor = Session::accept(identity(9, 2, "two"));
        let roster = roster(&[2]);
        let met = pass(&mut guest, &mut acceptor, &roster).expect("anybody may ask");
        assert!(matches!(met, Some(Event::Opened(_))), "{met:?}");
        let met = pass(&mut acceptor, &mut guest, &roster).expect("any member will do");
        assert!(matches!(met, Some(Event::Opened(_))), "{met:?}");
        (guest, acceptor, roster)
    };
    let (mut asking, mut acceptor, known) = guest();
    let urls = vec!["http://a:1".to_owned()];
    let mut out = Vec::new();
    wire::join_question(&urls, 1).expect("short").write_frame(&mut out);
    give(&mut acceptor, &out);
    let asked = acceptor.next_event(&known);
    assert!(matches!(&asked, Ok(Some(Event::JoinQuestion(asked))) if *asked == urls), "{asked:?}");
    let members = vec![MemberInfo { id: 2, ..MemberInfo::default() }];
    let answer = JoinAnswer { cluster_id: 9, member_id: 0, members };
    let mut out = Vec::new();
    wire::join_answer(&answer, 1).expect("short").write_frame(&mut out);
    give(&mut asking, &out);
    let told = asking.next_event(&Roster::default());
    assert!(matches!(&told, Ok(Some(Event::JoinAnswer(told))) if *told == answer), "{told:?}");

    let (_, mut acceptor, known) = guest();
    give(&mut acceptor, &bytes(&raft(0, 2)));
    let error = acceptor.next_event(&known).expect_err("a guest");
    assert_eq!(error, SessionError::Unexpected(Kind::Raft));
}
