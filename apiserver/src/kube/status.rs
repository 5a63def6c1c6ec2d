//! Errors as Kubernetes clients know them: the `Status` object and its texts.

use http::StatusCode;
use serde_json::{Map, Value, json};

/// Why a request failed, ready to be sent. Boxed: it travels through every `Result`.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError(Box<Status>);

/// The parts of a `Status` that tell failures apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    pub code: u16,
    /// Empty when the recorded server gives none.
    pub reason: &'static str,
    pub message: String,
    /// `None` leaves `details` out, which clients can tell from an empty one.
    pub details: Option<Map<String, Value>>,
    /// Also sent as the `Retry-After` header.
    pub retry_after_seconds: Option<u32>,
    /// `metadata.continue`: how to go on with a list whose token expired.
    pub continue_token: Option<String>,
}

/// The group and plural of a resource, as error texts name it.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    pub group: &'a str,
    /// A plural resource, or a kind.
    pub kind: &'a str,
}

impl Named<'_> {
    /// `pods`, or `deployments.apps`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.kind.to_owned()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }

    fn details(&self, name: &str) -> Map<String, Value> {
        let mut details = Map::new();
        for (key, value) in [("name", name), ("group", self.group), ("kind", self.kind)] {
            if !value.is_empty() {
                details.insert(key.to_owned(), value.into());
            }
        }
        details
    }
}

impl ApiError {
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> ApiError {
        ApiError(Box::new(Status {
            code: code.as_u16(),
            reason,
            message: message.into(),
            ..Status::default()
        }))
    }

    pub fn status(&self) -> &Status {
        &self.0
    }

    pub fn code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The same failure with these details.
    pub fn with_details(mut self, details: Map<String, Value>) -> ApiError {
        self.0.details = Some(details);
        self
    }

    /// The same failure with a token that goes on.
    pub fn with_continue(mut self, token: String) -> ApiError {
        self.0.continue_token = Some(token);
        self
    }

    fn with_empty_details(self) -> ApiError {
        self.with_details(Map::new())
    }

    /// The same failure, its message put behind `prefix` and a colon.
    pub fn prefixed(mut self, prefix: &str) -> ApiError {
        self.0.message = format!("{prefix}: {}", self.0.message);
        self
    }

    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// An error without a reason of its own: the server's fault, or treated as such.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
    }

    pub fn not_found(resource: Named<'_>, name: &str) -> ApiError {
        let message = format!("{} \"{name}\" not found", resource.qualified());
        ApiError::new(StatusCode::NOT_FOUND, "NotFound", message)
            .with_details(resource.details(name))
    }

    /// A path below a known group that leads nowhere.
    pub fn no_such_path() -> ApiError {
        let message = "the server could not find the requested resource";
        ApiError::new(StatusCode::NOT_FOUND, "NotFound", message).with_empty_details()
    }

    pub fn already_exists(resource: Named<'_>, name: &str) -> ApiError {
        let message = format!("{} \"{name}\" already exists", resource.qualified());
        ApiError::new(StatusCode::CONFLICT, "AlreadyExists", message)
            .with_details(resource.details(name))
    }

    /// The object's resourceVersion is not the one the client saw.
    pub fn modified(resource: Named<'_>, name: &str) -> ApiError {
        ApiError::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn conflict(resource: Named<'_>, name: &str, why: &str) -> ApiError {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified());
        ApiError::new(StatusCode::CONFLICT, "Conflict", message)
            .with_details(resource.details(name))
    }

    /// Forbidden by admission or by a rule of the resource.
    pub fn forbidden(resource: Named<'_>, name: &str, why: &str) -> ApiError {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", resource.qualified())
        } else {
            format!("{} \"{name}\" is forbidden: {why}", resource.qualified())
        };
        ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message)
            .with_details(resource.details(name))
    }

    /// Forbidden by authorization on a path that is no resource.
    pub fn forbidden_path(message: String) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message).with_empty_details()
    }

    pub fn unauthorized() -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub fn method_not_allowed() -> ApiError {
        let message = "the server does not allow this method on the requested resource";
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
            .with_empty_details()
    }

    /// No representation that the client accepts; `offered` are those there would be.
    pub fn not_acceptable(offered: &[&str]) -> ApiError {
        let message =
            format!("406: Not Acceptable\n\nAvailable representations: {}", offered.join(", "));
        ApiError::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message).with_empty_details()
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> ApiError {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub fn too_large(limit_bytes: usize) -> ApiError {
        let message = format!("Request entity too large: limit is {limit_bytes}");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// History that was compacted away.
    pub fn expired(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::GONE, "Expired", message)
    }

    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> ApiError {
        let mut error = ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            format!("Timeout: {}", message.into()),
        );
        error.0.retry_after_seconds = Some(retry_after_seconds);
        let mut details = Map::new();
        details.insert("retryAfterSeconds".to_owned(), retry_after_seconds.into());
        error.with_details(details)
    }

    /// A revision that the store has not reached and does not reach soon.
    pub fn too_large_version(requested: i64, current: i64) -> ApiError {
        let message = format!("Too large resource version: {requested}, current: {current}");
        let mut error = ApiError::timeout(message, 1);
        let causes = json!([{
            "reason": "ResourceVersionTooLarge", "message": "Too large resource version",
        }]);
        let details = error.0.details.get_or_insert_default();
        details.insert("causes".to_owned(), causes);
        error
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> ApiError {
        let mut error =
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message.into());
        error.0.retry_after_seconds = Some(retry_after_seconds);
        let mut details = Map::new();
        details.insert("retryAfterSeconds".to_owned(), retry_after_seconds.into());
        error.with_details(details)
    }

    /// An object (or options) that breaks rules; `errors` must not be empty.
    pub fn invalid(kind: Named<'_>, name: &str, errors: &[FieldError]) -> ApiError {
        assert!(!errors.is_empty(), "an invalid object has a reason");
        let mut texts: Vec<String> = Vec::new();
        for error in errors {
            let text = format!("{}: {}", error.field, error.message());
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let joined =
            if texts.len() == 1 { texts.concat() } else { format!("[{}]", texts.join(", ")) };
        let message = format!("{} \"{name}\" is invalid: {joined}", kind.qualified());
        let mut details = kind.details(name);
        let causes: Vec<Value> = errors.iter().map(FieldError::cause).collect();
        details.insert("causes".to_owned(), causes.into());
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).with_details(details)
    }

    /// The `Status` object.
    pub fn to_value(&self) -> Value {
        let mut status = Map::new();
        status.insert("kind".to_owned(), "Status".into());
        status.insert("apiVersion".to_owned(), "v1".into());
        let metadata = match &self.0.continue_token {
            Some(token) => json!({"continue": token}),
            None => json!({}),
        };
        status.insert("metadata".to_owned(), metadata);
        status.insert("status".to_owned(), "Failure".into());
        status.insert("message".to_owned(), self.0.message.as_str().into());
        if !self.0.reason.is_empty() {
            status.insert("reason".to_owned(), self.0.reason.into());
        }
        if let Some(details) = &self.0.details {
            status.insert("details".to_owned(), details.clone().into());
        }
        status.insert("code".to_owned(), self.0.code.into());
        status.into()
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

/// What kind of rule a field breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    Required,
    Invalid,
    NotSupported,
    Forbidden,
    Duplicate,
    NotFound,
    TooLong,
    TooMany,
    TypeInvalid,
}

/// One broken rule of one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    kind: FieldErrorKind,
    /// `spec.ports[0].port`
    pub field: String,
    /// Everything behind the kind's own words.
    detail: String,
}

impl FieldError {
    pub fn required(field: impl Into<String>, detail: &str) -> FieldError {
        FieldError::build(FieldErrorKind::Required, field, detail.to_owned())
    }

    /// `value` is shown as JSON.
    pub fn invalid(
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl std::fmt::Display,
    ) -> FieldError {
        let text = shown(&value.into());
        FieldError::build(FieldErrorKind::Invalid, field, format!("{text}: {detail}"))
    }

    /// Like [`invalid`](Self::invalid) with a value that is shown as it is.
    pub fn invalid_raw(
        field: impl Into<String>,
        shown: &str,
        detail: impl std::fmt::Display,
    ) -> FieldError {
        FieldError::build(FieldErrorKind::Invalid, field, format!("{shown}: {detail}"))
    }

    pub fn not_supported(
        field: impl Into<String>,
        value: impl Into<Value>,
        supported: &[&str],
    ) -> FieldError {
        let quoted: Vec<String> = supported.iter().map(|one| format!("\"{one}\"")).collect();
        let text = shown(&value.into());
        FieldError::build(
            FieldErrorKind::NotSupported,
            field,
            format!("{text}: supported values: {}", quoted.join(", ")),
        )
    }

    pub fn forbidden(field: impl Into<String>, detail: impl std::fmt::Display) -> FieldError {
        FieldError::build(FieldErrorKind::Forbidden, field, detail.to_string())
    }

    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
        FieldError::build(FieldErrorKind::Duplicate, field, shown(&value.into()))
    }

    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
        FieldError::build(FieldErrorKind::NotFound, field, shown(&value.into()))
    }

    /// Like [`not_found`](Self::not_found), with where it should be.
    pub fn not_found_because(
        field: impl Into<String>,
        value: impl Into<Value>,
        why: &str,
    ) -> FieldError {
        let text = format!("{}: {why}", shown(&value.into()));
        FieldError::build(FieldErrorKind::NotFound, field, text)
    }

    /// A rule is broken by something that is better not shown.
    pub fn invalid_unshown(field: impl Into<String>, why: impl std::fmt::Display) -> FieldError {
        FieldError::build(FieldErrorKind::Invalid, field, why.to_string())
    }

    /// Like [`not_supported`](Self::not_supported) with a value that is shown as it is.
    pub fn not_supported_raw(
        field: impl Into<String>,
        shown: &str,
        supported: &[&str],
    ) -> FieldError {
        let quoted: Vec<String> = supported.iter().map(|one| format!("\"{one}\"")).collect();
        let text = format!("{shown}: supported values: {}", quoted.join(", "));
        FieldError::build(FieldErrorKind::NotSupported, field, text)
    }

    /// Something told twice, shown as it is; `why` may be empty.
    pub fn duplicate_raw(field: impl Into<String>, shown: &str, why: &str) -> FieldError {
        let text = if why.is_empty() { shown.to_owned() } else { format!("{shown}: {why}") };
        FieldError::build(FieldErrorKind::Duplicate, field, text)
    }

    /// A value of a wrong type; `found` is that type.
    pub fn type_invalid(
        field: impl Into<String>,
        found: &str,
        detail: impl std::fmt::Display,
    ) -> FieldError {
        let text = format!("{}: {detail}", quoted(found));
        FieldError::build(FieldErrorKind::TypeInvalid, field, text)
    }

    /// A list or map of `count` elements where at most `limit` may be.
    pub fn too_many(field: impl Into<String>, count: usize, limit: usize) -> FieldError {
        let items = if limit == 1 { "item" } else { "items" };
        let text = format!("{count}: must have at most {limit} {items}");
        FieldError::build(FieldErrorKind::TooMany, field, text)
    }

    pub fn too_long(field: impl Into<String>, limit_bytes: usize) -> FieldError {
        let detail = format!("may not be more than {limit_bytes} bytes");
        FieldError::build(FieldErrorKind::TooLong, field, detail)
    }

    fn build(kind: FieldErrorKind, field: impl Into<String>, detail: String) -> FieldError {
        FieldError { kind, field: field.into(), detail }
    }

    /// The text without the field's name.
    pub fn message(&self) -> String {
        let words = match self.kind {
            FieldErrorKind::Required => "Required value",
            FieldErrorKind::Invalid | FieldErrorKind::TypeInvalid => "Invalid value",
            FieldErrorKind::NotSupported => "Unsupported value",
            FieldErrorKind::Forbidden => "Forbidden",
            FieldErrorKind::Duplicate => "Duplicate value",
            FieldErrorKind::NotFound => "Not found",
            FieldErrorKind::TooLong => "Too long",
            FieldErrorKind::TooMany => "Too many",
        };
        if self.detail.is_empty() { words.to_owned() } else { format!("{words}: {}", self.detail) }
    }

    fn cause(&self) -> Value {
        let reason = match self.kind {
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::NotFound => "FieldValueNotFound",
            FieldErrorKind::TooLong => "FieldValueTooLong",
            FieldErrorKind::TooMany => "FieldValueTooMany",
            FieldErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        };
        json!({"reason": reason, "message": self.message(), "field": self.field})
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A string between double quotes, with control characters written as escapes.
pub fn quoted(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 2);
    result.push('"');
    for character in text.chars() {
        match character {
            '"' => result.push_str("\\\""),
            '\\' => result.push_str("\\\\"),
            '\n' => result.push_str("\\n"),
            '\r' => result.push_str("\\r"),
            '\t' => result.push_str("\\t"),
            control if control.is_control() && (control as u32) < 0x100 => {
                result.push_str(&format!("\\x{:02x}", control as u32));
            }
            other => result.push(other),
        }
    }
    result.push('"');
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG_MAP: Named<'_> = Named { group: "", kind: "ConfigMap" };

    #[test]
    fn one_broken_rule_is_not_a_list() {
        let errors = [FieldError::required("metadata.name", "name or generateName is required")];
        let error = ApiError::invalid(CONFIG_MAP, "", &errors);
        assert_eq!(
            error.status().message,
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
        );
        assert_eq!(error.to_value()["details"]["causes"][0]["reason"], "FieldValueRequired");
        assert!(error.to_value()["details"].get("name").is_none());
    }

    #[test]
    fn repeated_texts_are_said_once_but_counted_as_causes() {
        let one = FieldError::invalid("metadata.uid", "u", "field is immutable");
        let error = ApiError::invalid(CONFIG_MAP, "x", &[one.clone(), one]);
        assert_eq!(
            error.status().message,
            "ConfigMap \"x\" is invalid: metadata.uid: Invalid value: \"u\": field is immutable"
        );
        assert_eq!(error.to_value()["details"]["causes"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn groups_are_part_of_the_name() {
        let error = ApiError::not_found(Named { group: "apps", kind: "deployments" }, "d");
        assert_eq!(error.status().message, "deployments.apps \"d\" not found");
        assert_eq!(
            error.to_value()["details"],
            json!({"name": "d", "group": "apps", "kind": "deployments"})
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(quoted("a\u{1}b\"\n"), "\"a\\x01b\\\"\\n\"");
    }
}
