//! A body of JSON values, one after the other, as the body of a gRPC call.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};

use super::scan::{Extent, Scanner};
use super::shape::Shape;
use super::{decode, decode_error, too_large};
use crate::etcd::limits;
use crate::net::grpc::{Code, Status, frame};
use crate::net::{BoxError, RequestBody};

/// Turns each value into a message as soon as all of it is here; holds at most one of them.
pub(super) struct Requests {
    body: RequestBody,
    shape: &'static Shape,
    received: BytesMut,
    scanner: Scanner,
    ended: bool,
}

impl Requests {
    pub(super) fn new(body: RequestBody, shape: &'static Shape) -> Requests {
        let (received, scanner) = (BytesMut::new(), Scanner::default());
        Requests { body, shape, received, scanner, ended: false }
    }

    /// The next message from what is here.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let whole = match self.scanner.extent(&self.received) {
            Extent::Nothing => return Ok(None),
            Extent::Unfinished if !self.ended => {
                let too_much = self.received.len() > limits::GATEWAY_BYTES;
                return if too_much { Err(too_large(limits::GATEWAY_BYTES)) } else { Ok(None) };
            }
            // What is missing will be told.
            Extent::Unfinished => 0..self.received.len(),
            Extent::Whole { start, end } => start..end,
        };
        self.scanner = Scanner::default();
        let end = whole.end;
        let decoded = decode::message(&self.received[whole], self.shape);
        let _taken = self.received.split_to(end);
        Ok(Some(frame(&decoded.map_err(decode_error)?)))
    }
}

impl Body for Requests {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            match this.take() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Ok(None) if this.ended => return Poll::Ready(None),
                Ok(None) => {}
                Err(status) => return Poll::Ready(Some(Err(status.into()))),
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                None => this.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        this.received.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    let message = format!("the request broke off: {error}");
                    let status = Status::new(Code::Canceled, message);
                    return Poll::Ready(Some(Err(status.into())));
                }
            }
        }
    }
}
