//! The order of everything that happens to a request.
//!
//! The panic guard stands around all of it, in `net::http`: a request that panics is answered with
//! 500 and costs nobody else anything.

use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request};
use http_body::Body;
use mainstay_engine::runtime::{spawn_local, timer};

use super::answer::{self, AUDIT_ID, Answer};
use super::authn::{Credential, User, accounts};
use super::limits::{BODY_BYTES, DRAINED_BYTES, REQUEST_TIMEOUT, WRITES_IN_FLIGHT};
use super::measures::{self, Labels, Running};
use super::registry::context::{Now, Warnings};
use super::request::field_selector::FieldSelector;
use super::request::negotiation::{self, Offer, Representation};
use super::request::path::{self, RequestInfo};
use super::request::query::Query;
use super::server::Kube;
use super::status::ApiError;
use super::{authn, authz, detached, dispatch};
use crate::net::body::{CollectError, collect};
use crate::net::{BoxError, ConnectionInfo};

/// A request, read but not yet understood.
pub struct Call {
    pub head: Parts,
    pub info: RequestInfo,
    pub query: Query,
    pub warnings: Warnings,
}

/// Answers a request, whatever it is.
pub async fn serve<B>(kube: Rc<Kube>, request: Request<B>, connection: Rc<ConnectionInfo>) -> Answer
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    let call = Rc::new(Call::read(head));
    let audit_id = call.audit_id(&kube);
    let representation = call.error_representation();
    let begun_us = timer::monotonic_us();
    let running = (call.info.verb != "watch").then(|| Running::short(is_write(&call.info)));
    let answered =
        timer::timeout(REQUEST_TIMEOUT, answer_to(&kube, &call, &connection, body)).await;
    let mut answer = match answered {
        Some(Ok(answer)) => answer,
        Some(Err(error)) => answer::error(&error, representation),
        None => answer::error(&deadline_passed(), representation),
    };
    drop(running);
    let labels = Labels::of(&call, &kube.registry.catalog);
    let took_us = timer::monotonic_us().saturating_sub(begun_us);
    measures::answered(&labels, answer.status().as_u16(), took_us);
    answer.headers_mut().insert(AUDIT_ID, audit_id);
    answer::add_warnings(answer.headers_mut(), &call.warnings.take());
    answer
}

/// Who, whether, what; then the work. Admission and storage are the registry's.
async fn answer_to<B>(
    kube: &Rc<Kube>,
    call: &Rc<Call>,
    connection: &ConnectionInfo,
    body: B,
) -> Result<Answer, ApiError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut user = authenticate(kube, call, connection).await?;
    let policy = &kube.registry.policy;
    if let Some(wanted) = authn::impersonated(&call.head.headers)? {
        authz::authorize_impersonation(policy, &user, &wanted, &call.info)?;
        user = wanted;
    }
    authorize(kube, call, &user).await?;
    if !is_write(&call.info) {
        return dispatch::dispatch(kube, call, user, Bytes::new()).await;
    }
    let body = read_body(body).await?;
    write_to_the_end(kube.clone(), call.clone(), user, body).await
}

/// Finds out who sends a request.
async fn authenticate(
    kube: &Kube,
    call: &Call,
    connection: &ConnectionInfo,
) -> Result<User, ApiError> {
    let token = match authn::credential(connection, &call.head.headers)? {
        Credential::User(user) => return Ok(user),
        Credential::Token(token) => token,
    };
    let issuer = &kube.options.tokens;
    let now = Now::new(timer::wall_clock());
    let audiences = [issuer.issuer()];
    let known = accounts::user_of_token(&kube.registry, issuer, &token, &audiences, now).await;
    known.map(|(user, _)| user).map_err(|_| ApiError::unauthorized())
}

/// Refuses what the user may not do. Nodes may do what their pods need, besides what roles allow.
async fn authorize(kube: &Kube, call: &Call, user: &User) -> Result<(), ApiError> {
    let registry = &kube.registry;
    let mut reason = String::new();
    if let Some(node) = authz::node::node_of(user) {
        let asked = authz::Attributes::of(&call.info);
        let fields = FieldSelector::parse(call.query.text("fieldSelector")).unwrap_or_default();
        match authz::node::authorize(registry, node, &asked, &fields).await {
            Ok(()) => return Ok(()),
            Err(why) => reason = why,
        }
    }
    authz::authorize(&registry.policy, user, &call.info, &reason)
}

/// One of the writes that are counted.
struct WriteInFlight(Rc<Kube>);

impl WriteInFlight {
    fn begin(kube: Rc<Kube>) -> Result<WriteInFlight, ApiError> {
        let count = kube.writes_in_flight.get();
        if count >= WRITES_IN_FLIGHT {
            return Err(ApiError::too_many_requests(
                "too many requests, please try again later",
                1,
            ));
        }
        kube.writes_in_flight.set(count + 1);
        Ok(WriteInFlight(kube))
    }
}

impl Drop for WriteInFlight {
    fn drop(&mut self) {
        self.0.writes_in_flight.set(self.0.writes_in_flight.get() - 1);
    }
}

/// Does a write, all of it, even when the client hangs up in the middle.
async fn write_to_the_end(
    kube: Rc<Kube>,
    call: Rc<Call>,
    user: User,
    body: Bytes,
) -> Result<Answer, ApiError> {
    let write = WriteInFlight::begin(kube)?;
    let (working, waiting) =
        detached::part(async move { dispatch::dispatch(&write.0, &call, user, body).await });
    spawn_local(working);
    waiting.await
}

/// Whether something may change. Of other requests the body means nothing: nobody waits for it.
fn is_write(info: &RequestInfo) -> bool {
    let verbs = ["create", "update", "patch", "delete", "deletecollection"];
    info.is_resource && verbs.contains(&info.verb)
}

async fn read_body<B>(body: B) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > BODY_BYTES as u64 {
        drain(body).await;
        return Err(ApiError::too_large(BODY_BYTES));
    }
    collect(body, BODY_BYTES).await.map_err(|error| match error {
        CollectError::TooLarge { limit } => ApiError::too_large(limit),
        CollectError::Busy => ApiError::too_many_requests(error.to_string(), 1),
        CollectError::Slow => ApiError::bad_request(error.to_string()),
        CollectError::Broken(why) => ApiError::bad_request(why.to_string()),
    })
}

/// Reads a body that is too large and forgets it, so that its sender reads the answer rather than
/// meets a closed connection; not if it is far too large.
async fn drain<B>(body: B)
where
    B: Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let mut left = DRAINED_BYTES;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

fn deadline_passed() -> ApiError {
    ApiError::timeout("request did not complete within the allotted timeout", 0)
}

impl Call {
    fn read(head: Parts) -> Call {
        let query = Query::parse(head.uri.query().unwrap_or(""));
        let watch = query.boolean("watch").unwrap_or(false);
        let fields =
            super::request::field_selector::FieldSelector::parse(query.text("fieldSelector"));
        let fields = fields.unwrap_or_default();
        let name = fields.exact("metadata.name");
        let info = path::parse(&head.method, head.uri.path(), watch, name);
        Call { head, info, query, warnings: Warnings::default() }
    }

    fn audit_id(&self, kube: &Kube) -> HeaderValue {
        let given = self.head.headers.get(&AUDIT_ID).filter(|id| id.len() <= 64);
        given.cloned().unwrap_or_else(|| {
            HeaderValue::from_str(&kube.registry.random.uuid()).expect("a UUID is ASCII")
        })
    }

    /// A text header; empty when it is absent or no text.
    pub fn header(&self, name: http::HeaderName) -> &str {
        self.head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    pub fn accept(&self) -> &str {
        self.header(http::header::ACCEPT)
    }

    /// What the client wants of what is offered.
    pub fn representation(&self, offer: Offer) -> Result<Representation, ApiError> {
        let mut representation = negotiation::negotiate(self.accept(), offer)?;
        representation.pretty = self.wants_pretty();
        Ok(representation)
    }

    fn error_representation(&self) -> Representation {
        let chosen = negotiation::negotiate(self.accept(), Offer::Resource).unwrap_or_default();
        Representation {
            encoding: chosen.encoding,
            pretty: self.wants_pretty(),
            ..Default::default()
        }
    }

    /// People with a browser or a command line get indented JSON.
    fn wants_pretty(&self) -> bool {
        let agent = self.header(http::header::USER_AGENT);
        let person = ["curl", "Wget", "Mozilla/5.0"].iter().any(|name| agent.starts_with(name));
        self.query.boolean("pretty").unwrap_or(person)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn bodies_are_read_only_for_who_uses_them() {
        for (method, path, expected) in [
            (Method::GET, "/version", false),
            (Method::POST, "/healthz", false),
            (Method::PUT, "/apis/apps/v1", false),
            (Method::GET, "/api/v1/namespaces/a/pods", false),
            (Method::GET, "/api/v1/namespaces/a/pods/b", false),
            (Method::POST, "/api/v1/namespaces/a/pods", true),
            (Method::PUT, "/api/v1/namespaces/a/pods/b", true),
            (Method::PATCH, "/api/v1/namespaces/a/pods/b/status", true),
            (Method::DELETE, "/api/v1/namespaces/a/pods/b", true),
            (Method::DELETE, "/api/v1/namespaces/a/pods", true),
        ] {
            let info = path::parse(&method, path, false, None);
            assert_eq!(is_write(&info), expected, "{method} {path}");
        }
    }
}
