//! The options of requests (`CreateOptions`, `ListOptions`, `DeleteOptions` ...), read and checked.

use http::HeaderMap;
use serde_json::Value;

use super::field_selector::FieldSelector;
use super::label_selector::LabelSelector;
use super::query::Query;
use crate::kube::status::{ApiError, FieldError, Named, quoted};

/// The longest field manager, bytes.
const FIELD_MANAGER_BYTES: usize = 128;

fn meta_kind(kind: &str) -> Named<'_> {
    Named { group: "meta.k8s.io", kind }
}

fn check(kind: &str, errors: &[FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(meta_kind(kind), "", errors)) }
}

/// What to do about fields that the schema does not know, and fields given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    Ignore,
    /// The server's default.
    #[default]
    Warn,
    Strict,
}

/// Options of create, update and patch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// As given; see [`field_manager_or_agent`](Self::field_manager_or_agent).
    pub field_manager: String,
    pub field_validation: FieldValidation,
    pub force: bool,
}

impl WriteOptions {
    /// Reads the options of `kind` (`CreateOptions`, `UpdateOptions`).
    pub fn read(query: &Query, kind: &str) -> Result<WriteOptions, ApiError> {
        let (options, errors) = WriteOptions::read_common(query);
        check(kind, &errors)?;
        Ok(options)
    }

    /// Reads `PatchOptions`; `apply` for server-side apply.
    pub fn read_patch(query: &Query, apply: bool) -> Result<WriteOptions, ApiError> {
        let (mut options, common) = WriteOptions::read_common(query);
        let mut errors = Vec::new();
        if apply {
            options.force = query.boolean("force").unwrap_or(false);
            if options.field_manager.is_empty() {
                errors.push(FieldError::required("fieldManager", "is required for apply patch"));
            }
        } else if query.boolean("force").is_some() {
            errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        errors.extend(common);
        check("PatchOptions", &errors)?;
        Ok(options)
    }

    fn read_common(query: &Query) -> (WriteOptions, Vec<FieldError>) {
        let mut errors = Vec::new();
        let field_manager = query.text("fieldManager").to_owned();
        check_field_manager(&field_manager, &mut errors);
        let dry_run = read_dry_run(query.all("dryRun"), &mut errors);
        let field_validation = match query.text("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported("fieldValidation", other, &supported));
                FieldValidation::Warn
            }
        };
        (WriteOptions { dry_run, field_manager, field_validation, force: false }, errors)
    }

    /// The field manager, or the client program's name when it gave none.
    pub fn field_manager_or_agent(&self, headers: &HeaderMap) -> String {
        if !self.field_manager.is_empty() {
            return self.field_manager.clone();
        }
        let agent = headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
        let program = agent.unwrap_or("").split('/').next().unwrap_or("");
        let printable: String = program.chars().filter(|c| !c.is_control()).collect();
        let mut end = printable.len().min(FIELD_MANAGER_BYTES);
        while !printable.is_char_boundary(end) {
            end -= 1;
        }
        match &printable[..end] {
            "" => "unknown".to_owned(),
            name => name.to_owned(),
        }
    }
}

fn read_dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let mut values: Vec<&str> = values.collect();
    values.sort_unstable();
    values.dedup();
    if values.iter().any(|value| *value != "All") {
        let shown: Vec<Value> = values.iter().map(|value| Value::from(*value)).collect();
        errors.push(FieldError::not_supported("dryRun", shown, &["All"]));
    }
    !values.is_empty()
}

fn check_field_manager(manager: &str, errors: &mut Vec<FieldError>) {
    if manager.len() > FIELD_MANAGER_BYTES {
        errors.push(FieldError::too_long("fieldManager", FIELD_MANAGER_BYTES));
    }
    for (position, character) in manager.char_indices() {
        if character.is_control() {
            let detail =
                format!("invalid character U+{:04X} (at position {position})", character as u32);
            errors.push(FieldError::invalid("fieldManager", manager, detail));
        }
    }
}

/// How a list's `resourceVersion` is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// Options of list, watch and deletecollection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// 0 for no limit.
    pub limit: usize,
    pub continue_token: String,
    /// `None` when absent or empty.
    pub resource_version: Option<i64>,
    pub version_match: Option<VersionMatch>,
    pub timeout_seconds: Option<u64>,
    pub allow_bookmarks: bool,
    pub send_initial_events: bool,
}

impl ListOptions {
    /// Reads the options; `watch` when they are a watch's.
    pub fn read(query: &Query, watch: bool) -> Result<ListOptions, ApiError> {
        let limit = query.integer("limit")?.unwrap_or(0);
        let timeout_seconds = query.integer("timeoutSeconds")?;
        let labels = LabelSelector::parse(query.text("labelSelector"))?;
        let fields = FieldSelector::parse(query.text("fieldSelector"))?;
        let mut errors = Vec::new();
        if watch {
            check_watch(query, &mut errors);
        } else {
            check_list(query, &mut errors);
        }
        check("ListOptions", &errors)?;
        let version_match = match query.text("resourceVersionMatch") {
            "Exact" => Some(VersionMatch::Exact),
            "NotOlderThan" => Some(VersionMatch::NotOlderThan),
            _ => None,
        };
        Ok(ListOptions {
            labels,
            fields,
            limit: usize::try_from(limit).unwrap_or(0),
            continue_token: query.text("continue").to_owned(),
            resource_version: read_resource_version(query.text("resourceVersion"))?,
            version_match,
            timeout_seconds: timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok()),
            allow_bookmarks: query.boolean("allowWatchBookmarks").unwrap_or(false),
            send_initial_events: query.boolean("sendInitialEvents").unwrap_or(false),
        })
    }
}

const MATCH: &str = "resourceVersionMatch";

fn check_list(query: &Query, errors: &mut Vec<FieldError>) {
    let version_match = query.text(MATCH);
    if !version_match.is_empty() {
        if query.text("resourceVersion").is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(MATCH, why));
        }
        if !query.text("continue").is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(MATCH, why));
        }
        if !["Exact", "NotOlderThan"].contains(&version_match) {
            let supported = ["Exact", "NotOlderThan", ""];
            errors.push(FieldError::not_supported(MATCH, version_match, &supported));
        }
        if version_match == "Exact" && query.text("resourceVersion") == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(MATCH, why));
        }
    }
    if query.boolean("sendInitialEvents").is_some() {
        let why = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden("sendInitialEvents", why));
    }
}

fn check_watch(query: &Query, errors: &mut Vec<FieldError>) {
    let version_match = query.text(MATCH);
    let initial_events = query.boolean("sendInitialEvents").is_some();
    if initial_events && version_match != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(MATCH, why));
    }
    if version_match.is_empty() {
        return;
    }
    if !initial_events {
        let why =
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.push(FieldError::forbidden(MATCH, why));
    }
    if version_match != "NotOlderThan" {
        errors.push(FieldError::not_supported(MATCH, version_match, &["NotOlderThan"]));
    }
    if !query.text("continue").is_empty() {
        let why = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(FieldError::forbidden(MATCH, why));
    }
}

/// A `resourceVersion` parameter; `None` when it is empty.
pub fn read_resource_version(text: &str) -> Result<Option<i64>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    match parse_version(text) {
        Some(version) => Ok(Some(version)),
        None => Err(ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {}: strconv.ParseUint: parsing {}: invalid syntax",
            quoted(text),
            quoted(text)
        ))),
    }
}

/// A resource version is digits alone.
pub fn parse_version(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// What becomes of an object's dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// Options of delete and deletecollection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
    pub dry_run: bool,
}

const PROPAGATION: &str = "propagationPolicy";

impl DeleteOptions {
    /// Reads the options from the query: the road taken when the body is empty.
    pub fn from_query(query: &Query) -> Result<DeleteOptions, ApiError> {
        let mut errors = Vec::new();
        let propagation = query.get(PROPAGATION);
        let orphan = query.boolean("orphanDependents");
        let options = DeleteOptions {
            grace_period_seconds: query.integer("gracePeriodSeconds")?,
            uid: None,
            resource_version: None,
            propagation: read_propagation(propagation, orphan, &mut errors),
            dry_run: read_dry_run(query.all("dryRun"), &mut errors),
        };
        check("DeleteOptions", &errors)?;
        Ok(options)
    }

    /// Reads the options from a decoded body.
    pub fn from_body(body: &Value) -> Result<DeleteOptions, ApiError> {
        if let Some(kind) = body.get("kind").and_then(Value::as_str)
            && kind != "DeleteOptions"
        {
            let version = body.get("apiVersion").and_then(Value::as_str).unwrap_or("");
            return Err(ApiError::bad_request(format!(
                "no kind \"{kind}\" is registered for version \"{version}\" in scheme \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\""
            )));
        }
        let mut errors = Vec::new();
        let dry_run = body.get("dryRun").and_then(Value::as_array);
        let dry_run = dry_run.into_iter().flatten().filter_map(Value::as_str);
        let preconditions = body.get("preconditions").unwrap_or(&Value::Null);
        let uid = text_field(preconditions, "Preconditions.preconditions", "uid", "types.UID")?;
        let resource_version =
            text_field(preconditions, "Preconditions.preconditions", "resourceVersion", "string")?;
        let propagation = text_field(body, "DeleteOptions", PROPAGATION, "v1.DeletionPropagation")?;
        let options = DeleteOptions {
            grace_period_seconds: integer_field(body, "gracePeriodSeconds")?,
            uid,
            resource_version,
            propagation: read_propagation(
                propagation.as_deref(),
                body.get("orphanDependents").and_then(Value::as_bool),
                &mut errors,
            ),
            dry_run: read_dry_run(dry_run, &mut errors),
        };
        check("DeleteOptions", &errors)?;
        Ok(options)
    }
}

fn read_propagation(
    policy: Option<&str>,
    orphan_dependents: Option<bool>,
    errors: &mut Vec<FieldError>,
) -> Option<Propagation> {
    if let (Some(policy), Some(_)) = (policy, orphan_dependents) {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(FieldError::invalid(PROPAGATION, policy, why));
    }
    match (policy, orphan_dependents) {
        (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
        (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
        (Some("Foreground"), _) => Some(Propagation::Foreground),
        (Some(other), _) => {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            errors.push(FieldError::not_supported(PROPAGATION, other, &supported));
            None
        }
        (None, None) => None,
    }
}

fn type_error(value: &Value, path: &str, go_type: &str) -> ApiError {
    let found = match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Null => "null",
    };
    ApiError::bad_request(format!(
        "json: cannot unmarshal {found} into Go struct field {path} of type {go_type}"
    ))
}

fn text_field(
    object: &Value,
    owner: &str,
    name: &str,
    go_type: &str,
) -> Result<Option<String>, ApiError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(type_error(other, &format!("{owner}.{name}"), go_type)),
    }
}

fn integer_field(object: &Value, name: &str) -> Result<Option<i64>, ApiError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_i64() {
            Some(number) => Ok(Some(number)),
            None => Err(type_error(value, &format!("DeleteOptions.{name}"), "int64")),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
        result.unwrap_err().status().message.clone()
    }

    #[test]
    fn write_options_are_checked() {
        for (query, expected) in [
            (
                "dryRun=Some",
                "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
            ),
            (
                "fieldValidation=Maybe",
                "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Maybe\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
            ),
            (
                "fieldManager=a%01b",
                "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\x01b\": invalid character U+0001 (at position 1)",
            ),
        ] {
            let result = WriteOptions::read(&Query::parse(query), "CreateOptions");
            assert_eq!(message(result), expected);
        }
        let twice = WriteOptions::read(&Query::parse("dryRun=All&dryRun=All"), "CreateOptions");
        assert!(twice.unwrap().dry_run);
    }

    #[test]
    fn patch_options_know_apply() {
        let none = Query::default();
        assert!(
            message(WriteOptions::read_patch(&none, true)).ends_with("is required for apply patch")
        );
        let force = Query::parse("force=true");
        assert!(message(WriteOptions::read_patch(&force, false)).contains("force: Forbidden"));
        assert!(
            WriteOptions::read_patch(&Query::parse("fieldManager=m&force=x"), true).unwrap().force
        );
    }

    #[test]
    fn the_manager_defaults_to_the_program() {
        let mut headers = HeaderMap::new();
        let options = WriteOptions::default();
        assert_eq!(options.field_manager_or_agent(&headers), "unknown");
        headers.insert("user-agent", "kubectl/v1.32 (linux/amd64)".parse().unwrap());
        assert_eq!(options.field_manager_or_agent(&headers), "kubectl");
    }

    #[test]
    fn list_options_are_checked() {
        for (query, watch, expected) in [
            (
                "resourceVersionMatch=Exact",
                false,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            ("sendInitialEvents=true", false, "sendInitialEvents is forbidden for list"),
            (
                "sendInitialEvents=true",
                true,
                "requires setting resourceVersionMatch to NotOlderThan",
            ),
            ("resourceVersion=-1", false, "strconv.ParseUint: parsing \"-1\": invalid syntax"),
        ] {
            let text = message(ListOptions::read(&Query::parse(query), watch));
            assert!(text.ends_with(expected), "{text}");
        }
        assert_eq!(ListOptions::read(&Query::parse("limit=-1"), false).unwrap().limit, 0);
    }

    #[test]
    fn delete_options() {
        let options = DeleteOptions::from_body(
            &json!({"propagationPolicy": "Foreground", "gracePeriodSeconds": 5}),
        )
        .unwrap();
        assert_eq!(options.propagation, Some(Propagation::Foreground));
        assert_eq!(options.grace_period_seconds, Some(5));
        for (body, expected) in [
            (
                json!({"propagationPolicy": "Sideways"}),
                "supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
            ),
            (
                json!({"orphanDependents": true, "propagationPolicy": "Orphan"}),
                "cannot be both set",
            ),
            (
                json!({"preconditions": {"uid": 5}}),
                "json: cannot unmarshal number into Go struct field Preconditions.preconditions.uid of type types.UID",
            ),
        ] {
            let text = message(DeleteOptions::from_body(&body));
            assert!(text.ends_with(expected), "{text}");
        }
    }
}
