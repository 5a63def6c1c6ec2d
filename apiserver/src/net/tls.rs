//! TLS: server configuration, client certificates, the handshake.

use std::io;
use std::sync::Arc;

use futures_rustls::TlsAcceptor;
use futures_rustls::server::TlsStream;
use futures_util::io::{AsyncRead, AsyncWrite};
use mainstay_engine::runtime::timer;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use super::http::{ConnectionInfo, Protocol};
use super::limits;

/// Why certificates or keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no certificate in the PEM data of {what}: {reason}")]
    Certificates { what: &'static str, reason: String },
    #[error("no private key in the PEM data of {what}: {reason}")]
    Key { what: &'static str, reason: String },
    #[error("the client CA can't be used: {0}")]
    ClientAuthority(#[from] rustls::server::VerifierBuilderError),
    #[error("the server certificate and key can't be used: {0}")]
    Server(#[from] rustls::Error),
}

/// What a TLS door is made of; all PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// Certificates that vouch for clients. With `None` no client certificate is asked for.
    pub client_authority: Option<Vec<u8>>,
    /// Refuse clients without a certificate (etcd's `--client-cert-auth`); otherwise they may
    /// connect and be anonymous.
    pub client_required: bool,
}

/// Accepts TLS on connections of this core.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Acceptor {
    pub fn new(config: Arc<rustls::ServerConfig>) -> Acceptor {
        Acceptor(TlsAcceptor::from(config))
    }

    /// The handshake, within its time. Adds what it learned to `info`.
    pub async fn accept<S>(&self, stream: S, info: &mut ConnectionInfo) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = timer::timeout(limits::TLS_HANDSHAKE_TIMEOUT, self.0.accept(stream))
            .await
            .ok_or_else(|| {
            io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timed out")
        })??;
        let (_, session) = stream.get_ref();
        info.tls = true;
        info.protocol = match session.alpn_protocol() {
            Some(b"h2") => Some(Protocol::Http2),
            Some(b"http/1.1") => Some(Protocol::Http1),
            _ => None,
        };
        let chain = session.peer_certificates().unwrap_or_default();
        info.peer_certificates = chain.iter().map(|link| link.clone().into_owned()).collect();
        Ok(stream)
    }
}

/// A server configuration for HTTP/2 and HTTP/1.1.
pub fn server_config(files: &TlsFiles) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match &files.client_authority {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("the client CA", pem)? {
                roots.add(certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier =
                if files.client_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let chain = certificates("the server certificate", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&files.key)
        .map_err(|error| TlsError::Key { what: "the server key", reason: error.to_string() })?;
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> TlsFiles {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        TlsFiles {
            certificate: made.cert.pem().into_bytes(),
            key: made.signing_key.serialize_pem().into_bytes(),
            client_authority: None,
            client_required: false,
        }
    }

    #[test]
    fn a_configuration_offers_http2_first() {
        let good = files();
        let with_clients =
            TlsFiles { client_authority: Some(good.certificate.clone()), ..good.clone() };
        for files in [good, with_clients] {
            let config = server_config(&files).unwrap();
            assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        }
    }

    #[test]
    fn bad_files_are_told_apart() {
        let good = files();
        for (files, expected) in [
            (TlsFiles { certificate: Vec::new(), ..good.clone() }, "the server certificate"),
            (TlsFiles { key: b"nonsense".to_vec(), ..good.clone() }, "the server key"),
            (
                TlsFiles { client_authority: Some(b"-----BEGIN".to_vec()), ..good.clone() },
                "the client CA",
            ),
            (TlsFiles { key: files().key, ..good.clone() }, "can't be used"),
        ] {
            let error = server_config(&files).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, not {expected}");
        }
    }
}
