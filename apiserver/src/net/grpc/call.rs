//! One call: its headers, its one or many messages, its answer.

use std::future::Future;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use mainstay_engine::runtime::timer;
use prost::Message;

use super::frame::{Messages, encode, too_busy, unknown_outcome};
use super::status::{Code, Status};
use crate::net::held::{self, Pressure};
use crate::net::{BoxError, BoxedBody, Effective, limits};

const GRPC: &str = "application/grpc";

/// Whether a request means to be a gRPC call.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(GRPC.as_bytes()))
}

/// What the headers of a call say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    /// As in `etcdserverpb.KV`.
    pub service: &'a str,
    /// As in `Range`.
    pub method: &'a str,
    /// How long the client is going to wait.
    pub timeout: Option<Duration>,
}

impl<'a> Head<'a> {
    /// Checks the headers of a call; `Err` is the answer to give when they are wrong.
    pub fn of<B>(request: &'a Request<B>) -> Result<Head<'a>, Box<Response<BoxedBody>>> {
        let headers = request.headers();
        let type_is_known = headers.get(CONTENT_TYPE).is_some_and(|value| {
            matches!(value.as_bytes().strip_prefix(GRPC.as_bytes()), Some([] | [b'+' | b';', ..]))
        });
        if !type_is_known {
            return Err(Box::new(text(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the content-type of a gRPC request is application/grpc\n",
            )));
        }
        if request.method() != Method::POST {
            return Err(Box::new(method_not_allowed("POST")));
        }
        if let Some(encoding) = headers.get("grpc-encoding").filter(|value| *value != "identity") {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            let mut response = refuse(&Status::new(
                Code::Unimplemented,
                format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}"),
            ));
            let identity = HeaderValue::from_static("identity");
            response.headers_mut().insert("grpc-accept-encoding", identity);
            return Err(Box::new(response));
        }
        let timeout = match headers.get("grpc-timeout") {
            None => None,
            Some(value) => Some(parse_timeout(value.as_bytes()).ok_or_else(|| {
                Box::new(refuse(&Status::new(
                    Code::Internal,
                    format!(
                        "malformed grpc-timeout: {:?}",
                        String::from_utf8_lossy(value.as_bytes())
                    ),
                )))
            })?),
        };
        let path = request.uri().path();
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'))
        else {
            return Err(Box::new(refuse(&Status::new(
                Code::Unimplemented,
                format!("malformed method name: {path:?}"),
            ))));
        };
        Ok(Head { service, method, timeout })
    }
}

/// At most eight digits and a unit, as in `20S` or `100m`.
pub fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Answers a call of one message in, one message out.
///
/// `limit` is the largest request message in bytes; `handle` also gets the message's size. The
/// client's deadline ends the wait (not what the store has begun).
pub async fn unary<B, Q, A, H, F>(
    body: B,
    timeout: Option<Duration>,
    limit: usize,
    handle: H,
) -> Result<A, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    Q: Message + Default,
    H: FnOnce(Q, usize) -> F,
    F: Future<Output = Result<A, Status>>,
{
    let call = async move {
        let bytes = single(body, limit).await?;
        let size = bytes.len();
        handle(decode(bytes)?, size).await
    };
    match timeout {
        None => call.await,
        Some(timeout) => timer::timeout(timeout, call).await.unwrap_or_else(|| {
            Err(Status::new(Code::DeadlineExceeded, "context deadline exceeded"))
        }),
    }
}

/// The one message of a call that is answered with a stream, of at most `limit` bytes.
pub async fn request<B, Q>(body: B, limit: usize) -> Result<Q, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    Q: Message + Default,
{
    decode(single(body, limit).await?)
}

/// The one message of a request.
async fn single<B>(body: B, limit: usize) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut messages = Messages::paced(body, limit);
    let Some(message) = messages.next().await? else {
        return Err(Status::new(Code::Internal, "the call has no request message"));
    };
    if !messages.is_done() && messages.next().await?.is_some() {
        return Err(Status::new(Code::Internal, "the call has more than one request message"));
    }
    Ok(message)
}

/// Decodes a request message.
pub fn decode<Q: Message + Default>(bytes: Bytes) -> Result<Q, Status> {
    Q::decode(bytes).map_err(|error| {
        Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
    })
}

/// The response of a unary call that changes nothing: it may be told to come again.
pub fn answer<A: Message>(result: Result<A, Status>) -> Response<BoxedBody> {
    whole(result, held::pressure(), &too_busy())
}

/// The response of a unary call that may have changed something. Where there is no room for it, it must
/// not sound as if nothing had happened: see [`Effective`].
pub fn answer_change<A: Message>(result: Result<A, Status>) -> Response<BoxedBody> {
    let mut response = whole(result, held::pressure(), &unknown_outcome());
    response.extensions_mut().insert(Effective);
    response
}

fn whole<A: Message>(
    result: Result<A, Status>,
    pressure: Pressure,
    no_room: &Status,
) -> Response<BoxedBody> {
    match result {
        Ok(message)
            if pressure == Pressure::Over && message.encoded_len() > limits::PENDING_BYTES_FREE =>
        {
            refuse(no_room)
        }
        Ok(message) => match check_sent(message.encoded_len()) {
            Err(status) => refuse(&status),
            Ok(()) => respond(BoxedBody::with_trailers(encode(&message), Status::ok_trailers())),
        },
        Err(status) => refuse(&status),
    }
}

/// Whether a message of so many bytes can be an answer. In grpc-go's words.
fn check_sent(bytes: usize) -> Result<(), Status> {
    let most = limits::SENT_MESSAGE_BYTES;
    if bytes <= most {
        return Ok(());
    }
    let text = format!("grpc: trying to send message larger than max ({bytes} vs. {most})");
    Err(Status::new(Code::ResourceExhausted, text))
}

/// A response of many messages, already encoded with [`encode`]. The stream's end is success, an
/// error ends the call with that status. Polled only while the client takes what it is sent.
pub fn stream<S>(messages: S) -> Response<BoxedBody>
where
    S: Stream<Item = Result<Bytes, Status>> + 'static,
{
    let mut messages = Some(Box::pin(messages));
    let frames = futures_util::stream::poll_fn(move |context| {
        let Some(source) = &mut messages else { return Poll::Ready(None) };
        let trailers = match ready!(source.poll_next_unpin(context)) {
            Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Err(status)) => {
                let mut trailers = HeaderMap::with_capacity(2);
                status.write_to(&mut trailers);
                trailers
            }
            None => Status::ok_trailers(),
        };
        messages = None;
        Poll::Ready(Some(Ok::<_, BoxError>(Frame::trailers(trailers))))
    });
    respond(BoxedBody::new(http_body_util::StreamBody::new(frames)))
}

/// The response of a call that failed before it sent anything: headers alone.
pub fn refuse(status: &Status) -> Response<BoxedBody> {
    let mut response = respond(BoxedBody::empty());
    status.write_to(response.headers_mut());
    response
}

fn respond(body: BoxedBody) -> Response<BoxedBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    response
}

/// 405, with the method that would have been right.
pub fn method_not_allowed(allowed: &'static str) -> Response<BoxedBody> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn text(status: StatusCode, body: &'static str) -> Response<BoxedBody> {
    let mut response = Response::new(BoxedBody::full(body));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("20S", Some(Duration::from_secs(20))),
            ("5000m", Some(Duration::from_secs(5))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("", None),
            ("S", None),
            ("5", None),
            ("-1S", None),
            ("1.5S", None),
            ("123456789S", None),
            ("5s", None),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), expected, "{text}");
        }
    }

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("a good request")
    }

    #[test]
    fn heads_are_checked() {
        let grpc = ("content-type", "application/grpc");
        let good = request(
            "POST",
            "/etcdserverpb.KV/Range",
            &[("content-type", "application/grpc+proto"), ("grpc-timeout", "3S")],
        );
        assert_eq!(
            Head::of(&good).expect("good"),
            Head {
                service: "etcdserverpb.KV",
                method: "Range",
                timeout: Some(Duration::from_secs(3)),
            }
        );
        for (method, path, headers, http_status, grpc_status) in [
            ("POST", "/a/b", &[][..], 415, None),
            ("POST", "/a/b", &[("content-type", "application/json")], 415, None),
            ("POST", "/a/b", &[("content-type", "application/grpcx")], 415, None),
            ("GET", "/a/b", &[grpc], 405, None),
            ("POST", "/a", &[grpc], 200, Some("12")),
            ("POST", "/a/b", &[grpc, ("grpc-encoding", "gzip")], 200, Some("12")),
            ("POST", "/a/b", &[grpc, ("grpc-timeout", "soon")], 200, Some("13")),
        ] {
            let request = request(method, path, headers);
            let response = Head::of(&request).expect_err("bad");
            assert_eq!(response.status(), http_status, "{method} {path} {headers:?}");
            let status = response.headers().get("grpc-status").map(|value| value.as_bytes());
            assert_eq!(status, grpc_status.map(str::as_bytes), "{method} {path} {headers:?}");
        }
    }

    #[test]
    fn no_answer_is_larger_than_clients_of_etcd_know_them() {
        for (bytes, text) in [
            (0, ""),
            (2_147_483_647, ""),
            (2_147_483_648, "larger than max (2147483648 vs. 2147483647)"),
            (5 << 30, "larger than max (5368709120 vs. 2147483647)"),
        ] {
            let refused = check_sent(bytes).err().map_or(String::new(), |status| status.message);
            assert!(refused.ends_with(text) && refused.is_empty() == text.is_empty(), "{refused}");
        }
    }

    #[test]
    fn an_answer_without_room_says_what_the_caller_gave_for_it() {
        let status = |response: &Response<BoxedBody>| Status::read_from(response.headers());
        let (much, little) = (limits::PENDING_BYTES_FREE + 1, 1);
        for (pressure, bytes, refused) in [
            (Pressure::Over, much, true),
            (Pressure::Over, little, false),
            (Pressure::High, much, false),
        ] {
            for no_room in [too_busy(), unknown_outcome()] {
                let response = whole(Ok(vec![7u8; bytes]), pressure, &no_room);
                assert_eq!(status(&response), refused.then_some(no_room), "{pressure:?}, {bytes}");
            }
        }
        let marked =
            |response: Response<BoxedBody>| response.extensions().get::<Effective>().is_some();
        assert!(marked(answer_change(Ok(vec![7u8]))));
        assert!(marked(answer_change::<Vec<u8>>(Err(too_busy()))));
        assert!(!marked(answer(Ok(vec![7u8]))));
    }

    #[test]
    fn a_stream_ends_with_its_status() {
        use futures_util::{FutureExt, stream as streams};
        for (items, expected) in [
            (vec![], "0"),
            (vec![Ok(Bytes::from_static(b"x"))], "0"),
            (vec![Err(Status::new(Code::OutOfRange, "far"))], "11"),
        ] {
            let mut body = stream(streams::iter(items)).into_body();
            let mut last = None;
            while let Some(frame) =
                std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context))
                    .now_or_never()
                    .expect("nothing to wait for")
            {
                last = frame.expect("no error").into_trailers().ok();
            }
            assert_eq!(last.expect("trailers at last")["grpc-status"], expected);
        }
    }
}
