//! A server configuration, made of PEM texts.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::TlsError;
use super::allow::{AllowedNames, NameVerifier, ServerNameVerifier};
use super::policy::TlsPolicy;

/// What a TLS door is made of; all PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Material {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// Certificates that vouch for clients. Without any, no client certificate is asked for.
    pub client_authorities: Vec<Vec<u8>>,
    /// Lists of what they do not vouch for any more; one list may be DER instead.
    pub revoked: Option<Vec<u8>>,
}

/// What does not change while the server runs.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub policy: TlsPolicy,
    /// Refuse clients without a certificate (etcd's `--client-cert-auth`); otherwise they may
    /// connect and be anonymous.
    pub client_required: bool,
    pub allowed: AllowedNames,
}

/// A server configuration for HTTP/2 and HTTP/1.1.
pub fn server_config(
    material: &Material,
    rules: &Rules,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let provider = Arc::new(rules.policy.provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&rules.policy.versions()?)?;
    let builder = match verifier(material, rules, provider)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let chain = certificates("the server certificate", &material.certificate)?;
    let mut config = builder.with_single_cert(chain, key("the server key", material)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A configuration for one that connects to servers which the same authorities vouch for, and that
/// has a certificate of its own to show.
pub fn client_config(
    material: &Material,
    rules: &Rules,
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let provider = Arc::new(rules.policy.provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&rules.policy.versions()?)?;
    let roots = Arc::new(roots(material)?);
    let mut verifier = WebPkiServerVerifier::builder_with_provider(roots, provider);
    if let Some(lists) = &material.revoked {
        verifier = verifier.with_crls(revocation_lists(lists)?).allow_unknown_revocation_status();
    }
    let inner = verifier.build()?;
    let builder = match rules.allowed.is_empty() {
        true => builder.with_webpki_verifier(inner),
        false => {
            let verifier = ServerNameVerifier { inner, allowed: rules.allowed.clone() };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let chain = certificates("the certificate to show", &material.certificate)?;
    let key = key("the key of the certificate to show", material)?;
    Ok(Arc::new(builder.with_client_auth_cert(chain, key)?))
}

fn key(what: &'static str, material: &Material) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&material.key)
        .map_err(|error| TlsError::Key { what, reason: error.to_string() })
}

fn roots(material: &Material) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for pem in &material.client_authorities {
        for certificate in certificates("the client CA", pem)? {
            roots.add(certificate)?;
        }
    }
    Ok(roots)
}

fn verifier(
    material: &Material,
    rules: &Rules,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if material.client_authorities.is_empty() {
        return Ok(None);
    }
    let roots = Arc::new(roots(material)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    if let Some(lists) = &material.revoked {
        // As in etcd, a certificate that no list speaks of is good, and so is a list that is late:
        // refusing everybody because of it would be worse.
        builder = builder.with_crls(revocation_lists(lists)?).allow_unknown_revocation_status();
    }
    if !rules.client_required {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder.build()?;
    if rules.allowed.is_empty() {
        return Ok(Some(inner));
    }
    Ok(Some(Arc::new(NameVerifier { inner, allowed: rules.allowed.clone() })))
}

/// The certificates of a PEM file, at least one.
pub fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason: String| TlsError::Certificates { what, reason };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| refuse(error.to_string()))?;
    if found.is_empty() { Err(refuse("no CERTIFICATE section".to_owned())) } else { Ok(found) }
}

fn revocation_lists(bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    // DER begins with a SEQUENCE.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(lists) if lists.is_empty() => {
            Err(TlsError::Revoked("no X509 CRL section in its PEM data".to_owned()))
        }
        Ok(lists) => Ok(lists),
        Err(error) => Err(TlsError::Revoked(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn material() -> Material {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        Material {
            certificate: made.cert.pem().into_bytes(),
            key: made.signing_key.serialize_pem().into_bytes(),
            ..Material::default()
        }
    }

    #[test]
    fn a_configuration_offers_http2_first() {
        let good = material();
        let with_clients =
            Material { client_authorities: vec![good.certificate.clone()], ..good.clone() };
        for material in [good, with_clients] {
            let config = server_config(&material, &Rules::default()).unwrap();
            assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        }
    }

    #[test]
    fn bad_files_are_told_apart() {
        let good = material();
        let authorities = vec![good.certificate.clone()];
        let revoked = |list: &[u8]| Material {
            revoked: Some(list.to_vec()),
            client_authorities: authorities.clone(),
            ..good.clone()
        };
        for (material, expected) in [
            (Material { certificate: Vec::new(), ..good.clone() }, "the server certificate"),
            (Material { key: b"nonsense".to_vec(), ..good.clone() }, "the server key"),
            (
                Material { client_authorities: vec![b"-----BEGIN".to_vec()], ..good.clone() },
                "the client CA",
            ),
            (revoked(b"nonsense"), "revocation list"),
            (revoked(b"0\x03\x02\x01\x05"), "client CA can't be used"),
            (Material { key: super::tests::material().key, ..good.clone() }, "can't be used"),
        ] {
            let error = server_config(&material, &Rules::default()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, not {expected}");
        }
    }
}
