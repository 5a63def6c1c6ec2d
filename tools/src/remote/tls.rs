//! Certificates and keys for a connection to a server.

use std::path::Path;
use std::sync::Arc;

use futures_rustls::TlsConnector;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Access;
use crate::failure::Failure;

/// What HTTP/2 is called when a connection is made.
const HTTP2: &[u8] = b"h2";

/// A connector that trusts `--cacert` and shows `--cert`.
pub(super) fn connector(access: &Access) -> Result<TlsConnector, Failure> {
    let Some(authority) = &access.cacert else {
        return Err(Failure::other("https needs --cacert, the CA that vouches for the server"));
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate).map_err(|error| named(authority, error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Failure::other)?
        .with_root_certificates(roots);
    let mut config = match (&access.cert, &access.key) {
        (Some(certificate), Some(key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, error))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, secret)
                .map_err(|error| named(certificate, error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found.map_err(|error| named(path, error))? {
        found if found.is_empty() => Err(named(path, "there is no certificate in it")),
        found => Ok(found),
    }
}

fn named(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::other(format!("{}: {error}", path.display()))
}
