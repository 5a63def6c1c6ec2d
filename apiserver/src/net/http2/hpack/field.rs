//! Header fields, checked once, when they enter the table, and cheap to repeat.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::method::Method;
use http::uri::PathAndQuery;

/// The name of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Header(HeaderName),
    /// Not one that a request may have: an unknown pseudo-header field, an upper-case letter, ...
    Unknown,
}

/// A field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    Method(Method),
    Scheme,
    /// Any visible ASCII: gRPC clients put there whatever they were told to dial.
    Authority(HeaderValue),
    Path(PathAndQuery),
    Protocol,
    Header(HeaderName, HeaderValue),
    /// Makes the whole request malformed, and says so only once the block is decoded.
    Malformed(Name),
}

impl Name {
    pub(super) fn parse(bytes: &[u8]) -> Name {
        match bytes {
            b":method" => Name::Method,
            b":scheme" => Name::Scheme,
            b":authority" => Name::Authority,
            b":path" => Name::Path,
            b":protocol" => Name::Protocol,
            _ => HeaderName::from_lowercase(bytes).map_or(Name::Unknown, Name::Header),
        }
    }

    pub(super) fn with_value(self, value: &[u8]) -> Field {
        let field = match &self {
            Name::Method => Method::from_bytes(value).ok().map(Field::Method),
            Name::Scheme => is_visible(value).then_some(Field::Scheme),
            Name::Authority => HeaderValue::from_bytes(value)
                .ok()
                .filter(|_| value.is_empty() || is_visible(value))
                .map(Field::Authority),
            Name::Path => path(value).map(Field::Path),
            Name::Protocol => is_visible(value).then_some(Field::Protocol),
            Name::Header(name) => {
                HeaderValue::from_bytes(value).ok().map(|value| Field::Header(name.clone(), value))
            }
            Name::Unknown => None,
        };
        field.unwrap_or(Field::Malformed(self))
    }
}

impl Field {
    pub(super) fn name(&self) -> Name {
        match self {
            Field::Method(_) => Name::Method,
            Field::Scheme => Name::Scheme,
            Field::Authority(_) => Name::Authority,
            Field::Path(_) => Name::Path,
            Field::Protocol => Name::Protocol,
            Field::Header(name, _) => Name::Header(name.clone()),
            Field::Malformed(name) => name.clone(),
        }
    }
}

fn is_visible(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_graphic)
}

/// A path begins with a slash; `*` stands for the server as a whole.
fn path(value: &[u8]) -> Option<PathAndQuery> {
    if value.first() != Some(&b'/') && value != b"*" {
        return None;
    }
    PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(value)).ok()
}
