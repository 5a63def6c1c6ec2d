//! The fields that every table begins with (RFC 7541, appendix A).

use std::sync::LazyLock;

use super::{Field, Name};

/// Entries; the dynamic table's first index is one more.
pub(super) const LENGTH: usize = 61;

const TEXT: [(&str, &str); LENGTH] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The field at an index from 1, with its size for the limit on header lists.
pub(super) fn get(index: usize) -> Option<(&'static Field, usize)> {
    static FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
        TEXT.iter()
            .map(|(name, value)| Name::parse(name.as_bytes()).with_value(value.as_bytes()))
            .collect()
    });
    let at = index.checked_sub(1)?;
    let (name, value) = TEXT.get(at)?;
    Some((FIELDS.get(at)?, name.len() + value.len() + super::decoder::ENTRY_OVERHEAD))
}

/// The index of a status in full, if it has one.
pub(super) fn status(status: u16) -> Option<usize> {
    Some(match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => return None,
    })
}

/// The index of `:status`.
pub(super) const STATUS: usize = 8;

/// The index of a name that answers have.
pub(super) fn name(name: &str) -> Option<usize> {
    Some(match name {
        "content-type" => 31,
        "content-length" => 28,
        "date" => 33,
        "cache-control" => 24,
        "allow" => 22,
        "content-encoding" => 26,
        "etag" => 34,
        "expires" => 36,
        "last-modified" => 44,
        "location" => 46,
        "retry-after" => 53,
        "server" => 54,
        "vary" => 59,
        "www-authenticate" => 61,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_name_what_they_should() {
        for (index, (text, value)) in TEXT.iter().enumerate() {
            if let Some(found) = name(text) {
                assert_eq!(found, index + 1, "{text}");
            }
            if *text == ":status" {
                assert_eq!(status(value.parse().expect("a number")), Some(index + 1));
            }
        }
        assert_eq!(TEXT[STATUS - 1].0, ":status");
        assert!(get(0).is_none() && get(LENGTH).is_some() && get(LENGTH + 1).is_none());
    }
}
