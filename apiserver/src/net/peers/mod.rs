//! The network between members: TCP and TLS for the engine, which knows of neither.
//!
//! [`network`] makes it of flags; `encryption` says which certificates there are and which are good.

mod encryption;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_rustls::{TlsAcceptor, TlsConnector};
use mainstay_engine::peer::PeerUrl;
use mainstay_engine::runtime::net::{Listener, Stream};
use mainstay_engine::runtime::peers::{
    BoxedStream, Incoming, LocalFuture, PeerListener, PeerNetwork,
};
use rustls::pki_types::ServerName;

use super::limits;
use super::tls::{AllowedNames, TlsError, TlsPolicy};
use crate::cli::{ListenAddress, ListenUrl, PeerTlsFlags};
use encryption::Encryption;

/// How members prove to each other who they are: etcd's flags.
#[derive(Debug, Clone, Default)]
pub struct PeerTlsOptions {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// To show to other members; `certificate` unless given.
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    /// Vouches for the others.
    pub trusted_ca: Option<PathBuf>,
    pub revoked: Option<PathBuf>,
    pub client_cert_auth: bool,
    /// A certificate that is made at the start and that nobody vouches for: encrypted, and open to
    /// whoever reaches the port.
    pub auto_tls: bool,
    pub allowed: AllowedNames,
    pub policy: TlsPolicy,
}

impl PeerTlsOptions {
    /// As the flags say; `policy` is that of all doors.
    pub fn of_flags(flags: &PeerTlsFlags, policy: TlsPolicy) -> PeerTlsOptions {
        PeerTlsOptions {
            certificate: flags.peer_cert_file.clone(),
            key: flags.peer_key_file.clone(),
            client_certificate: flags.peer_client_cert_file.clone(),
            client_key: flags.peer_client_key_file.clone(),
            trusted_ca: flags.peer_trusted_ca_file.clone(),
            revoked: flags.peer_crl_file.clone(),
            client_cert_auth: flags.peer_client_cert_auth,
            auto_tls: flags.peer_auto_tls,
            allowed: AllowedNames {
                common_names: flags.peer_cert_allowed_cn.clone(),
                host_names: flags.peer_cert_allowed_hostname.clone(),
            },
            policy,
        }
    }
}

/// Why members can't talk to each other in this way.
#[derive(Debug, thiserror::Error)]
pub enum PeerNetworkError {
    #[error("--listen-peer-urls: {0}: members connect by TCP: use http:// or https://")]
    NotTcp(ListenUrl),
    #[error(
        "--listen-peer-urls: {0} needs --peer-cert-file and --peer-key-file, or --peer-auto-tls"
    )]
    NoCertificate(ListenUrl),
    #[error(
        "--peer-cert-file and --peer-client-cert-auth need --peer-trusted-ca-file: it says who vouches \
         for the other members"
    )]
    NoAuthority,
    #[error("peer TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("peer TLS: a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// The network between members that listens on these URLs.
pub fn network(
    listen: &[ListenUrl],
    options: &PeerTlsOptions,
) -> Result<Arc<dyn PeerNetwork>, PeerNetworkError> {
    let encryption = Encryption::of(options)?;
    for url in listen {
        if url.tcp().is_none() {
            return Err(PeerNetworkError::NotTcp(url.clone()));
        }
        if url.tls && encryption.is_none() {
            return Err(PeerNetworkError::NoCertificate(url.clone()));
        }
    }
    Ok(Arc::new(Network { listen: listen.to_vec(), encryption: encryption.map(Arc::new) }))
}

struct Network {
    listen: Vec<ListenUrl>,
    encryption: Option<Arc<Encryption>>,
}

impl PeerNetwork for Network {
    fn dial(&self, url: &PeerUrl) -> LocalFuture<'static, io::Result<BoxedStream>> {
        let (url, encryption) = (url.clone(), self.encryption.clone());
        Box::pin(async move {
            let connector = match (url.tls, encryption) {
                (false, _) => None,
                (true, Some(encryption)) => Some(TlsConnector::from(encryption.client())),
                (true, None) => {
                    let text = "an https peer URL needs --peer-cert-file, --peer-key-file and \
                                --peer-trusted-ca-file here, or --peer-auto-tls";
                    return Err(io::Error::new(io::ErrorKind::Unsupported, text));
                }
            };
            let stream = Stream::connect(&url.host, url.port, limits::PEER_CONNECT_TIMEOUT).await?;
            let Some(connector) = connector else { return Ok(Box::new(stream) as BoxedStream) };
            let name = ServerName::try_from(url.host)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let stream = connector.connect(name, stream).await?;
            Ok(Box::new(stream) as BoxedStream)
        })
    }

    fn listen(&self) -> io::Result<Vec<Box<dyn PeerListener>>> {
        let listen = |url: &ListenUrl| {
            let ListenAddress::Tcp(address) = url.address else {
                unreachable!("looked at when it was made")
            };
            let listener = Listener::tcp(address).map_err(|error| {
                io::Error::new(error.kind(), format!("can't listen for peers on {url}: {error}"))
            })?;
            let encryption = self.encryption.clone().filter(|_| url.tls);
            Ok(Box::new(PeerPort { listener, encryption }) as Box<dyn PeerListener>)
        };
        self.listen.iter().map(listen).collect()
    }
}

struct PeerPort {
    listener: Listener,
    encryption: Option<Arc<Encryption>>,
}

impl PeerListener for PeerPort {
    fn accept(&self) -> LocalFuture<'_, io::Result<Incoming>> {
        Box::pin(async {
            let stream = self.listener.accept().await?;
            let address = stream.peer_address().map_or_else(String::new, |peer| peer.to_string());
            let encryption = self.encryption.clone();
            let stream = async move {
                let Some(encryption) = encryption else {
                    return Ok(Box::new(stream) as BoxedStream);
                };
                let stream = TlsAcceptor::from(encryption.server()).accept(stream).await?;
                Ok(Box::new(stream) as BoxedStream)
            };
            Ok(Incoming { address, stream: Box::pin(stream) })
        })
    }
}
