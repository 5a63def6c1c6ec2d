//! The certificates and keys that Mainstay makes for itself, in `DATA_DIR/pki`.
//!
//! [`prepare`] is called at every start, and from time to time: what is there and good is kept, the rest is made. The
//! certificate authority is never replaced; the certificates it signs are, when they near their
//! end or no longer name the machine.

mod certificate;
mod files;
mod kubeconfig;
mod shared;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{Issuer, KeyPair};
use time::OffsetDateTime;

use certificate::{Purpose, Wanted};
pub use shared::Shared;

/// Why the certificates could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{path}: {error}", path = path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error(
        "{path} is not what was written there: {reason}. Restore it, or move the directory away \
         to have all certificates made anew (clients then need the new admin.kubeconfig)",
        path = path.display()
    )]
    Damaged { path: PathBuf, reason: String },
}

/// What the certificates are for.
#[derive(Debug, Clone)]
pub struct Request {
    pub data_dir: PathBuf,
    /// Names and addresses by which clients reach the server, besides the usual ones.
    pub names: Vec<String>,
    /// The first address of the service range: the service `kubernetes`.
    pub service_address: IpAddr,
    /// The Kubernetes server's URL, for the kubeconfig; none is written without it.
    pub server_url: Option<String>,
    /// The CA that vouches for the server, when it is not ours: a PEM file for the kubeconfig.
    pub server_authority: Option<PathBuf>,
}

/// What was prepared; all PEM.
#[derive(Debug, Clone)]
pub struct Pki {
    pub authority: Vec<u8>,
    pub server_certificate: Vec<u8>,
    pub server_key: Vec<u8>,
    pub service_account_key: Vec<u8>,
    pub service_account_public_key: Vec<u8>,
    /// Where the administrator's kubeconfig is.
    pub kubeconfig: PathBuf,
    pub files: Files,
}

/// Where what doors need is: they read it again when it is renewed.
#[derive(Debug, Clone)]
pub struct Files {
    pub authority: PathBuf,
    pub server_certificate: PathBuf,
    pub server_key: PathBuf,
}

/// Makes or reads everything.
pub fn prepare(request: &Request, now: OffsetDateTime) -> Result<Pki, PkiError> {
    let directory = request.data_dir.join("pki");
    files::create_directory(&directory)?;

    let (authority, authority_key) = authority(&directory, now)?;
    let issuer_key = KeyPair::from_pem(&authority_key)
        .map_err(|error| damaged(&directory.join("ca.key"), &error))?;
    let issuer = Issuer::from_ca_cert_pem(&authority, issuer_key)
        .map_err(|error| damaged(&directory.join("ca.crt"), &error))?;

    let server = Wanted {
        common_name: "kube-apiserver",
        organization: None,
        purpose: Purpose::Server,
        names: server_names(request),
    };
    let (server_certificate, server_key) = signed(&directory, "apiserver", &server, &issuer, now)?;
    let admin = Wanted {
        common_name: "kubernetes-admin",
        organization: Some("system:masters"),
        purpose: Purpose::Client,
        names: Vec::new(),
    };
    let (admin_certificate, admin_key) = signed(&directory, "admin", &admin, &issuer, now)?;
    let (service_account_key, service_account_public_key) = service_account(&directory)?;

    let kubeconfig = request.data_dir.join("admin.kubeconfig");
    if let Some(server_url) = &request.server_url {
        let other = request.server_authority.as_deref().map(files::read_bytes).transpose()?;
        let content = kubeconfig::render(
            server_url,
            other.as_deref().unwrap_or(authority.as_bytes()),
            admin_certificate.as_bytes(),
            admin_key.as_bytes(),
        );
        if files::read(&kubeconfig)?.as_deref() != Some(&content) {
            files::write(&kubeconfig, &content, files::SECRET)?;
        }
    }
    Ok(Pki {
        authority: authority.into_bytes(),
        server_certificate: server_certificate.into_bytes(),
        server_key: server_key.into_bytes(),
        service_account_key: service_account_key.into_bytes(),
        service_account_public_key: service_account_public_key.into_bytes(),
        kubeconfig,
        files: Files {
            authority: directory.join("ca.crt"),
            server_certificate: directory.join("apiserver.crt"),
            server_key: directory.join("apiserver.key"),
        },
    })
}

fn server_names(request: &Request) -> Vec<String> {
    let usual = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        "::1",
    ];
    let mut names: Vec<String> = usual.map(str::to_owned).into();
    names.push(request.service_address.to_string());
    names.extend(request.names.iter().cloned());
    names.sort_unstable();
    names.dedup();
    names
}

/// The certificate authority: certificate and key.
fn authority(directory: &Path, now: OffsetDateTime) -> Result<(String, String), PkiError> {
    let (certificate_path, key_path) = (directory.join("ca.crt"), directory.join("ca.key"));
    match (files::read(&certificate_path)?, files::read(&key_path)?) {
        (Some(certificate), Some(key)) => return Ok((certificate, key)),
        (Some(_), None) => return Err(damaged(&key_path, &"it is missing")),
        // The key is written first, so a key alone is a first start that was cut short.
        (None, _) => {}
    }
    let key = KeyPair::generate()?;
    let certificate = certificate::authority(&key, now)?;
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    files::write(&key_path, &key, files::SECRET)?;
    files::write(&certificate_path, &certificate, files::PUBLIC)?;
    Ok((certificate, key))
}

/// A certificate that the authority signed, and its key: those on disk while they are good.
fn signed(
    directory: &Path,
    name: &str,
    wanted: &Wanted<'_>,
    issuer: &Issuer<'_, KeyPair>,
    now: OffsetDateTime,
) -> Result<(String, String), PkiError> {
    let certificate_path = directory.join(format!("{name}.crt"));
    let key_path = directory.join(format!("{name}.key"));
    if let (Some(certificate), Some(key)) =
        (files::read(&certificate_path)?, files::read(&key_path)?)
        && certificate::is_good(&certificate, &key, wanted, issuer, now)
    {
        return Ok((certificate, key));
    }
    let key = KeyPair::generate()?;
    let certificate = certificate::signed(wanted, &key, issuer, now)?;
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    files::write(&key_path, &key, files::SECRET)?;
    files::write(&certificate_path, &certificate, files::PUBLIC)?;
    Ok((certificate, key))
}

/// The key pair that signs service account tokens.
fn service_account(directory: &Path) -> Result<(String, String), PkiError> {
    let (key_path, public_path) = (directory.join("sa.key"), directory.join("sa.pub"));
    let key = match files::read(&key_path)? {
        Some(key) => KeyPair::from_pem(&key).map_err(|error| damaged(&key_path, &error))?,
        None => {
            let key = KeyPair::generate()?;
            files::write(&key_path, &key.serialize_pem(), files::SECRET)?;
            key
        }
    };
    let public = key.public_key_pem();
    if files::read(&public_path)?.as_deref() != Some(&public) {
        files::write(&public_path, &public, files::PUBLIC)?;
    }
    Ok((key.serialize_pem(), public))
}

fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> PkiError {
    PkiError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use time::Duration;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path =
                std::env::temp_dir().join(format!("mainstay-pki-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Directory(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn request(directory: &Directory, names: &[&str]) -> Request {
        Request {
            data_dir: directory.0.clone(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            service_address: "10.0.0.1".parse().unwrap(),
            server_url: Some("https://127.0.0.1:6443".to_owned()),
            server_authority: None,
        }
    }

    #[test]
    fn everything_is_kept_while_it_is_good() {
        let directory = Directory::new("kept");
        let now = OffsetDateTime::now_utc();
        let first = prepare(&request(&directory, &["node-a"]), now).unwrap();
        let read = |name: &str| std::fs::read_to_string(directory.0.join(name)).unwrap();
        let config = read("admin.kubeconfig");

        let same = prepare(&request(&directory, &["node-a"]), now + Duration::days(200)).unwrap();
        assert_eq!(same.server_certificate, first.server_certificate);
        assert_eq!(same.service_account_key, first.service_account_key);
        assert_eq!(read("admin.kubeconfig"), config);

        let renamed = prepare(&request(&directory, &["node-b"]), now).unwrap();
        assert_ne!(renamed.server_certificate, first.server_certificate, "another host name");
        assert_eq!(renamed.authority, first.authority);

        let later = prepare(&request(&directory, &["node-b"]), now + Duration::days(350)).unwrap();
        assert_ne!(later.server_certificate, renamed.server_certificate, "near its end");
        assert_eq!(later.authority, first.authority);
        assert_ne!(read("admin.kubeconfig"), config);
    }

    #[test]
    fn keys_are_secret_and_damage_is_told() {
        let directory = Directory::new("secret");
        let now = OffsetDateTime::now_utc();
        prepare(&request(&directory, &[]), now).unwrap();
        for name in
            ["pki/ca.key", "pki/apiserver.key", "pki/admin.key", "pki/sa.key", "admin.kubeconfig"]
        {
            let mode = std::fs::metadata(directory.0.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        for (name, content) in [("pki/ca.crt", "nonsense"), ("pki/sa.key", "")] {
            let path = directory.0.join(name);
            let good = std::fs::read(&path).unwrap();
            std::fs::write(&path, content).unwrap();
            let error = prepare(&request(&directory, &[]), now).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            std::fs::write(&path, good).unwrap();
        }
        std::fs::remove_file(directory.0.join("pki/ca.key")).unwrap();
        let error = prepare(&request(&directory, &[]), now).unwrap_err().to_string();
        assert!(error.contains("ca.key") && error.contains("missing"), "{error}");
        // A broken certificate that we signed is simply made again.
        let directory = Directory::new("again");
        let first = prepare(&request(&directory, &[]), now).unwrap();
        std::fs::write(directory.0.join("pki/apiserver.crt"), "nonsense").unwrap();
        let again = prepare(&request(&directory, &[]), now).unwrap();
        assert_ne!(again.server_certificate, first.server_certificate);
    }

    #[test]
    fn the_server_can_use_what_was_made() {
        let directory = Directory::new("usable");
        let pki = prepare(&request(&directory, &["node-a"]), OffsetDateTime::now_utc()).unwrap();
        let material = crate::net::tls::Material {
            certificate: pki.server_certificate,
            key: pki.server_key,
            client_authorities: vec![pki.authority],
            revoked: None,
        };
        crate::net::tls::server_config(&material, &Default::default()).unwrap();
        for (path, content) in [
            (&pki.files.authority, &material.client_authorities[0]),
            (&pki.files.server_certificate, &material.certificate),
            (&pki.files.server_key, &material.key),
        ] {
            assert_eq!(&std::fs::read(path).unwrap(), content, "{}", path.display());
        }
    }
}
