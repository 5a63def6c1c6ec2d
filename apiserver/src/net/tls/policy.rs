//! Versions of TLS and cipher suites, by the names that etcd and kube-apiserver give them.

use std::str::FromStr;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};

use super::TlsError;

/// The versions that there are; older ones are broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Tls12,
    Tls13,
}

impl FromStr for Version {
    type Err = String;

    /// etcd's names and kube-apiserver's.
    fn from_str(text: &str) -> Result<Version, String> {
        match text {
            "TLS1.2" | "VersionTLS12" => Ok(Version::Tls12),
            "TLS1.3" | "VersionTLS13" => Ok(Version::Tls13),
            "TLS1.0" | "TLS1.1" | "VersionTLS10" | "VersionTLS11" => {
                Err("is not served any more: it is TLS1.2 or TLS1.3".to_owned())
            }
            _ => Err("must be TLS1.2 or TLS1.3".to_owned()),
        }
    }
}

/// A cipher suite by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CipherName(CipherSuite);

impl FromStr for CipherName {
    type Err = String;

    fn from_str(text: &str) -> Result<CipherName, String> {
        // Go's older names for two of them.
        let wanted = match text.strip_suffix("_WITH_CHACHA20_POLY1305") {
            Some(exchange) => format!("{exchange}_WITH_CHACHA20_POLY1305_SHA256"),
            None => text.to_owned(),
        };
        let all = aws_lc_rs::ALL_CIPHER_SUITES.iter();
        let found = all.clone().find(|suite| name(suite) == wanted);
        found.map(|suite| CipherName(suite.suite())).ok_or_else(|| {
            let names: Vec<String> = all.filter(|suite| is_older(suite)).map(name).collect();
            format!("is not served; there are {}", names.join(", "))
        })
    }
}

/// The registered name; rustls marks those of TLS 1.3.
fn name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

/// Of TLS 1.2.
fn is_older(suite: &SupportedCipherSuite) -> bool {
    suite.tls13().is_none()
}

/// What may be negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPolicy {
    pub least: Version,
    pub most: Version,
    /// For TLS 1.2; all that there are when it is empty. As in Go, those of TLS 1.3 are not chosen.
    pub suites: Vec<CipherName>,
}

impl Default for TlsPolicy {
    fn default() -> TlsPolicy {
        TlsPolicy { least: Version::Tls12, most: Version::Tls13, suites: Vec::new() }
    }
}

impl TlsPolicy {
    pub(in crate::net) fn versions(
        &self,
    ) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
        use rustls::version::{TLS12, TLS13};
        match (self.least, self.most) {
            (Version::Tls13, Version::Tls12) => Err(TlsError::NoVersion),
            (Version::Tls13, _) if !self.suites.is_empty() => Err(TlsError::CiphersOfTls13),
            (Version::Tls12, Version::Tls12) => Ok(vec![&TLS12]),
            (Version::Tls12, Version::Tls13) => Ok(vec![&TLS13, &TLS12]),
            (Version::Tls13, Version::Tls13) => Ok(vec![&TLS13]),
        }
    }

    pub(in crate::net) fn provider(&self) -> CryptoProvider {
        let mut provider = aws_lc_rs::default_provider();
        if !self.suites.is_empty() {
            let chosen = |suite: &SupportedCipherSuite| {
                !is_older(suite) || self.suites.contains(&CipherName(suite.suite()))
            };
            provider.cipher_suites.retain(chosen);
        }
        provider
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_two_names() {
        for (text, expected) in [
            ("TLS1.2", Some(Version::Tls12)),
            ("VersionTLS13", Some(Version::Tls13)),
            ("TLS1.1", None),
            ("1.2", None),
        ] {
            assert_eq!(text.parse::<Version>().ok(), expected, "{text}");
        }
    }

    #[test]
    fn suites_are_chosen_by_name() {
        let names = |suites: &[&str]| -> Vec<String> {
            let suites = suites.iter().map(|name| name.parse().expect("a name")).collect();
            let provider = TlsPolicy { suites, ..TlsPolicy::default() }.provider();
            provider.cipher_suites.iter().map(name).collect()
        };
        let newer = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"];
        let all = names(&[]);
        assert!(all.len() > 5 && newer.iter().all(|name| all.iter().any(|found| found == name)));
        let chosen = names(&[
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        ]);
        assert_eq!(chosen.iter().filter(|name| name.contains("ECDHE")).count(), 2, "{chosen:?}");
        assert!(newer.iter().all(|name| chosen.iter().any(|found| found == name)));
        let refused = "TLS_RSA_WITH_AES_128_CBC_SHA".parse::<CipherName>().expect_err("too old");
        assert!(refused.contains("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), "{refused}");
    }

    #[test]
    fn contradictions_are_refused() {
        let suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".parse().expect("a name");
        for (least, most, suites, expected) in [
            (Version::Tls12, Version::Tls13, vec![suite], Some(2)),
            (Version::Tls13, Version::Tls13, vec![], Some(1)),
            (Version::Tls12, Version::Tls12, vec![suite], Some(1)),
            (Version::Tls13, Version::Tls12, vec![], None),
            (Version::Tls13, Version::Tls13, vec![suite], None),
        ] {
            let policy = TlsPolicy { least, most, suites };
            assert_eq!(
                policy.versions().ok().map(|versions| versions.len()),
                expected,
                "{policy:?}"
            );
        }
    }
}
