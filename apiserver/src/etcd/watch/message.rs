//! What a watch stream sends: watchers created and ended, events, progress.

use bytes::Bytes;
use mainstay_engine::request::WatchBatch;
use mainstay_proto::ResponseHeader;
use mainstay_proto::watch::WatchResponse;
use prost::Message;

use crate::etcd::convert;
use crate::net::grpc::encode;

/// The id in answers that are about no watcher, or about all of them.
pub(super) const NO_WATCHER: i64 = -1;

pub(super) fn created(header: ResponseHeader, watch_id: i64) -> Bytes {
    encode(&WatchResponse { created: true, ..about(header, watch_id) })
}

/// A watcher that could not be made.
pub(super) fn refused(header: ResponseHeader, reason: &str) -> Bytes {
    encode(&WatchResponse {
        created: true,
        canceled: true,
        cancel_reason: reason.to_owned(),
        ..about(header, NO_WATCHER)
    })
}

/// The end of a watcher: asked for by the client if there is no reason.
pub(super) fn canceled(header: ResponseHeader, watch_id: i64, cancel_reason: String) -> Bytes {
    encode(&WatchResponse { canceled: true, cancel_reason, ..about(header, watch_id) })
}

/// The end of a watcher whose next events have been compacted. As in etcd, the header's revision
/// is 0.
pub(super) fn compacted(header: ResponseHeader, watch_id: i64, compact_revision: i64) -> Bytes {
    encode(&WatchResponse { canceled: true, compact_revision, ..about(header, watch_id) })
}

/// The end of a watcher that can't be served any more.
pub(super) fn broken(header: ResponseHeader, watch_id: i64, reason: &str) -> Bytes {
    let cancel_reason = reason.to_owned();
    encode(&WatchResponse { canceled: true, cancel_reason, ..about(header, watch_id) })
}

/// Everything up to the header's revision has been sent.
pub(super) fn progress(header: ResponseHeader, watch_id: i64) -> Bytes {
    encode(&about(header, watch_id))
}

/// Events of whole revisions, in one message; or, if the client allows it and they are more than
/// `fragment_bytes`, in several of which all but the last are marked.
pub(super) fn events(
    header: ResponseHeader,
    watch_id: i64,
    batch: &WatchBatch,
    fragment_bytes: Option<usize>,
) -> Vec<Bytes> {
    let whole = WatchResponse {
        events: batch.events.iter().map(convert::event).collect(),
        ..about(header, watch_id)
    };
    match fragment_bytes {
        Some(limit) if whole.encoded_len() >= limit => fragments(whole, limit),
        _ => vec![encode(&whole)],
    }
}

fn fragments(mut whole: WatchResponse, limit: usize) -> Vec<Bytes> {
    let events = std::mem::take(&mut whole.events);
    let empty = WatchResponse { fragment: true, ..whole };
    let empty_bytes = empty.encoded_len();
    let mut parts = Vec::new();
    let mut part = empty.clone();
    let mut part_bytes = empty_bytes;
    for event in events {
        let event_bytes = framed_bytes(event.encoded_len());
        if !part.events.is_empty() && part_bytes + event_bytes > limit {
            parts.push(encode(&std::mem::replace(&mut part, empty.clone())));
            part_bytes = empty_bytes;
        }
        part_bytes += event_bytes;
        part.events.push(event);
    }
    part.fragment = false;
    parts.push(encode(&part));
    parts
}

/// An event inside a message: its bytes, their length, a tag of one byte.
fn framed_bytes(length: usize) -> usize {
    1 + prost::length_delimiter_len(length) + length
}

fn about(header: ResponseHeader, watch_id: i64) -> WatchResponse {
    WatchResponse { header: Some(header), watch_id, ..WatchResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_engine::Record;
    use mainstay_engine::request::Event;

    fn decode(bytes: &Bytes) -> WatchResponse {
        WatchResponse::decode(&bytes[5..]).expect("our own message")
    }

    #[test]
    fn large_batches_are_split_between_events_when_allowed() {
        let event = |number: i64| Event {
            record: Record::new(format!("key-{number}").as_bytes(), &[b'v'; 100], 5, 5, 1, 0),
            previous: None,
        };
        let batch = WatchBatch { revision: 5, events: (0..10).map(event).collect() };
        let header = ResponseHeader { revision: 5, ..ResponseHeader::default() };
        assert_eq!(events(header, 3, &batch, None).len(), 1);
        assert_eq!(events(header, 3, &batch, Some(1 << 20)).len(), 1);
        for limit in [1, 130, 300, 1_000] {
            let parts: Vec<_> = events(header, 3, &batch, Some(limit)).iter().map(decode).collect();
            assert!(parts.len() > 1, "limit {limit}");
            for (position, part) in parts.iter().enumerate() {
                assert_eq!(part.fragment, position + 1 < parts.len());
                assert_eq!(part.watch_id, 3);
                assert_eq!(part.header, Some(header));
                assert!(part.events.len() == 1 || part.encoded_len() <= limit, "limit {limit}");
            }
            let keys: Vec<_> = parts.iter().flat_map(|part| &part.events).collect();
            let expected: Vec<_> = batch.events.iter().map(convert::event).collect();
            assert_eq!(keys, expected.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn control_messages() {
        let header = ResponseHeader { revision: 9, ..ResponseHeader::default() };
        let base = about(header, 4);
        for (bytes, expected) in [
            (created(header, 4), WatchResponse { created: true, ..base.clone() }),
            (canceled(header, 4, String::new()), WatchResponse { canceled: true, ..base.clone() }),
            (
                compacted(header, 4, 7),
                WatchResponse { canceled: true, compact_revision: 7, ..base.clone() },
            ),
            (
                broken(header, 4, "why"),
                WatchResponse { canceled: true, cancel_reason: "why".to_owned(), ..base.clone() },
            ),
            (progress(header, 4), base.clone()),
            (
                refused(header, "why"),
                WatchResponse {
                    created: true,
                    canceled: true,
                    cancel_reason: "why".to_owned(),
                    watch_id: -1,
                    ..base
                },
            ),
        ] {
            assert_eq!(decode(&bytes), expected);
        }
    }
}
