//! Certificates: made, and looked at again.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// As long as kubeadm's.
const AUTHORITY_LIFE: Duration = Duration::days(3650);
const LIFE: Duration = Duration::days(365);
/// A certificate that has less than this left is replaced at start.
const RENEW_BEFORE_END: Duration = Duration::days(30);
/// For clients whose clocks are late.
const CLOCK_SKEW: Duration = Duration::minutes(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Server,
    Client,
}

/// A certificate as it should be.
#[derive(Debug, Clone)]
pub(super) struct Wanted<'a> {
    pub(super) common_name: &'a str,
    pub(super) organization: Option<&'a str>,
    pub(super) purpose: Purpose,
    /// DNS names and IP addresses.
    pub(super) names: Vec<String>,
}

/// A new certificate authority.
pub(super) fn authority(key: &KeyPair, now: OffsetDateTime) -> Result<Certificate, rcgen::Error> {
    let mut parameters = parameters("mainstay-ca", None, Vec::new(), now, AUTHORITY_LIFE)?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    parameters.self_signed(key)
}

pub(super) fn signed(
    wanted: &Wanted<'_>,
    key: &KeyPair,
    issuer: &Issuer<'_, KeyPair>,
    now: OffsetDateTime,
) -> Result<Certificate, rcgen::Error> {
    let mut parameters =
        parameters(wanted.common_name, wanted.organization, wanted.names.clone(), now, LIFE)?;
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    parameters.extended_key_usages = vec![match wanted.purpose {
        Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    parameters.signed_by(key, issuer)
}

fn parameters(
    common_name: &str,
    organization: Option<&str>,
    names: Vec<String>,
    now: OffsetDateTime,
    life: Duration,
) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = DistinguishedName::new();
    if let Some(organization) = organization {
        parameters.distinguished_name.push(DnType::OrganizationName, organization);
    }
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.not_before = now - CLOCK_SKEW;
    parameters.not_after = now + life;
    Ok(parameters)
}

/// Whether a certificate and a key belong together and to the issuer, name what is wanted, and
/// last long enough. Anything that can't be read is not good.
pub(super) fn is_good(
    certificate: &str,
    key: &str,
    wanted: &Wanted<'_>,
    issuer: &Issuer<'_, KeyPair>,
    now: OffsetDateTime,
) -> bool {
    let Ok(key) = KeyPair::from_pem(key) else { return false };
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()) else {
        return false;
    };
    let Ok((_, certificate)) = X509Certificate::from_der(&pem.contents) else { return false };
    let signed_by_issuer =
        x509_parser::x509::SubjectPublicKeyInfo::from_der(&issuer.key().subject_public_key_info())
            .is_ok_and(|(_, public)| certificate.verify_signature(Some(&public)).is_ok());
    let lasts = certificate.validity().not_after.to_datetime() - now > RENEW_BEFORE_END;
    signed_by_issuer
        && lasts
        && certificate.public_key().raw == key.subject_public_key_info()
        && names(&certificate)
            .is_some_and(|names| wanted.names.iter().all(|name| names.contains(name)))
}

/// The DNS names and addresses of a certificate, as text.
fn names(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let Some(extension) = certificate.subject_alternative_name().ok()? else {
        return Some(Vec::new());
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    Some(extension.value.general_names.iter().filter_map(text).collect())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
