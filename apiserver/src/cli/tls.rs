//! Flags of TLS: certificates of the etcd door, and what all doors negotiate.

use std::path::PathBuf;

use clap::Args;

use crate::net::tls::{AllowedNames, CipherName, TlsPolicy, Version};

/// How etcd clients and this server prove who they are. Files are read again when they change.
#[derive(Debug, Clone, Args)]
pub struct TlsFlags {
    /// Certificate for https and unixs client URLs, PEM; Mainstay's own unless given
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// Key of --cert-file, PEM
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
    /// Use Mainstay's own certificate, which is what happens without --cert-file anyway
    #[arg(long, conflicts_with = "cert_file", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    pub auto_tls: Option<bool>,
    /// CA that vouches for etcd clients, PEM; Mainstay's own unless given. Refuses clients without
    /// a certificate, as --client-cert-auth does (https and unixs client URLs only)
    #[arg(long, value_name = "FILE")]
    pub trusted_ca_file: Option<PathBuf>,
    /// Refuse etcd clients without a certificate (https and unixs client URLs only)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = clap::ArgAction::Set, hide_default_value = true,
          value_name = "BOOL")]
    pub client_cert_auth: bool,
    /// Lists of certificates of etcd clients that are not good any more, PEM, or one as DER
    #[arg(long, value_name = "FILE")]
    pub client_crl_file: Option<PathBuf>,
    /// Common names of which an etcd client's certificate must have one, comma-separated
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub client_cert_allowed_cn: Vec<String>,
    /// DNS names and addresses of which an etcd client's certificate must have one,
    /// comma-separated
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        conflicts_with = "client_cert_allowed_cn"
    )]
    pub client_cert_allowed_hostname: Vec<String>,
    /// Cipher suites for TLS 1.2, comma-separated; all good ones unless given (all doors)
    #[arg(long, alias = "tls-cipher-suites", value_name = "NAMES", value_delimiter = ',')]
    pub cipher_suites: Vec<CipherName>,
    /// Least version of TLS: TLS1.2 or TLS1.3 (all doors)
    #[arg(long, value_name = "VERSION", default_value = "TLS1.2")]
    pub tls_min_version: Version,
    /// Newest version of TLS: TLS1.2 or TLS1.3 (all doors)
    #[arg(long, value_name = "VERSION", default_value = "TLS1.3")]
    pub tls_max_version: Version,
}

impl TlsFlags {
    /// Whether etcd clients need a certificate: as in etcd, naming who vouches for them asks for
    /// it; so does saying which are good.
    pub fn asks_for_certificates(&self) -> bool {
        self.client_cert_auth
            || self.trusted_ca_file.is_some()
            || self.client_crl_file.is_some()
            || !self.allowed_names().is_empty()
    }

    pub fn allowed_names(&self) -> AllowedNames {
        AllowedNames {
            common_names: self.client_cert_allowed_cn.clone(),
            host_names: self.client_cert_allowed_hostname.clone(),
        }
    }

    pub fn policy(&self) -> TlsPolicy {
        TlsPolicy {
            least: self.tls_min_version,
            most: self.tls_max_version,
            suites: self.cipher_suites.clone(),
        }
    }
}
