//! KV.RangeStream: a range of any size in answers of about the same size, all at one revision.
//!
//! One answer is read when the client has taken the one before, so a range costs no more memory
//! than one answer, however large it is and however slowly it is read. How many keys are read for it
//! is guessed from the answer before; what is more than an answer should have is read again.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use mainstay_engine::Revision;
use mainstay_engine::request::{self as store, KeyRange};
use mainstay_proto::KeyValue;
use mainstay_proto::kv::{RangeRequest, RangeResponse, RangeStreamResponse};
use prost::Message;

use super::auth::{Guarded, Permit};
use super::errors::from_store;
use super::{Caller, Door, convert, limits, validate};
use crate::metrics::CallGuard;
use crate::net::grpc::{self, Code, Status};
use crate::net::{BoxedBody, RequestBody};

/// Answers with a stream of [`RangeStreamResponse`].
pub(super) async fn serve(
    door: Rc<Door>,
    caller: Rc<Caller>,
    body: RequestBody,
    call: CallGuard,
) -> Response<BoxedBody> {
    let begun = match grpc::request::<_, RangeRequest>(body, limits::MESSAGE_BYTES).await {
        Ok(request) => Streamed::begin(door.clone(), &caller, request).await,
        Err(status) => Err(status),
    };
    let streamed = match begun {
        Ok(streamed) => streamed,
        Err(status) => {
            call.end(status.code);
            return grpc::refuse(&status);
        }
    };
    let messages = stream::unfold(Some((streamed, call)), async |state| {
        let (mut streamed, call) = state?;
        match streamed.next().await {
            Ok(None) => {
                call.end(Code::Ok);
                None
            }
            Ok(Some(answer)) => {
                call.sent(answer.len());
                Some((Ok(answer), Some((streamed, call))))
            }
            Err(status) => {
                call.end(status.code);
                Some((Err(status), None))
            }
        }
    });
    door.stream(&caller, messages)
}

/// A range on its way to the client.
struct Streamed {
    door: Rc<Door>,
    permit: Permit,
    /// What is still to be read. Its revision is fixed by the first answer.
    request: store::RangeRequest,
    keys_only: bool,
    /// Keys that the client wants yet; `None` for all.
    left: Option<usize>,
    /// Keys for the next answer.
    chunk_keys: usize,
    sent: usize,
    /// The store's revision when the range began; 0 before.
    header_revision: Revision,
    done: bool,
}

impl Streamed {
    async fn begin(
        door: Rc<Door>,
        caller: &Rc<Caller>,
        request: RangeRequest,
    ) -> Result<Streamed, Status> {
        validate::range_stream(&request)?;
        let permit = door.auth.permit(caller, request.need()?).await?;
        door.metrics.range_total.add(1);
        let keys_only = request.keys_only;
        let request = convert::range(request);
        let left = Some(request.limit).filter(|limit| *limit > 0);
        Ok(Streamed {
            door,
            permit,
            request,
            keys_only,
            left,
            chunk_keys: limits::STREAM_FIRST_KEYS,
            sent: 0,
            header_revision: 0,
            done: false,
        })
    }

    /// The next answer, encoded; `None` behind the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.done {
            return Ok(None);
        }
        self.request.limit = self.left.map_or(self.chunk_keys, |left| left.min(self.chunk_keys));
        let read = self.door.store.range(self.request.clone()).await.map_err(from_store)?;
        self.door.auth.renew(&self.permit).await?;
        if self.header_revision == 0 {
            self.header_revision = read.revision;
            if self.request.revision <= 0 {
                self.request.revision = read.revision;
            }
        }
        let kvs = read.records.iter().map(|record| convert::key_value(record, self.keys_only));
        let kvs = fitting(kvs, self.door.options.request_bytes);
        let keys = kvs.len();
        let cut = keys < read.records.len();
        self.left = self.left.map(|left| left.saturating_sub(keys));
        self.done = !cut && (!read.more || self.left == Some(0));
        let mut answer = RangeResponse { kvs, ..RangeResponse::default() };
        if self.done {
            answer.header = Some(self.door.header(self.header_revision));
            answer.more = read.more;
            // Of the whole range: what was sent before is not in this part of it any more.
            answer.count = (self.sent + read.count) as i64;
        }
        self.sent += keys;
        self.chunk_keys = match cut {
            true => keys,
            false => {
                next_keys(self.request.limit, answer.encoded_len(), self.door.options.request_bytes)
            }
        };
        if let Some(last) = answer.kvs.last() {
            self.request.range = behind(&self.request.range, &last.key);
        }
        Ok(Some(grpc::encode(&RangeStreamResponse { range_response: Some(answer) })))
    }
}

/// So many as make `aim` bytes, the first of them in any case.
fn fitting(kvs: impl Iterator<Item = KeyValue>, aim: usize) -> Vec<KeyValue> {
    let mut bytes = 0;
    let mut taken: Vec<KeyValue> = Vec::new();
    for kv in kvs {
        bytes += kv.encoded_len();
        if bytes > aim && !taken.is_empty() {
            break;
        }
        taken.push(kv);
    }
    taken
}

/// How many keys the next answer should have, when `keys` made `bytes` and `aim` are wanted: doubled or halved, and only
/// when an answer is far from the aim, so that it comes near it and stays there.
fn next_keys(keys: usize, bytes: usize, aim: usize) -> usize {
    if bytes < aim / 2 {
        (keys * 2).min(limits::STREAM_KEYS_MAX)
    } else if bytes > aim * 2 {
        (keys / 2).max(1)
    } else {
        keys
    }
}

/// The part of `range` that lies behind `key`.
fn behind(range: &KeyRange, key: &[u8]) -> KeyRange {
    let start = Bytes::from([key, &[0]].concat());
    match range {
        KeyRange::Interval { end, .. } => KeyRange::Interval { start, end: end.clone() },
        KeyRange::From(_) => KeyRange::From(start),
        // There is nothing behind a single key: a range that is empty.
        KeyRange::Single(_) => KeyRange::Interval { end: start.clone(), start },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_near_the_aim() {
        let aim = limits::REQUEST_BYTES;
        for (keys, bytes, expected) in [
            (10, 100, 20),
            (10, aim / 2, 10),
            (10, aim * 2, 10),
            (10, aim * 2 + 1, 5),
            (1, aim * 9, 1),
            (limits::STREAM_KEYS_MAX - 1, 100, limits::STREAM_KEYS_MAX),
        ] {
            assert_eq!(next_keys(keys, bytes, aim), expected, "{keys} keys of {bytes} bytes");
        }
    }

    #[test]
    fn an_answer_is_cut_where_it_becomes_too_large() {
        // Values of so many bytes, and how many of them are taken.
        for (values, expected) in [
            (&[][..], 0),
            (&[1, 1, 1], 3),
            (&[93, 1, 1], 2),
            (&[1, 200, 1], 1),
            (&[200, 1], 1),
            (&[30, 30, 30, 30], 3),
        ] {
            let kvs = values
                .iter()
                .map(|bytes| KeyValue { value: vec![b'v'; *bytes].into(), ..KeyValue::default() });
            assert_eq!(fitting(kvs, 99).len(), expected, "{values:?}");
        }
    }

    #[test]
    fn a_range_goes_on_behind_a_key() {
        let interval = |start: &'static [u8], end: &'static str| KeyRange::Interval {
            start: Bytes::from_static(start),
            end: end.into(),
        };
        for (range, expected) in [
            (interval(b"a", "c"), interval(b"b\0", "c")),
            (KeyRange::From("a".into()), KeyRange::From(Bytes::from_static(b"b\0"))),
        ] {
            assert_eq!(behind(&range, b"b"), expected);
        }
        assert!(!behind(&KeyRange::Single("b".into()), b"b").contains(b"b\0"));
    }
}
