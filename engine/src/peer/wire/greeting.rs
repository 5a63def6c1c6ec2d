//! Greetings, refusals and pings: laid out by hand, because every version has to read them.
//!
//! What is behind the parts named here is for later versions to add, and is passed over.

use super::{Decoded, WireError};
use crate::peer::frame::{Kind, Received, single};
use crate::peer::message::{Hello, Identity, Refusal, RefusalReason};
use crate::peer::{LEAST_VERSION, limits};

/// What tells a member from whatever else may connect to a port.
const MAGIC: [u8; 8] = *b"MSTYPEER";

const REASONS: [RefusalReason; 6] = [
    RefusalReason::Version,
    RefusalReason::OtherCluster,
    RefusalReason::OtherMember,
    RefusalReason::Removed,
    RefusalReason::NotReady,
    RefusalReason::Malformed,
];

impl RefusalReason {
    fn number(self) -> u16 {
        if let RefusalReason::Other(number) = self {
            return number;
        }
        let place = REASONS.iter().position(|reason| *reason == self).expect("all are listed");
        place as u16 + 1
    }

    fn of_number(number: u16) -> RefusalReason {
        let known = REASONS.get(usize::from(number).wrapping_sub(1)).copied();
        known.unwrap_or(RefusalReason::Other(number))
    }
}

/// A greeting, as a frame.
pub fn hello(hello: &Hello) -> Vec<u8> {
    let identity = &hello.identity;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(hello.least_version.to_le_bytes());
    bytes.extend(hello.newest_version.to_le_bytes());
    bytes.extend([0; 4]);
    for number in [identity.cluster_id, identity.member_id, hello.to, identity.incarnation] {
        bytes.extend(number.to_le_bytes());
    }
    add_text(&mut bytes, &identity.name, limits::NAME_BYTES);
    // Half of a URL leads nowhere.
    let urls = hello.peer_urls.iter().filter(|url| url.len() <= limits::URL_BYTES);
    let urls: Vec<&String> = urls.take(limits::URLS).collect();
    bytes.extend((urls.len() as u16).to_le_bytes());
    urls.iter().for_each(|url| add_text(&mut bytes, url, limits::URL_BYTES));
    single(Kind::Hello, LEAST_VERSION, &bytes)
}

pub fn decode_hello(received: &Received) -> Result<Hello, WireError> {
    let mut bytes = &received.payload[..];
    let read = || -> Decoded<Hello> {
        if take(&mut bytes)? != MAGIC {
            return Err("it does not begin as greetings of Mainstay do");
        }
        let least_version = u16::from_le_bytes(take(&mut bytes)?);
        let newest_version = u16::from_le_bytes(take(&mut bytes)?);
        let _reserved: [u8; 4] = take(&mut bytes)?;
        let mut number = || take(&mut bytes).map(u64::from_le_bytes);
        let (cluster_id, member_id, to) = (number()?, number()?, number()?);
        let incarnation = number()?;
        let name = take_text(&mut bytes, limits::NAME_BYTES)?;
        let count = usize::from(u16::from_le_bytes(take(&mut bytes)?));
        if count > limits::URLS {
            return Err("it has too many peer URLs");
        }
        let url = |_| take_text(&mut bytes, limits::URL_BYTES);
        let peer_urls = (0..count).map(url).collect::<Decoded<_>>()?;
        if least_version == 0 || least_version > newest_version {
            return Err("its versions make no sense");
        }
        let identity = Identity { cluster_id, member_id, incarnation, name };
        Ok(Hello { identity, to, least_version, newest_version, peer_urls })
    };
    error(received, read)
}

/// A refusal, as a frame.
pub fn refusal(refusal: &Refusal) -> Vec<u8> {
    let mut bytes = refusal.reason.number().to_le_bytes().to_vec();
    add_text(&mut bytes, &refusal.text, limits::REASON_BYTES);
    single(Kind::Refused, LEAST_VERSION, &bytes)
}

pub fn decode_refusal(received: &Received) -> Result<Refusal, WireError> {
    let mut bytes = &received.payload[..];
    let read = || -> Decoded<Refusal> {
        let reason = RefusalReason::of_number(u16::from_le_bytes(take(&mut bytes)?));
        let text = take_text(&mut bytes, limits::REASON_BYTES)?;
        // It goes to the log of whoever reads it.
        let text = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
        Ok(Refusal { reason, text })
    };
    error(received, read)
}

/// A ping, or the pong that gives its number back, as a frame.
pub fn ping(kind: Kind, version: u16, number: u64) -> Vec<u8> {
    assert!(matches!(kind, Kind::Ping | Kind::Pong));
    single(kind, version, &number.to_le_bytes())
}

pub fn decode_ping(received: &Received) -> Result<u64, WireError> {
    let mut bytes = &received.payload[..];
    error(received, || take(&mut bytes).map(u64::from_le_bytes))
}

fn error<T>(received: &Received, read: impl FnOnce() -> Decoded<T>) -> Result<T, WireError> {
    let (kind, length) = (received.kind, received.payload.len());
    read().map_err(|what| WireError { kind, length, what })
}

fn take<const LENGTH: usize>(bytes: &mut &[u8]) -> Decoded<[u8; LENGTH]> {
    let (first, rest) = bytes.split_first_chunk().ok_or("it is too short")?;
    *bytes = rest;
    Ok(*first)
}

/// A length, and a text which is cut when it is too long.
fn add_text(bytes: &mut Vec<u8>, text: &str, limit: usize) {
    let text = &text[..text.floor_char_boundary(limit)];
    let length = u16::try_from(text.len()).expect("limits of texts are small");
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn take_text(bytes: &mut &[u8], limit: usize) -> Decoded<String> {
    let length = usize::from(u16::from_le_bytes(take(bytes)?));
    let text = bytes.get(..length).filter(|text| text.len() <= limit).ok_or("a text is cut off")?;
    *bytes = &bytes[length..];
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| "a text of it is no text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::frame::Reader;

    fn received(frame: &[u8]) -> Received {
        let mut reader = Reader::default();
        reader.agree(1);
        reader.space()[..frame.len()].copy_from_slice(frame);
        reader.filled(frame.len());
        reader.next_message().expect("a frame").expect("all of it")
    }

    fn greeting(name: &str) -> Hello {
        let identity =
            Identity { cluster_id: 1, member_id: 2, incarnation: 4, name: name.to_owned() };
        let peer_urls = vec!["http://a:1".to_owned()];
        Hello { identity, to: 3, least_version: 1, newest_version: 7, peer_urls }
    }

    #[test]
    fn greetings_come_back() {
        for name in ["", "infra0", "mit Grüßen"] {
            let sent = greeting(name);
            assert_eq!(decode_hello(&received(&hello(&sent))), Ok(sent));
        }
        let long = "ü".repeat(limits::NAME_BYTES);
        let read = decode_hello(&received(&hello(&greeting(&long)))).expect("cut");
        assert_eq!(read.identity.name.len(), limits::NAME_BYTES);
        let url = |length: usize| "x".repeat(length);
        let mut many = greeting("a");
        many.peer_urls = vec![url(limits::URL_BYTES + 1)];
        many.peer_urls.extend(vec![url(limits::URL_BYTES); limits::URLS + 1]);
        let read = decode_hello(&received(&hello(&many))).expect("those that have room");
        assert_eq!(read.peer_urls, many.peer_urls[1..=limits::URLS]);
    }

    #[test]
    fn the_layout_of_a_greeting_does_not_change() {
        let frame = hello(&greeting("ab"));
        let mut expected = b"MSTYPEER\x01\0\x07\0\0\0\0\0".to_vec();
        for number in [1u64, 2, 3, 4] {
            expected.extend(number.to_le_bytes());
        }
        expected.extend(b"\x02\0ab\x01\0\x0a\0http://a:1");
        assert_eq!(received(&frame).payload, expected);
        // A later version may say more.
        expected.extend(b"more");
        let read = decode_hello(&received(&single(Kind::Hello, 1, &expected)));
        assert_eq!(read, Ok(greeting("ab")));
        for cut in 0..expected.len() - 4 {
            let error = decode_hello(&received(&single(Kind::Hello, 1, &expected[..cut])));
            error.expect_err("cut off");
        }
        for (place, value) in [(0, b'X'), (8, 0), (8, 9), (50, 0xff)] {
            let mut changed = expected.clone();
            changed[place] = value;
            let error = decode_hello(&received(&single(Kind::Hello, 1, &changed)));
            error.expect_err("nonsense");
        }
    }

    #[test]
    fn refusals_come_back() {
        let reasons =
            REASONS.into_iter().chain([RefusalReason::Other(0), RefusalReason::Other(99)]);
        for reason in reasons {
            let sent = Refusal { reason, text: "because".to_owned() };
            assert_eq!(decode_refusal(&received(&refusal(&sent))), Ok(sent));
        }
        let sent = Refusal { reason: RefusalReason::Removed, text: "a\nb\x1b[1m".to_owned() };
        let read = decode_refusal(&received(&refusal(&sent))).expect("a refusal");
        assert_eq!(read.text, "a b [1m", "nobody's terminal is to be written on");
    }

    #[test]
    fn pings_come_back() {
        let frame = ping(Kind::Pong, 1, 77);
        assert_eq!(decode_ping(&received(&frame)), Ok(77));
        decode_ping(&received(&single(Kind::Ping, 1, b"short"))).expect_err("too short");
    }
}
