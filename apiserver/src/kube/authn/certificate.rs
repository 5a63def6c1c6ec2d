//! The user in a client certificate: the common name is the name, organizations are groups. The
//! TLS layer has verified the certificate against the client CA.

use std::collections::BTreeMap;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;
use crate::kube::status::ApiError;
use crate::net::tls::common_name;

/// By which credential a user came in.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

pub(super) fn user(certificate: &CertificateDer<'_>) -> Result<User, ApiError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| ApiError::unauthorized())?;
    let subject = parsed.subject();
    let name = common_name(certificate).filter(|name| !name.is_empty());
    let name = name.ok_or_else(ApiError::unauthorized)?;
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    let groups = groups.map(str::to_owned).collect();
    let id = format!("X509SHA256={}", sha256_hex(certificate));
    let extra = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![id])]);
    Ok(User { name, groups, extra, ..User::default() })
}

fn sha256_hex(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn the_subject_is_the_user() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let user = user(certificate.der()).unwrap();
        assert_eq!(user.name, "alice");
        assert_eq!(user.groups, ["system:masters"]);
    }

    #[test]
    fn garbage_is_nobody() {
        let error = user(&CertificateDer::from(vec![1, 2, 3])).unwrap_err();
        assert_eq!(error.code().as_u16(), 401);
    }
}
