//! URLs to listen on.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    /// A socket's file.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(formatter),
            ListenAddress::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// A URL to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenUrl {
    pub tls: bool,
    pub address: ListenAddress,
}

impl ListenUrl {
    /// The TCP address, unless it is a Unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self.address {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Unix(_) => None,
        }
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.address, self.tls) {
            (ListenAddress::Tcp(_), false) => "http",
            (ListenAddress::Tcp(_), true) => "https",
            (ListenAddress::Unix(_), false) => "unix",
            (ListenAddress::Unix(_), true) => "unixs",
        };
        write!(formatter, "{scheme}://{}", self.address)
    }
}

/// `http` or `https`, an address (or `localhost`), a port; or `unix` or `unixs` and a path, whose
/// part of the URL may be relative: what etcd takes.
pub(super) fn parse_url(text: &str) -> Result<ListenUrl, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let tls = matches!(scheme, "https" | "unixs");
    match scheme {
        "http" | "https" => {
            Ok(ListenUrl { tls, address: ListenAddress::Tcp(parse_address(rest)?) })
        }
        "unix" | "unixs" if rest.is_empty() || rest.ends_with('/') => {
            Err("must name a file, as in unix:///run/mainstay.sock".to_owned())
        }
        "unix" | "unixs" => Ok(ListenUrl { tls, address: ListenAddress::Unix(rest.into()) }),
        _ => Err("must begin with http://, https://, unix:// or unixs://".to_owned()),
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    text.parse().map_err(|_| {
        "must name an IP address and a port to bind, as in http://127.0.0.1:2379".to_owned()
    })
}

/// Permissions of a file, as chmod has them.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        _ => Err("must be permissions as octal digits, as in 0660".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_urls() {
        for (text, expected) in [
            ("http://127.0.0.1:2379", Some("http://127.0.0.1:2379")),
            ("https://0.0.0.0:1/", Some("https://0.0.0.0:1")),
            ("http://localhost:5", Some("http://127.0.0.1:5")),
            ("http://[::1]:5", Some("http://[::1]:5")),
            ("unix:///run/a.sock", Some("unix:///run/a.sock")),
            ("unixs://a.sock:1", Some("unixs://a.sock:1")),
            ("http://127.0.0.1", None),
            ("http://127.0.0.1:5/path", None),
            ("unix://", None),
            ("unix:///run/", None),
            ("127.0.0.1:5", None),
            ("ftp://127.0.0.1:5", None),
        ] {
            let parsed = parse_url(text).ok().map(|url| url.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn modes() {
        for (text, expected) in
            [("0600", Some(0o600)), ("660", Some(0o660)), ("8", None), ("1777", None), ("", None)]
        {
            assert_eq!(parse_mode(text).ok(), expected, "{text}");
        }
    }
}
