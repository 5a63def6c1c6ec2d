//! From a request to its handler, and from the handler's answer to the connection.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::io::{AsyncRead, AsyncWrite};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;

use super::{Driver, STREAMS};
use crate::net::body::{BoxedBody, Effective, RequestBody};
use crate::net::grpc;
use crate::net::http2::body::{self, BodyError};
use crate::net::http2::connection::{Event, Extra};
use crate::net::http2::error::ErrorCode;
use crate::net::http2::ready;
use crate::net::http2::stream::StreamKey;

/// What is done for a stream.
pub(super) enum Work<F> {
    Nothing,
    Handler(Pin<Box<F>>),
    Answer(BoxedBody),
}

pub(super) struct Slot<F> {
    key: StreamKey,
    work: Work<F>,
    /// Where the request's body goes, as long as it comes.
    body: Option<body::Sender>,
    /// HEAD: the answer's body is not sent.
    head_only: bool,
    /// By its method the request may change something, as far as plain HTTP goes.
    changes: bool,
    waker: Waker,
}

impl<S, H, F> Driver<S, H, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<BoxedBody>>,
{
    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Request { stream, request, end } => self.request(stream, request, end),
            Event::Data { stream, data, end } => {
                // A body is at most a window, which is below 2^32.
                let length = data.len() as u32;
                let taken = match self.slot(stream) {
                    Some(slot) => slot.body.as_ref().is_some_and(|body| body.data(data, end)),
                    None => false,
                };
                if !taken {
                    self.connection.consume(stream, length);
                }
            }
            Event::Trailers { stream, trailers } => {
                if let Some(body) = self.slot(stream).and_then(|slot| slot.body.as_ref()) {
                    body.trailers(trailers);
                }
            }
            Event::Reset { stream, code } => self.forget(stream, BodyError::Reset(code)),
        }
    }

    fn slot(&mut self, key: StreamKey) -> Option<&mut Slot<F>> {
        self.slots.get_mut(key.slot as usize).filter(|slot| slot.key == key)
    }

    fn request(&mut self, key: StreamKey, request: Request<()>, end: bool) {
        let head_only = request.method() == Method::HEAD;
        let changes = !request.method().is_safe();
        let (sender, body) = if end {
            (None, RequestBody::Empty)
        } else {
            let length = content_length(request.headers());
            let (sender, body) = body::channel(key, length, &self.consumed);
            (Some(sender), RequestBody::Http2(body))
        };
        let handler = Box::pin((self.handler)(request.map(|()| body)));
        while self.slots.len() <= key.slot as usize {
            let number = STREAMS + self.slots.len() as u32;
            self.slots.push(Slot {
                key,
                work: Work::Nothing,
                body: None,
                head_only: false,
                changes: false,
                waker: ready::waker(&self.ready, number),
            });
        }
        let slot = &mut self.slots[key.slot as usize];
        assert!(matches!(slot.work, Work::Nothing), "a slot serves one stream at a time");
        slot.key = key;
        slot.work = Work::Handler(handler);
        slot.body = sender;
        slot.head_only = head_only;
        slot.changes = changes;
        self.fresh.push(key.slot);
    }

    /// Drops what was done for a stream.
    pub(super) fn forget(&mut self, key: StreamKey, error: BodyError) {
        if let Some(slot) = self.slot(key) {
            let work = mem::replace(&mut slot.work, Work::Nothing);
            if let Some(body) = slot.body.take() {
                body.fail(error);
            }
            drop(work);
        }
    }

    pub(super) fn drop_all(&mut self, error: BodyError) {
        for at in 0..self.slots.len() {
            self.forget(self.slots[at].key, error);
        }
    }

    /// Goes on with what is done for a stream.
    pub(super) fn work(&mut self, at: u32) {
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        match &mut slot.work {
            Work::Nothing => {}
            Work::Handler(handler) => {
                let mut context = Context::from_waker(&slot.waker);
                if let Poll::Ready(response) = handler.as_mut().poll(&mut context) {
                    self.respond(at, response);
                }
            }
            Work::Answer(_) => self.answer(at),
        }
    }

    fn respond(&mut self, at: u32, response: Response<BoxedBody>) {
        let response = self.shed(at, response);
        let (head, body) = response.into_parts();
        let date = if is_grpc(&head.headers) { None } else { self.date.get((self.wall_clock)()) };
        let slot = &mut self.slots[at as usize];
        let none = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let end = slot.head_only || none || body.is_end_stream();
        let extra = Extra {
            content_length: body.size_hint().exact().filter(|_| !none && !body.is_end_stream()),
            date,
        };
        let key = slot.key;
        // The handler goes before the stream does: its part of the request's body too.
        slot.work = Work::Nothing;
        self.connection.respond(key, &head, extra, end);
        if body.is_whole() {
            self.connection.keep(key);
        }
        if end {
            return self.forget(key, BodyError::Closed);
        }
        self.slots[at as usize].work = Work::Answer(body);
        self.answer(at);
    }

    /// An answer, or why there is none: more than a little can't be kept for this client.
    fn shed(&self, at: u32, response: Response<BoxedBody>) -> Response<BoxedBody> {
        if self.connection.keeps(response.body().kept_bytes()) {
            return response;
        }
        no_room(&response, self.slots[at as usize].changes)
    }

    /// Sends what there is of an answer's body, as far as there is room.
    fn answer(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        let Work::Answer(body) = &mut slot.work else { return };
        let key = slot.key;
        let mut context = Context::from_waker(&slot.waker);
        loop {
            if !body.is_whole() && !self.connection.has_room(key) {
                return self.connection.want_room(key);
            }
            match Pin::new(&mut *body).poll_frame(&mut context) {
                Poll::Pending => return,
                Poll::Ready(None) => self.connection.send_data(key, Bytes::new(), true),
                Poll::Ready(Some(Err(_))) => self.connection.reset(key, ErrorCode::INTERNAL_ERROR),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        let end = body.is_end_stream();
                        self.connection.send_data(key, data, end);
                        if !end {
                            continue;
                        }
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.connection.send_trailers(key, trailers);
                    }
                },
            }
            return self.forget(key, BodyError::Closed);
        }
    }
}

/// The answer to one that has too much waiting already. What has been done is not told to be done again:
/// `changes` says so of plain HTTP, and [`Effective`] of gRPC, whose every call is a POST.
fn no_room(response: &Response<BoxedBody>, changes: bool) -> Response<BoxedBody> {
    let effective = response.extensions().get::<Effective>().is_some();
    match is_grpc(response.headers()) {
        true if effective => return grpc::refuse(&grpc::unknown_outcome()),
        true => return grpc::refuse(&grpc::too_busy()),
        false if changes && !response.status().is_client_error() => {
            let text =
                "the request may have been carried out, and there is no room for its answer\n";
            let mut answer = Response::new(BoxedBody::full(text));
            *answer.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            return answer;
        }
        false => {}
    }
    let mut answer = Response::new(BoxedBody::full("too many requests, try again later\n"));
    *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// gRPC's answers have no date.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_not_told_to_be_done_again() {
        let plain = |status: StatusCode| {
            let mut response = Response::new(BoxedBody::empty());
            *response.status_mut() = status;
            response
        };
        let call = |effective: bool| {
            let mut response = grpc::refuse(&grpc::too_busy());
            if effective {
                response.extensions_mut().insert(Effective);
            }
            response
        };
        for (name, response, changes, status, grpc_status) in [
            ("a call that reads", call(false), true, 200, Some("8")),
            ("a call that writes", call(true), true, 200, Some("14")),
            ("GET", plain(StatusCode::OK), false, 429, None),
            ("POST", plain(StatusCode::CREATED), true, 504, None),
            ("a POST that was refused", plain(StatusCode::CONFLICT), true, 429, None),
            ("a POST that went wrong", plain(StatusCode::INTERNAL_SERVER_ERROR), true, 504, None),
        ] {
            let told = no_room(&response, changes);
            assert_eq!(told.status(), status, "{name}");
            let code = told.headers().get("grpc-status").map(|value| value.as_bytes());
            assert_eq!(code, grpc_status.map(str::as_bytes), "{name}");
            assert_eq!(told.headers().contains_key(RETRY_AFTER), status == 429, "{name}");
        }
    }
}
