//! A gRPC response, read where it was made.

use http::{HeaderMap, Response};

use super::frame::Messages;
use super::status::{Code, Status};
use crate::net::BoxedBody;

/// The messages of a response, and how the call ended.
pub struct Replies {
    head: HeaderMap,
    messages: Messages<BoxedBody>,
}

impl Replies {
    /// Reads `response`, which a service of this process made: its messages have no size limit but
    /// that of the wire.
    pub fn new(response: Response<BoxedBody>) -> Replies {
        let (head, body) = response.into_parts();
        Replies { head: head.headers, messages: Messages::new(body, u32::MAX as usize) }
    }

    /// The next message; `None` at the end of a call that went well, and its status at the end of
    /// one that did not.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>, Status> {
        if let Some(message) = self.messages.next().await? {
            return Ok(Some(message));
        }
        let headers = self.messages.trailers().unwrap_or(&self.head);
        match Status::read_from(headers) {
            None => Err(Status::new(Code::Internal, "the call ended without a status")),
            Some(Status { code: Code::Ok, .. }) => Ok(None),
            Some(status) => Err(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::grpc::{frame, refuse, stream};
    use bytes::Bytes;
    use futures_util::{FutureExt, stream as streams};

    #[test]
    fn responses_are_read_back() {
        let denied = || Status::new(Code::PermissionDenied, "100% n\u{e9}");
        let whole = |text: &'static str| frame(text.as_bytes());
        for (response, messages, end) in [
            (stream(streams::iter([Ok(whole("a")), Ok(whole(""))])), 2, Ok(None)),
            (stream(streams::iter([Ok(whole("a")), Err(denied())])), 1, Err(denied())),
            (refuse(&denied()), 0, Err(denied())),
            (
                Response::new(BoxedBody::empty()),
                0,
                Err(Status::new(Code::Internal, "the call ended without a status")),
            ),
        ] {
            let mut replies = Replies::new(response);
            let mut next = || replies.next().now_or_never().expect("nothing to wait for");
            for _ in 0..messages {
                assert!(matches!(next(), Ok(Some(_))));
            }
            assert_eq!(next(), end as Result<Option<Bytes>, Status>);
        }
    }
}
