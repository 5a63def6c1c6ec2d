//! Certificates for tests, and a small HTTPS client that shows them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How long an answer may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Authority { pem: certificate.pem(), issuer: Issuer::new(parameters, key) }
    }

    /// A certificate for servers and clients.
    pub fn sign(&self, common_name: &str, names: &[&str], serial: u64) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).expect("good names");
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        parameters.serial_number = Some(SerialNumber::from(serial));
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A list of certificates that are not good any more, PEM.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }
}

/// Writes beside the file and renames it, as certificate managers do.
pub fn replace(path: &Path, content: &str) -> PathBuf {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, content).expect("a file");
    std::fs::rename(&temporary, path).expect("the same directory");
    path.to_owned()
}

/// GET over HTTP/1.1 and TLS; gives the answer and the server's certificate as DER.
pub fn get(
    address: &str,
    path: &str,
    trusted: &str,
    client: Option<&Identity>,
) -> io::Result<(String, Vec<u8>)> {
    get_over(connect(address, trusted, client, rustls::ALL_VERSIONS)?, path)
}

/// The same, on a connection that is open already.
pub fn get_over<S: Read + Write>(
    mut stream: StreamOwned<ClientConnection, S>,
    path: &str,
) -> io::Result<(String, Vec<u8>)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // Not every server says goodbye.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        read => {
            read?;
        }
    }
    let chain = stream.conn.peer_certificates().unwrap_or_default();
    let server = chain.first().map(|certificate| certificate.to_vec()).unwrap_or_default();
    Ok((String::from_utf8_lossy(&answer).into_owned(), server))
}

/// A connection; the handshake is not finished by then.
pub fn connect(
    address: &str,
    trusted: &str,
    client: Option<&Identity>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(StreamOwned::new(session(trusted, client, versions)?, stream))
}

/// What makes TLS of a plain connection to `localhost`.
pub fn session(
    trusted: &str,
    client: Option<&Identity>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> io::Result<ClientConnection> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
            let chain = chain.collect::<Result<Vec<_>, _>>().expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("they belong together")
        }
    };
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)
}
