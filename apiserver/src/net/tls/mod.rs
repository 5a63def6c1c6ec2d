//! TLS: the handshake, what it is made of, and new certificates without a restart.
//!
//! `config` makes a configuration of PEM texts, `policy` says which versions and ciphers there are,
//! `allow` which names clients may have, and `reload` reads the files again when they change.

mod allow;
mod config;
mod policy;
mod reload;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_rustls::TlsAcceptor;
use futures_rustls::server::TlsStream;
use futures_util::io::{AsyncRead, AsyncWrite};
use mainstay_engine::runtime::timer;

use super::http::{ConnectionInfo, Protocol};
use super::limits;

pub use allow::{AllowedNames, common_name};
pub use config::{Material, Rules, certificates, client_config, server_config};
pub use policy::{CipherName, TlsPolicy, Version};
pub use reload::{Files, Make, Reloading};

/// Why certificates or keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("can't read {path}: {error}", path = path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("no certificate in the PEM data of {what}: {reason}")]
    Certificates { what: &'static str, reason: String },
    #[error("no private key in the PEM data of {what}: {reason}")]
    Key { what: &'static str, reason: String },
    #[error("the certificate revocation list can't be used: {0}")]
    Revoked(String),
    #[error("the client CA can't be used: {0}")]
    ClientAuthority(#[from] rustls::server::VerifierBuilderError),
    #[error("the server certificate and key can't be used: {0}")]
    Server(#[from] rustls::Error),
    #[error("--cipher-suites can't be chosen for TLS 1.3: leave it out, or allow TLS 1.2")]
    CiphersOfTls13,
    #[error("--tls-min-version is above --tls-max-version")]
    NoVersion,
}

/// Accepts TLS on connections of this core.
#[derive(Debug, Clone)]
pub struct Acceptor(Arc<Reloading>);

impl Acceptor {
    pub fn new(source: Arc<Reloading>) -> Acceptor {
        Acceptor(source)
    }

    /// The handshake, within its time. Adds what it learned to `info`.
    pub async fn accept<S>(&self, stream: S, info: &mut ConnectionInfo) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.0.current());
        let stream = timer::timeout(limits::TLS_HANDSHAKE_TIMEOUT, acceptor.accept(stream))
            .await
            .ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timed out"))??;
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
