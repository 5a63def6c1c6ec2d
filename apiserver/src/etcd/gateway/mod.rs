//! The JSON gateway: etcd's gRPC methods as `POST /v3/...` with JSON in and out.
//!
//! A request becomes the bytes of its message, by the [`tables`]; the method is called as any gRPC
//! client would call it; its answer, one message or a stream of them, becomes JSON again.

mod decode;
mod encode;
mod reader;
mod requests;
mod routes;
mod scan;
mod shape;
mod tables;
#[cfg(test)]
mod tests;
mod value;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use serde_json::json;

use self::decode::DecodeError;
use self::requests::Requests;
use self::routes::Route;
use self::scan::{Extent, Scanner};
use self::shape::Shape;
use super::{Caller, Door, Kind, limits};
use crate::net::body::{CollectError, collect};
use crate::net::grpc::{self, Code, Replies, Status};
use crate::net::{BoxedBody, RequestBody};

/// etcd's words for a certificate that names a user, where only tokens do.
const COMMON_NAME: &str = "CommonName of client sending a request against gateway will be ignored and \
                           not used as expected\n";

/// Whether a path belongs to the gateway.
pub(super) fn is_path(path: &str) -> bool {
    path.starts_with("/v3/")
}

/// Answers a request for a path of the gateway.
pub(super) async fn handle(
    door: Rc<Door>,
    caller: Rc<Caller>,
    request: Request<RequestBody>,
) -> Response<BoxedBody> {
    if door.auth.refuses_at_gateway(&caller).await {
        let mut response = Response::new(BoxedBody::full(COMMON_NAME.to_owned()));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    }
    let Some(route) = routes::find(request.uri().path()) else {
        return refuse(&Status::new(Code::NotFound, "Not Found"));
    };
    if request.method() != http::Method::POST {
        return refuse(&Status::new(Code::Unimplemented, "Method Not Allowed"));
    }
    let timeout = match timeout(request.headers()) {
        Ok(timeout) => timeout,
        Err(status) => return refuse(&status),
    };
    let limit = limits::gateway_bytes(door.options.request_bytes);
    let body = request.into_body();
    let body = match route.method.kind() {
        Kind::BidiStream => BoxedBody::new(Requests::new(body, route.request)),
        Kind::Unary | Kind::ServerStream => match whole(body, limit, route.request).await {
            Ok(message) => BoxedBody::full(message),
            Err(status) => return refuse(&status),
        },
    };
    let response = door.call(route.method, caller, timeout, RequestBody::Made(body)).await;
    let replies = Replies::new(response);
    match route.method.kind() {
        Kind::Unary => unary(route, replies).await,
        Kind::BidiStream | Kind::ServerStream => streamed(route, replies).await,
    }
}

/// The message that the gateway makes of one request's JSON text for a path; `None` when it has no
/// such path. Where hostile texts go first.
pub fn request_of_json(path: &str, text: &[u8]) -> Option<Result<Vec<u8>, String>> {
    let route = routes::find(path)?;
    Some(decode::message(text, route.request).map_err(|error| error.to_string()))
}

/// The JSON text that the gateway makes of one answer's message for a path.
pub fn json_of_answer(path: &str, message: &[u8]) -> Option<Result<String, String>> {
    let route = routes::find(path)?;
    let mut text = String::new();
    let made = encode::message(message, route.response, &mut text);
    Some(made.map(|()| text).map_err(|error| error.to_string()))
}

/// How long the client is going to wait for a single answer, if it says so.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let timeout = grpc::parse_timeout(value.as_bytes()).ok_or_else(|| {
        let value = String::from_utf8_lossy(value.as_bytes());
        Status::new(Code::InvalidArgument, format!("invalid grpc-timeout: {value}"))
    })?;
    Ok(Some(timeout))
}

/// The one message of a request. Only the first value of a body counts, and none is an empty one.
async fn whole(body: RequestBody, limit: usize, shape: &Shape) -> Result<Bytes, Status> {
    let text = collect(body, limit).await.map_err(|error| match error {
        CollectError::TooLarge { limit } => too_large(limit),
        CollectError::Busy => grpc::too_busy(),
        slow @ CollectError::Slow => Status::new(Code::DeadlineExceeded, slow.to_string()),
        broken @ CollectError::Broken(_) => Status::new(Code::Canceled, broken.to_string()),
    })?;
    let value = match Scanner::default().extent(&text) {
        Extent::Nothing => return Ok(grpc::frame(&[])),
        Extent::Unfinished => text.trim_ascii_start(),
        Extent::Whole { start, end } => &text[start..end],
    };
    Ok(grpc::frame(&decode::message(value, shape).map_err(decode_error)?))
}

async fn unary(route: Route, mut replies: Replies) -> Response<BoxedBody> {
    match replies.next().await {
        Ok(Some(message)) => {
            let mut text = String::new();
            match encode::message(&message, route.response, &mut text) {
                Ok(()) => respond(StatusCode::OK, BoxedBody::full(text)),
                Err(error) => refuse(&Status::new(Code::Internal, error.to_string())),
            }
        }
        Ok(None) => refuse(&Status::new(Code::Internal, "the method gave no answer")),
        Err(status) => refuse(&status),
    }
}

/// Each message on a line of its own. A failure before the first is told by the HTTP status.
async fn streamed(route: Route, mut replies: Replies) -> Response<BoxedBody> {
    let first = match replies.next().await {
        Ok(Some(message)) => line(&message, route.response),
        Ok(None) => return respond(StatusCode::OK, BoxedBody::empty()),
        Err(status) => return refuse(&status),
    };
    let lines = stream::unfold(Some((Some(first), replies)), move |state| async move {
        let (first, mut replies) = state?;
        if let Some(line) = first {
            return Some((Ok(line), Some((None, replies))));
        }
        match replies.next().await {
            Ok(Some(message)) => Some((Ok(line(&message, route.response)), Some((None, replies)))),
            Ok(None) => None,
            Err(status) => {
                let text = format!("{}\n", json!({ "error": error_json(&status) }));
                Some((Ok(text.into()), None))
            }
        }
    });
    respond(StatusCode::OK, BoxedBody::stream(lines))
}

fn line(message: &[u8], shape: &Shape) -> Bytes {
    let mut text = String::from("{\"result\":");
    match encode::message(message, shape, &mut text) {
        Ok(()) => text.push_str("}\n"),
        Err(error) => {
            let status = Status::new(Code::Internal, error.to_string());
            text = format!("{}\n", json!({ "error": error_json(&status) }));
        }
    }
    text.into()
}

fn decode_error(error: DecodeError) -> Status {
    Status::new(Code::InvalidArgument, error.to_string())
}

fn too_large(limit: usize) -> Status {
    let message = format!("the request is larger than {limit} bytes of JSON");
    Status::new(Code::ResourceExhausted, message)
}

fn error_json(status: &Status) -> serde_json::Value {
    json!({ "code": status.code as u8, "message": status.message })
}

/// An answer that says why there is none.
fn refuse(status: &Status) -> Response<BoxedBody> {
    let body = BoxedBody::full(error_json(status).to_string());
    let mut response = respond(http_status(status.code), body);
    // grpc-gateway puts the text here, too.
    if status.code == Code::Unauthenticated
        && let Ok(text) = HeaderValue::from_str(&status.message)
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, text);
    }
    response
}

fn respond(status: StatusCode, body: BoxedBody) -> Response<BoxedBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// The HTTP status of a gRPC code, as grpc-gateway maps it.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}
