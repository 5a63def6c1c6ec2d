//! Flags of TLS between members.

use std::path::PathBuf;

use clap::Args;

/// How members prove to each other who they are. Files are read again when they change.
#[derive(Debug, Clone, Args)]
pub struct PeerTlsFlags {
    /// Certificate for https peer URLs, PEM
    #[arg(long, value_name = "FILE", requires = "peer_key_file")]
    pub peer_cert_file: Option<PathBuf>,
    /// Key of --peer-cert-file, PEM
    #[arg(long, value_name = "FILE", requires = "peer_cert_file")]
    pub peer_key_file: Option<PathBuf>,
    /// Certificate to show to other members; --peer-cert-file unless given
    #[arg(long, value_name = "FILE", requires = "peer_client_key_file")]
    pub peer_client_cert_file: Option<PathBuf>,
    /// Key of --peer-client-cert-file, PEM
    #[arg(long, value_name = "FILE", requires = "peer_client_cert_file")]
    pub peer_client_key_file: Option<PathBuf>,
    /// CA that vouches for the other members, PEM. Refuses those without a certificate, as
    /// --peer-client-cert-auth does
    #[arg(long, value_name = "FILE")]
    pub peer_trusted_ca_file: Option<PathBuf>,
    /// Refuse members without a certificate
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = clap::ArgAction::Set, hide_default_value = true,
          value_name = "BOOL")]
    pub peer_client_cert_auth: bool,
    /// Encrypt between members with certificates that are made by themselves and vouch for nobody
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, action = clap::ArgAction::Set, hide_default_value = true,
          value_name = "BOOL", conflicts_with = "peer_cert_file")]
    pub peer_auto_tls: bool,
    /// Lists of certificates of members that are not good any more, PEM, or one as DER
    #[arg(long, value_name = "FILE")]
    pub peer_crl_file: Option<PathBuf>,
    /// Common names of which a member's certificate must have one, comma-separated
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub peer_cert_allowed_cn: Vec<String>,
    /// DNS names and addresses of which a member's certificate must have one, comma-separated
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        conflicts_with = "peer_cert_allowed_cn"
    )]
    pub peer_cert_allowed_hostname: Vec<String>,
    /// Take a member's certificate whatever addresses it names
    #[arg(long, alias = "experimental-peer-skip-client-san-verification", num_args = 0..=1,
          require_equals = true, default_missing_value = "true", default_value_t = false,
          action = clap::ArgAction::Set, hide_default_value = true, value_name = "BOOL")]
    pub peer_skip_client_san_verification: bool,
}
