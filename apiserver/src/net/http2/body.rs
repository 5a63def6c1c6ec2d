//! The body of a request, between the connection that receives it and the handler that reads it.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::error::ErrorCode;
use super::frame::FRAME_BYTES;
use super::ready::Ready;
use super::stream::StreamKey;
use crate::net::limits;

/// The client reset the stream, or the connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the stream was reset: {0}")]
    Reset(ErrorCode),
    #[error("the connection is closed")]
    Closed,
}

/// What was read of bodies of one connection, for the connection's windows.
#[derive(Debug)]
pub(super) struct Consumed {
    list: RefCell<Vec<(StreamKey, u32)>>,
    bytes: Cell<u32>,
    ready: Arc<Ready>,
}

impl Consumed {
    /// Less is told when there is something else to do.
    const WAKE_BYTES: u32 = 64 << 10;

    pub(super) fn new(ready: Arc<Ready>) -> Rc<Consumed> {
        Rc::new(Consumed { list: RefCell::default(), bytes: Cell::new(0), ready })
    }

    fn add(&self, stream: StreamKey, bytes: usize) {
        if bytes == 0 {
            return;
        }
        // Never more than a window, which is below 2^31.
        let bytes = bytes as u32;
        let mut list = self.list.borrow_mut();
        match list.last_mut() {
            Some((last, sum)) if *last == stream => *sum += bytes,
            _ => list.push((stream, bytes)),
        }
        self.bytes.set(self.bytes.get() + bytes);
        if self.bytes.get() >= Consumed::WAKE_BYTES {
            self.ready.wake_task();
        }
    }

    /// Moves what was read to `list`, which is empty.
    pub(super) fn take(&self, list: &mut Vec<(StreamKey, u32)>) {
        if self.bytes.replace(0) > 0 {
            mem::swap(&mut *self.list.borrow_mut(), list);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// The next frame; more are rare.
    next: Option<Bytes>,
    later: VecDeque<Bytes>,
    /// What comes behind these: short frames, put together.
    tail: BytesMut,
    trailers: Option<HeaderMap>,
    ended: bool,
    error: Option<BodyError>,
    reader: Option<Waker>,
}

impl State {
    fn push(&mut self, data: Bytes) {
        if self.next.is_none() {
            self.next = Some(data);
        } else if data.len() < limits::SMALL_DATA_BYTES {
            self.tail.extend_from_slice(&data);
            if self.tail.len() >= FRAME_BYTES {
                self.later.push_back(self.tail.split().freeze());
            }
        } else {
            if !self.tail.is_empty() {
                self.later.push_back(self.tail.split().freeze());
            }
            self.later.push_back(data);
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        let data = self.next.take()?;
        self.next = self.later.pop_front();
        if self.next.is_none() && !self.tail.is_empty() {
            self.next = Some(mem::take(&mut self.tail).freeze());
        }
        Some(data)
    }
}

/// The connection's end of a body.
#[derive(Debug)]
pub(super) struct Sender(Rc<RefCell<State>>);

/// The handler's end: what the client sends, as it comes. Holds at most a window.
#[derive(Debug)]
pub struct ReceivedBody {
    state: Rc<RefCell<State>>,
    consumed: Rc<Consumed>,
    stream: StreamKey,
    /// Bytes that are still to be read, if the client said so.
    left: Option<u64>,
}

pub(super) fn channel(
    stream: StreamKey,
    content_length: Option<u64>,
    consumed: &Rc<Consumed>,
) -> (Sender, ReceivedBody) {
    let state = Rc::new(RefCell::new(State::default()));
    let body = ReceivedBody {
        state: state.clone(),
        consumed: consumed.clone(),
        stream,
        left: content_length,
    };
    (Sender(state), body)
}

impl Sender {
    /// Hands data over; `false` when nobody is there to read it.
    pub(super) fn data(&self, data: Bytes, end: bool) -> bool {
        if Rc::strong_count(&self.0) == 1 {
            return false;
        }
        let mut state = self.0.borrow_mut();
        state.ended |= end;
        if !data.is_empty() {
            state.push(data);
        }
        wake(state);
        true
    }

    pub(super) fn trailers(&self, trailers: HeaderMap) {
        let mut state = self.0.borrow_mut();
        state.ended = true;
        state.trailers = Some(trailers);
        wake(state);
    }

    /// Nothing more comes, though it should have.
    pub(super) fn fail(&self, error: BodyError) {
        let mut state = self.0.borrow_mut();
        if !state.ended {
            state.error = Some(error);
            wake(state);
        }
    }
}

/// Wakes the reader, when nothing is borrowed any more: a waker may be all that a reader has left.
fn wake(mut state: RefMut<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut state = this.state.borrow_mut();
        if let Some(data) = state.pop() {
            this.consumed.add(this.stream, data.len());
            // The connection has checked the sum.
            this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = state.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        if let Some(error) = state.error {
            return Poll::Ready(Some(Err(error)));
        }
        if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
            state.reader = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let state = self.state.borrow();
        state.ended && state.next.is_none() && state.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for ReceivedBody {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        let mut unread = 0;
        while let Some(data) = state.pop() {
            unread += data.len();
        }
        self.consumed.add(self.stream, unread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use proptest::prelude::*;

    fn body() -> (Sender, ReceivedBody) {
        channel(StreamKey { slot: 0, id: 1 }, None, &Consumed::new(Arc::default()))
    }

    fn read(body: &mut ReceivedBody) -> Option<Bytes> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        let frame = frame.now_or_never().flatten()?.expect("no error");
        Some(frame.into_data().expect("data"))
    }

    #[test]
    fn short_frames_that_nobody_reads_are_put_together() {
        let (sender, mut body) = body();
        for at in 0..100_000u32 {
            assert!(sender.data(Bytes::from(vec![at as u8]), false));
        }
        let pieces = sender.0.borrow().later.len();
        assert!(pieces <= 100_000 / FRAME_BYTES + 1, "{pieces} pieces");
        let mut total = 0;
        while let Some(data) = read(&mut body) {
            for byte in data {
                assert_eq!(byte, total as u8, "at {total}");
                total += 1;
            }
        }
        assert_eq!(total, 100_000);
        assert_eq!(body.consumed.bytes.get(), 100_000);
    }

    proptest! {
        #[test]
        fn bytes_come_in_order_whatever_the_frames(
            frames in prop::collection::vec((1usize..3000, any::<bool>()), 0..40),
        ) {
            let (sender, mut body) = body();
            let mut next = 0u8;
            let mut expected = Vec::new();
            let mut found = Vec::new();
            for (length, reads) in frames {
                let frame: Vec<u8> = (0..length).map(|_| { next = next.wrapping_add(1); next }).collect();
                expected.extend_from_slice(&frame);
                sender.data(Bytes::from(frame), false);
                if reads {
                    found.extend(read(&mut body).expect("there is some"));
                }
            }
            let unread = expected.len() - found.len();
            prop_assert!(expected.starts_with(&found));
            let consumed = body.consumed.clone();
            drop(body);
            prop_assert_eq!(consumed.bytes.get() as usize, found.len() + unread);
        }
    }
}
