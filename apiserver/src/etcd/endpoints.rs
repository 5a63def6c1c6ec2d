//! The plain HTTP endpoints beside gRPC: health, version, metrics.

use std::fmt::Write as _;

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use mainstay_engine::request::{KeyRange, RangeRequest};
use mainstay_engine::runtime::timer;
use serde_json::json;

use super::{Door, ETCD_CLUSTER_VERSION, ETCD_VERSION, limits};
use crate::metrics;
use crate::net::BoxedBody;
use crate::net::grpc::method_not_allowed;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What `/livez` looks at.
const LIVE_CHECKS: &[&str] = &["serializable_read"];
/// What `/readyz` looks at. There is no learner here, and corruption ends the process.
const READY_CHECKS: &[&str] =
    &["data_corruption", "serializable_read", "linearizable_read", "non_learner"];

impl Door {
    pub(super) async fn endpoint<B>(&self, request: &Request<B>) -> Response<BoxedBody> {
        let path = request.uri().path();
        let (root, check) = match path.match_indices('/').nth(1) {
            Some((position, _)) => (&path[..position], &path[position + 1..]),
            None => (path, ""),
        };
        let checks = match (root, check) {
            ("/health" | "/version" | "/metrics", "") => &[],
            ("/livez", "") => LIVE_CHECKS,
            ("/readyz", "") => READY_CHECKS,
            ("/livez", check) => one_of(LIVE_CHECKS, check),
            ("/readyz", check) => one_of(READY_CHECKS, check),
            _ => return not_found(),
        };
        if checks.is_empty() && !check.is_empty() {
            return not_found();
        }
        if request.method() != Method::GET {
            return method_not_allowed("GET");
        }
        match root {
            "/health" => self.health(request.uri().query().unwrap_or("")).await,
            "/version" => version(),
            "/metrics" => respond(StatusCode::OK, metrics::CONTENT_TYPE, self.metrics_page()),
            root => self.checks(root, checks, request.uri().query().unwrap_or("")).await,
        }
    }

    /// etcd's first health page: one read through everything that a read goes through.
    async fn health(&self, query: &str) -> Response<BoxedBody> {
        let serializable = query.split('&').any(|pair| pair == "serializable=true");
        let (status, reason) = match self.read(serializable).await {
            Ok(()) => (StatusCode::OK, String::new()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("RANGE ERROR:{reason}")),
        };
        self.count_health(status == StatusCode::OK);
        let healthy = if status == StatusCode::OK { "true" } else { "false" };
        // Written by hand because clients compare the text, and etcd's has this order.
        let body = format!("{{\"health\":\"{healthy}\",\"reason\":{}}}", json!(reason));
        respond(status, PLAIN, body)
    }

    async fn checks(&self, root: &str, checks: &[&str], query: &str) -> Response<BoxedBody> {
        let verbose =
            query.split('&').any(|pair| pair == "verbose" || pair.starts_with("verbose="));
        let mut lines = String::new();
        let mut healthy = true;
        for check in checks {
            let outcome = match *check {
                "serializable_read" => self.read(true).await,
                "linearizable_read" => self.read(false).await,
                _ => Ok(()),
            };
            healthy &= outcome.is_ok();
            // Writing to a String cannot fail.
            let _infallible = match outcome {
                Ok(()) => writeln!(lines, "[+]{check} ok"),
                Err(reason) => writeln!(lines, "[-]{check} failed: {reason}"),
            };
        }
        self.count_health(healthy);
        if !healthy {
            let body = format!("{lines}{} check failed\n", root.trim_start_matches('/'));
            return respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, body);
        }
        respond(StatusCode::OK, PLAIN, if verbose { format!("{lines}ok\n") } else { "ok\n".into() })
    }

    /// Reads a key that need not exist.
    async fn read(&self, serializable: bool) -> Result<(), String> {
        let request = RangeRequest {
            keys_only: true,
            limit: 1,
            serializable,
            ..RangeRequest::new(KeyRange::Single("health".into()))
        };
        match timer::timeout(limits::HEALTH_TIMEOUT, self.store.range(request)).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("context deadline exceeded".to_owned()),
        }
    }

    fn count_health(&self, healthy: bool) {
        let counter =
            if healthy { &self.metrics.health_success } else { &self.metrics.health_failures };
        counter.add(1);
    }

    fn metrics_page(&self) -> String {
        metrics::render(&self.store.status(), !self.shutdown.is_requested())
    }
}

/// The one of `known` that is called `check`, or none.
fn one_of(known: &'static [&'static str], check: &str) -> &'static [&'static str] {
    match known.iter().position(|name| *name == check) {
        Some(position) => &known[position..=position],
        None => &[],
    }
}

fn version() -> Response<BoxedBody> {
    // etcd's two fields, in etcd's order, then ours.
    let body = format!(
        "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{ETCD_CLUSTER_VERSION}\",\
         \"storage\":\"{ETCD_CLUSTER_VERSION}\",\"mainstay\":\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    respond(StatusCode::OK, JSON, body)
}

fn not_found() -> Response<BoxedBody> {
    respond(StatusCode::NOT_FOUND, PLAIN, "404 page not found\n".to_owned())
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<BoxedBody> {
    const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
    let mut response = Response::new(BoxedBody::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if content_type == PLAIN {
        headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    }
    response
}
