//! Paths that are no resource: discovery, version, health, metrics.

use std::rc::Rc;

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, VARY,
};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::chain::Call;
use super::discovery::openapi::{OpenApi, SWAGGER_PROTOBUF_TYPES};
use super::discovery::{AGGREGATED_CONTENT_TYPE, Discovery, Document, KUBERNETES_VERSION};
use super::health;
use super::limits::GZIP_MIN_BYTES;
use super::measures;
use super::request::negotiation::{Encoding, Offer};
use super::server::Kube;
use super::status::ApiError;
use crate::metrics;

pub async fn serve(kube: &Rc<Kube>, call: &Call) -> Result<Answer, ApiError> {
    let path = call.info.path.as_str();
    let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
    match first {
        "healthz" | "livez" | "readyz" => return Ok(health_report(kube, call).await),
        "metrics" if path == "/metrics" => return Ok(metrics_page(kube).await),
        "openapi" => return openapi(kube, call),
        _ => {}
    }
    let documents = kube.discovery();
    if let Some(document) = aggregated(&documents, call) {
        return Ok(with_etag(call, document, AGGREGATED_CONTENT_TYPE));
    }
    if let Some(document) = documents.document(path) {
        if call.head.method != Method::GET && path.trim_end_matches('/') == "/version" {
            return Err(ApiError::method_not_allowed());
        }
        return discovery(call, document);
    }
    if path == "/" {
        return root(kube, call);
    }
    // Below a group that is served, a version that is not is told as an object.
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let known = match parts[..] {
        ["api", _] => true,
        ["apis", group, _] => kube.registry.catalog.has_builtin_group(group),
        _ => false,
    };
    if known { Err(ApiError::no_such_path()) } else { Ok(answer::page_not_found()) }
}

/// `/openapi/v2`, `/openapi/v3` and the documents below it.
fn openapi(kube: &Kube, call: &Call) -> Result<Answer, ApiError> {
    let path = call.info.path.trim_matches('/');
    let (open_api, custom) = (OpenApi::builtin(), kube.custom_open_api());
    let (document, content_type) = match path.strip_prefix("openapi/v3/") {
        _ if path == "openapi/v3" => {
            let index = Document::json(&open_api.index(&custom.hashes()));
            return Ok(with_etag(call, &index, "text/plain; charset=utf-8"));
        }
        Some(name) => {
            (open_api.document(name).or_else(|| custom.document(name)), accepted(call, &[]))
        }
        None if path == "openapi/v2" => match accepted(call, &SWAGGER_PROTOBUF_TYPES) {
            Some(JSON) => (Some(custom.swagger(open_api)), Some(JSON)),
            Some(_) => (Some(custom.swagger_protobuf(open_api)), Some(SWAGGER_PROTOBUF_TYPES[1])),
            None => (Some(open_api.swagger()), None),
        },
        None => (None, None),
    };
    match (document, content_type) {
        (None, _) => Ok(answer::page_not_found()),
        (Some(_), None) => Err(ApiError::not_acceptable(&[JSON])),
        (Some(document), Some(content_type)) => {
            let name = path.trim_start_matches("openapi/v3/");
            let hash = open_api.hash(name).or_else(|| custom.hash(name));
            let answer = with_etag(call, document, content_type);
            Ok(kept_by_hash(call, name, hash, answer))
        }
    }
}

const JSON: &str = "application/json";

/// The first type that the client accepts: JSON, or one of these.
fn accepted(call: &Call, others: &[&'static str]) -> Option<&'static str> {
    call.accept().split(',').find_map(|one| match one.split(';').next().unwrap_or("").trim() {
        "" | "*/*" | "application/*" | JSON => Some(JSON),
        kind => others.iter().find(|other| **other == kind).copied(),
    })
}

/// The document of a hash never changes: who asks by the hash keeps it. Who asks by an old one is
/// sent to the new one.
fn kept_by_hash(call: &Call, name: &str, hash: Option<&str>, mut answer: Answer) -> Answer {
    let asked = call.query.text("hash");
    let Some(hash) = hash.filter(|_| !asked.is_empty()) else { return answer };
    if asked != hash {
        let location = format!("/openapi/v3/{name}?hash={hash}");
        let mut answer = answer::text(StatusCode::MOVED_PERMANENTLY, "");
        if let Ok(location) = HeaderValue::from_str(&location) {
            answer.headers_mut().insert(LOCATION, location);
        }
        return answer;
    }
    let forever = HeaderValue::from_static("public, immutable");
    answer.headers_mut().insert(CACHE_CONTROL, forever);
    answer
}

/// The aggregated document, when the client prefers it.
fn aggregated<'a>(documents: &'a Discovery, call: &Call) -> Option<&'a Document> {
    let document = documents.aggregated(&call.info.path)?;
    let wanted = call.accept().split(',').next().unwrap_or("");
    let has = |part: &str| wanted.split(';').any(|one| one.trim() == part);
    let fits = has("application/json")
        && has("g=apidiscovery.k8s.io")
        && has("as=APIGroupDiscoveryList")
        && (has("v=v2"));
    fits.then_some(document)
}

fn with_etag(call: &Call, document: &Document, content_type: &'static str) -> Answer {
    let etag = HeaderValue::from_str(&document.etag).expect("a quoted hash is ASCII");
    let known = call.head.headers.get(IF_NONE_MATCH) == Some(&etag);
    let compress = document.bytes.len() >= GZIP_MIN_BYTES
        && answer::accepts_gzip(&call.head.headers)
        && !known;
    let mut answer = if known {
        answer::encoded(StatusCode::NOT_MODIFIED, Default::default(), Encoding::Json)
    } else if compress {
        answer::encoded(StatusCode::OK, document.compressed().clone(), Encoding::Json)
    } else {
        answer::encoded(StatusCode::OK, document.bytes.clone(), Encoding::Json)
    };
    if compress {
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(ETAG, etag);
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    answer
}

fn discovery(call: &Call, document: &Document) -> Result<Answer, ApiError> {
    if call.info.path.trim_end_matches('/') == "/version" {
        let accept = call.accept();
        let json = ["", "*/*", "application/json"];
        let fits = |one: &str| json.contains(&one.split(';').next().unwrap_or("").trim());
        if !accept.split(',').any(fits) {
            return Err(ApiError::not_acceptable(&["application/json"]));
        }
        let representation = call.representation(Offer::Document).unwrap_or_default();
        return reencoded(document, representation);
    }
    let representation = call.representation(Offer::Document)?;
    reencoded(document, representation)
}

fn reencoded(
    document: &Document,
    representation: super::request::negotiation::Representation,
) -> Result<Answer, ApiError> {
    if representation.encoding == Encoding::Json && !representation.pretty {
        return Ok(answer::encoded(StatusCode::OK, document.bytes.clone(), Encoding::Json));
    }
    let value: Value = serde_json::from_slice(&document.bytes)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(answer::document(StatusCode::OK, &value, representation))
}

/// All paths, for people who look around.
fn root(kube: &Kube, call: &Call) -> Result<Answer, ApiError> {
    const OTHERS: [&str; 9] = [
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ];
    let mut paths: Vec<String> = OTHERS.iter().map(|path| (*path).to_owned()).collect();
    for entry in kube.registry.catalog.all() {
        let row = &entry.resource;
        if row.group.is_empty() {
            paths.push(format!("/api/{}", row.version));
        } else {
            paths.push(format!("/apis/{}", row.group));
            paths.push(format!("/apis/{}/{}", row.group, row.version));
        }
    }
    paths.sort();
    paths.dedup();
    let representation = call.representation(Offer::Document)?;
    Ok(answer::document(StatusCode::OK, &json!({"paths": paths}), representation))
}

async fn health_report(kube: &Kube, call: &Call) -> Answer {
    let facts = health::Facts {
        stopping: kube.shutdown.is_requested(),
        bootstrapped: kube.is_bootstrapped(),
        storage_works: health::storage_works(&kube.registry).await,
    };
    match health::report(&call.info.path, &call.query, facts) {
        Some(report) => {
            let code = StatusCode::from_u16(report.code).unwrap_or(StatusCode::OK);
            answer::text(code, report.text)
        }
        None => answer::page_not_found(),
    }
}

async fn metrics_page(kube: &Kube) -> Answer {
    let disk_bytes = kube.store.disk_bytes().await;
    let mut page = metrics::render(&kube.store.status(), disk_bytes);
    page += &measures::render(KUBERNETES_VERSION);
    let mut answer = answer::text(StatusCode::OK, page);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    answer
}
