//! Which certificates members show each other, and which are good.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};

use super::{PeerNetworkError, PeerTlsOptions};
use crate::net::tls::{Files, Material, Reloading, Rules, TlsError, client_config, server_config};

/// Both ends' configurations. Files are read again when they change.
pub(super) enum Encryption {
    Files {
        server: Arc<Reloading>,
        client: Arc<Reloading<ClientConfig>>,
    },
    /// Of a certificate that is made for this process.
    Made {
        server: Arc<ServerConfig>,
        client: Arc<ClientConfig>,
    },
}

impl Encryption {
    /// `None` when no flag asks for any.
    pub(super) fn of(options: &PeerTlsOptions) -> Result<Option<Encryption>, PeerNetworkError> {
        let (Some(certificate), Some(key)) = (&options.certificate, &options.key) else {
            return match options.auto_tls {
                true if options.client_cert_auth => Err(PeerNetworkError::NoAuthority),
                true => made(options).map(Some),
                false => Ok(None),
            };
        };
        let Some(authority) = &options.trusted_ca else {
            return Err(PeerNetworkError::NoAuthority);
        };
        let files = Files {
            certificate: certificate.clone(),
            key: key.clone(),
            client_authorities: vec![authority.clone()],
            revoked: options.revoked.clone(),
        };
        let shown = Files {
            certificate: options.client_certificate.clone().unwrap_or(certificate.clone()),
            key: options.client_key.clone().unwrap_or(key.clone()),
            ..files.clone()
        };
        // As in etcd: who names the authority wants to see certificates of it.
        let rules = Rules {
            policy: options.policy.clone(),
            client_required: true,
            allowed: options.allowed.clone(),
        };
        let server = Reloading::new("peers", files, rules.clone())?;
        let client = Reloading::made_by(client_config, "dialed peers", shown, rules)?;
        Ok(Some(Encryption::Files { server, client }))
    }

    /// For a handshake with a member that connects now.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        match self {
            Encryption::Files { server, .. } => server.current(),
            Encryption::Made { server, .. } => Arc::clone(server),
        }
    }

    /// For a handshake with a member that is connected to now.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        match self {
            Encryption::Files { client, .. } => client.current(),
            Encryption::Made { client, .. } => Arc::clone(client),
        }
    }
}

fn made(options: &PeerTlsOptions) -> Result<Encryption, PeerNetworkError> {
    let made = rcgen::generate_simple_self_signed(vec!["mainstay-peer".to_owned()])?;
    let material = Material {
        certificate: made.cert.pem().into_bytes(),
        key: made.signing_key.serialize_pem().into_bytes(),
        ..Material::default()
    };
    let rules = Rules { policy: options.policy.clone(), ..Rules::default() };
    let server = server_config(&material, &rules)?;
    let provider = Arc::new(options.policy.provider());
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&options.policy.versions()?)
        .map_err(TlsError::from)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Encryption::Made { server, client: Arc::new(client) })
}

/// Takes any certificate, as `--peer-auto-tls` asks for: there is nobody to vouch for one.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
