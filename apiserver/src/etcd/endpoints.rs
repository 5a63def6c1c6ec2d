//! The plain HTTP endpoints beside gRPC: health, version, metrics.

use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use mainstay_engine::request::{KeyRange, PrefixUsage, RangeRequest};
use mainstay_engine::runtime::timer;
use mainstay_proto::maintenance::AlarmType;
use serde_json::json;

use super::auth::{Caller, Need, Who};
use super::{Door, ETCD_CLUSTER_VERSION, ETCD_VERSION, errors, limits};
use crate::metrics;
use crate::net::BoxedBody;
use crate::net::grpc::{Status, method_not_allowed};

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The path of [`Door::usage`].
pub(super) const USAGE: &str = "/usage";

/// What `/livez` looks at.
const LIVE_CHECKS: &[&str] = &["serializable_read"];
/// What `/readyz` looks at.
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
            "/metrics" => respond(StatusCode::OK, metrics::CONTENT_TYPE, self.metrics_page().await),
            root => {
                let query = request.uri().query().unwrap_or("");
                let excluded =
                    if check.is_empty() { values(query, "exclude").collect() } else { vec![] };
                let checks =
                    checks.iter().filter(|check| !excluded.iter().any(|one| one == *check));
                self.checks(root, checks, query).await
            }
        }
    }

    /// etcd's first health page: no alarm but those that are excluded, a leader, and one read
    /// through everything that a read goes through.
    async fn health(&self, query: &str) -> Response<BoxedBody> {
        let serializable =
            values(query, "serializable").next().is_some_and(|value| value == "true");
        let excluded: Vec<_> = values(query, "exclude").collect();
        let outcome = match self.alarm(&excluded) {
            Some(reason) => Err(reason.to_owned()),
            None if !serializable && self.store.leader() == 0 => Err("RAFT NO LEADER".to_owned()),
            None => {
                let read = self.read(serializable).await;
                read.map_err(|reason| format!("RANGE ERROR:{reason}"))
            }
        };
        self.count_health(outcome.is_ok());
        // Written by hand because clients compare the text, and etcd's has this order. What etcd
        // writes as an error ends with its line.
        match outcome {
            Ok(()) => {
                let body = "{\"health\":\"true\",\"reason\":\"\"}".to_owned();
                respond(StatusCode::OK, PLAIN, body)
            }
            Err(reason) => {
                let body = format!("{{\"health\":\"false\",\"reason\":{}}}\n", json!(reason));
                respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, body)
            }
        }
    }

    /// The first alarm that is not excluded, in the words of etcd's health page.
    fn alarm(&self, excluded: &[String]) -> Option<&'static str> {
        let raised = |(kind, name, _): &(AlarmType, &str, _)| {
            self.options.alarms.is_raised(*kind) && !excluded.iter().any(|other| other == name)
        };
        [
            (AlarmType::NoSpace, "NOSPACE", "ALARM NOSPACE"),
            (AlarmType::Corrupt, "CORRUPT", "ALARM CORRUPT"),
        ]
        .into_iter()
        .find(raised)
        .map(|(_, _, words)| words)
    }

    /// Which prefixes take most: `?depth=` levels, `?top=` of them. Mainstay's own page, for root
    /// alone once there are users: it shows names of keys.
    pub(super) async fn usage(&self, caller: &Rc<Caller>, query: &str) -> Response<BoxedBody> {
        let refuse = |code, status: Status| respond(code, PLAIN, format!("{}\n", status.message));
        let permit = match self.auth.permit(caller, Need::who(Who::Root)).await {
            Ok(permit) => permit,
            Err(status) => return refuse(StatusCode::FORBIDDEN, status),
        };
        let Some(_scan) = Scan::begin() else {
            return refuse(StatusCode::TOO_MANY_REQUESTS, errors::TOO_MANY_REQUESTS.into());
        };
        let number = |name, default: usize, most: usize| {
            let given = values(query, name).next().and_then(|value| value.parse::<usize>().ok());
            given.unwrap_or(default).clamp(1, most)
        };
        let depth = number("depth", 2, limits::USAGE_DEPTH);
        let top = number("top", 50, limits::USAGE_PREFIXES);
        match self.store.usage_by_prefix(depth, top).await {
            Ok(usage) => {
                // It may have taken long.
                if let Err(status) = self.auth.renew(&permit).await {
                    return refuse(StatusCode::FORBIDDEN, status);
                }
                let prefix = |usage: PrefixUsage| {
                    let prefix = String::from_utf8_lossy(&usage.prefix).into_owned();
                    json!({ "prefix": prefix, "keys": usage.keys, "bytes": usage.bytes })
                };
                let prefixes: Vec<_> = usage.into_iter().map(prefix).collect();
                let body = json!({
                    "bytes": self.store.live_bytes(),
                    "quotaBytes": self.options.alarms.quota().bytes(),
                    "prefixes": prefixes,
                });
                respond(StatusCode::OK, JSON, format!("{body}\n"))
            }
            Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, errors::from_store(error)),
        }
    }

    /// The outcome of checks, each a line when one fails or when `?verbose` asks for it.
    async fn checks(
        &self,
        root: &str,
        checks: impl Iterator<Item = &&'static str>,
        query: &str,
    ) -> Response<BoxedBody> {
        let mut lines = String::new();
        let mut healthy = true;
        for check in checks {
            let outcome = match *check {
                "serializable_read" => self.read(true).await,
                "linearizable_read" => self.read(false).await,
                "data_corruption" if self.options.alarms.is_raised(AlarmType::Corrupt) => {
                    Err("alarm activated: CORRUPT".to_owned())
                }
                "non_learner" if self.store.is_learner() => {
                    Err("not supported for learner".to_owned())
                }
                _ => Ok(()),
            };
            metrics::server().count_check(root == "/readyz", check, outcome.is_ok());
            healthy &= outcome.is_ok();
            // Writing to a String cannot fail.
            let _infallible = match outcome {
                Ok(()) => writeln!(lines, "[+]{check} ok"),
                Err(reason) => writeln!(lines, "[-]{check} failed: {reason}"),
            };
        }
        if !healthy {
            // What etcd writes as an error ends with a line end of its own.
            return respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{lines}\n"));
        }
        let verbose = values(query, "verbose").next().is_some();
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
            Some(Err(error)) => Err(errors::from_store(error).message),
            None => Err("context deadline exceeded".to_owned()),
        }
    }

    fn count_health(&self, healthy: bool) {
        let counter =
            if healthy { &self.metrics.health_success } else { &self.metrics.health_failures };
        counter.add(1);
    }

    async fn metrics_page(&self) -> String {
        let disk_bytes = self.store.disk_bytes().await;
        metrics::render(&self.store.status(), disk_bytes)
    }
}

/// The one look at all keys that there may be at a time, on all cores.
struct Scan;

static SCANNING: AtomicBool = AtomicBool::new(false);

impl Scan {
    fn begin() -> Option<Scan> {
        (!SCANNING.swap(true, Ordering::AcqRel)).then(|| Scan)
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        SCANNING.store(false, Ordering::Release);
    }
}

/// The values of `name` in a query, in order; `name` alone is an empty one. No value that is looked
/// for here has letters that a URL writes in another way.
fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| value.to_owned())
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_scan_at_a_time() {
        let first = Scan::begin();
        assert!(first.is_some() && Scan::begin().is_none() && Scan::begin().is_none());
        drop(first);
        assert!(Scan::begin().is_some());
        assert!(Scan::begin().is_some(), "whoever was refused holds nothing");
    }
}
