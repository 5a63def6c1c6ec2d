//! Which names a client's certificate may have, beside being vouched for.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The common name of a certificate's subject. The last one where there are several, as in Go: who is
/// let in by a name has to be the one of that name.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().last()?;
    name.as_str().ok().map(str::to_owned)
}

/// Names of which a client's certificate must have one. Empty: any name will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedNames {
    /// Common names, letter by letter.
    pub common_names: Vec<String>,
    /// DNS names (a certificate may have `*.` before one) and addresses among its alternative names.
    pub host_names: Vec<String>,
}

impl AllowedNames {
    pub fn is_empty(&self) -> bool {
        self.common_names.is_empty() && self.host_names.is_empty()
    }

    fn allow(&self, certificate: &CertificateDer<'_>) -> bool {
        self.allow_common_name(certificate) || self.allow_host_name(certificate)
    }

    fn allow_common_name(&self, certificate: &CertificateDer<'_>) -> bool {
        let name = common_name(certificate);
        name.is_some_and(|name| self.common_names.contains(&name))
    }

    fn allow_host_name(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok(certificate) = ParsedCertificate::try_from(certificate) else { return false };
        self.host_names.iter().any(|allowed| {
            ServerName::try_from(allowed.as_str())
                .is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
        })
    }
}

/// Asks another verifier first, then for the name.
#[derive(Debug)]
pub(super) struct NameVerifier {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) allowed: AllowedNames,
}

impl ClientCertVerifier for NameVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(certificate, intermediates, now)?;
        if self.allowed.allow(certificate) {
            return Ok(verified);
        }
        // Tells the client "access denied".
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The same for servers, by one that connects to them.
#[derive(Debug)]
pub(super) struct ServerNameVerifier {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    pub(super) allowed: AllowedNames,
}

impl ServerCertVerifier for ServerNameVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(
            certificate,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        if self.allowed.allow(certificate) {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    #[test]
    fn the_last_common_name_is_the_name() {
        let key = KeyPair::generate().expect("a key");
        // The same kind of name by its number, so that there can be several.
        let by_number = || DnType::CustomDnType(vec![2, 5, 4, 3]);
        for (names, expected) in [
            (&[][..], None),
            (&[(DnType::CommonName, "one")], Some("one")),
            (&[(DnType::CommonName, "root"), (by_number(), "app")], Some("app")),
            (&[(by_number(), "app"), (DnType::CommonName, "root")], Some("root")),
        ] {
            let mut parameters = CertificateParams::default();
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, name) in names {
                parameters.distinguished_name.push(kind.clone(), *name);
            }
            let made = parameters.self_signed(&key).expect("a certificate");
            assert_eq!(common_name(made.der()).as_deref(), expected, "{names:?}");
            let allowed = |name: &str| {
                let common_names = vec![name.to_owned()];
                AllowedNames { common_names, ..Default::default() }.allow(made.der())
            };
            for (_, name) in names {
                assert_eq!(allowed(name), Some(*name) == expected, "{names:?}, {name}");
            }
        }
        assert_eq!(common_name(&CertificateDer::from(vec![1, 2, 3])), None);
    }

    #[test]
    fn a_certificate_needs_one_of_the_names() {
        let names = ["node.example", "*.wild.example", "10.1.2.3"].map(str::to_owned);
        let mut parameters = CertificateParams::new(names).expect("good names");
        parameters.distinguished_name.push(DnType::CommonName, "apiserver");
        let key = KeyPair::generate().expect("a key");
        let made = parameters.self_signed(&key).expect("a certificate");
        let certificate = made.der();
        for (common_names, host_names, expected) in [
            (&["apiserver"][..], &[][..], true),
            (&["other", "apiserver"], &[], true),
            (&["API" /* letter by letter */, "api"], &[], false),
            (&[], &["apiserver"], false),
            (&[], &["node.example"], true),
            (&[], &["a.wild.example"], true),
            (&[], &["a.b.wild.example"], false),
            (&[], &["10.1.2.3"], true),
            (&[], &["10.1.2.4", "not a name"], false),
        ] {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let allowed =
                AllowedNames { common_names: owned(common_names), host_names: owned(host_names) };
            assert_eq!(allowed.allow(certificate), expected, "{allowed:?}");
        }
        let allowed = AllowedNames { common_names: vec!["a".to_owned()], ..Default::default() };
        assert!(!allowed.allow(&CertificateDer::from(vec![1, 2, 3])), "no certificate at all");
    }
}
