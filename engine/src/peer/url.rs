//! Where a member can be reached.

use std::fmt;
use std::str::FromStr;

/// A peer URL: `http` or `https`, a host, a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerUrl {
    pub tls: bool,
    /// A name or an address; an IPv6 one without brackets.
    pub host: String,
    pub port: u16,
}

/// A peer URL that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "peer URL {0:?}: must be http:// or https://, a host and a port, as in http://10.0.0.1:2380"
)]
pub struct UrlError(String);

impl FromStr for PeerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<PeerUrl, UrlError> {
        parse(text).ok_or_else(|| UrlError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<PeerUrl> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = rest.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').filter(|address| address.contains(':'))?,
        None => host,
    };
    let bare = !rest.starts_with('[');
    let bad =
        |byte: char| matches!(byte, '/' | '?' | '#' | '@' | '[' | ']') || byte.is_whitespace();
    if host.is_empty() || host.contains(bad) || (bare && host.contains(':')) {
        return None;
    }
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some(PeerUrl { tls, host: host.to_owned(), port })
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(formatter, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(formatter, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, expected) in [
            ("http://10.0.0.1:2380", Some("http://10.0.0.1:2380")),
            ("https://node-1.example:2380/", Some("https://node-1.example:2380")),
            ("http://[::1]:2380", Some("http://[::1]:2380")),
            ("http://localhost:1", Some("http://localhost:1")),
            ("http://::1:2380", None),
            ("http://[10.0.0.1]:2380", None),
            ("http://10.0.0.1", None),
            ("http://10.0.0.1:0", None),
            ("http://10.0.0.1:65536", None),
            ("http://:2380", None),
            ("http://a/b:2380", None),
            ("http://user@a:2380", None),
            ("unix:///a", None),
            ("10.0.0.1:2380", None),
            ("", None),
        ] {
            let parsed = text.parse::<PeerUrl>().ok().map(|url| url.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
        let refused = "nonsense".parse::<PeerUrl>().expect_err("no URL").to_string();
        assert!(refused.contains("nonsense") && refused.contains("http://10.0.0.1:2380"));
    }
}
