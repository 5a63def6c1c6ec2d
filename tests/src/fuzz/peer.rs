//! Bytes of other members: connections and messages.

use mainstay_engine::peer::frame::{Kind, Received};
use mainstay_engine::peer::{Hello, Identity, NEWEST_VERSION, Roster, Session, wire};

/// A message, of which the first byte tells the kind; beyond the last kind, what somebody who is known
/// sends on a connection.
pub fn peer_message(data: &[u8]) {
    let Some((&which, data)) = data.split_first() else { return };
    let kinds = Kind::ALL.len();
    match Kind::ALL.get(usize::from(which) % (kinds + 1)) {
        Some(kind) => message(*kind, data),
        None => connection(data),
    }
}

/// What can be read comes back when it is written.
fn message(kind: Kind, data: &[u8]) {
    let received = Received::new(kind, NEWEST_VERSION, data);
    if let Ok(hello) = wire::decode_hello(&received) {
        let frame = wire::hello(&hello);
        assert!(frame.len() <= data.len() + 16, "nothing is added to {hello:?}");
    }
    let _refusal = wire::decode_refusal(&received);
    let _number = wire::decode_ping(&received);
    if let Ok(urls) = wire::decode_join_question(&received) {
        assert!(wire::join_question(&urls, NEWEST_VERSION).is_some());
    }
    if let Ok(answer) = wire::decode_join_answer(&received) {
        assert!(wire::join_answer(&answer, NEWEST_VERSION).is_some());
    }
    let Ok(message) = wire::decode(&received) else { return };
    let mut encoded = wire::encode(&message, NEWEST_VERSION).expect("it came from somewhere");
    let mut frame = Vec::new();
    assert!(encoded.write_frame(&mut frame), "as short as it came");
    let again = Received::new(encoded.kind(), NEWEST_VERSION, &frame[16..]);
    let again = wire::decode(&again).expect("its own encoding");
    assert_eq!(format!("{again:?}"), format!("{message:?}"));
}

/// How the bytes of a connection are cut makes no difference.
fn connection(data: &[u8]) {
    let whole = run(data, data.len().max(1));
    for step in [data.len() / 2 + 1, 7, 1] {
        assert_eq!(run(data, step), whole, "cut each {step} bytes");
    }
}

/// What happened, and what was said.
fn run(data: &[u8], step: usize) -> (Vec<String>, Vec<u8>) {
    let identity = |member_id| Identity { cluster_id: 9, member_id, ..Identity::default() };
    let mut roster = Roster::default();
    roster.update([1, 2]);
    let mut session = Session::accept(identity(2));
    let (least_version, newest_version) = (NEWEST_VERSION, NEWEST_VERSION);
    let (identity, peer_urls) = (identity(1), Vec::new());
    let hello = Hello { identity, to: 2, least_version, newest_version, peer_urls };
    let hello = wire::hello(&hello);
    let mut events = Vec::new();
    for part in std::iter::once(&hello[..]).chain(data.chunks(step)) {
        session.space()[..part.len()].copy_from_slice(part);
        session.filled(part.len());
        loop {
            match session.next_event(&roster) {
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => {
                    events.push(error.to_string());
                    return (events, session.take_output());
                }
            }
        }
    }
    (events, session.take_output())
}
