//! What all members of a cluster must have in common: the certificate authority, and the key that
//! signs service account tokens. A document of the store has it; the files are copies.

use std::path::Path;

use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{PkiError, certificate, files};

/// All PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    authority: String,
    authority_key: String,
    service_account_key: String,
}

impl Shared {
    /// For a cluster that has none.
    pub fn make(now: OffsetDateTime) -> Result<Shared, PkiError> {
        let key = KeyPair::generate()?;
        Ok(Shared {
            authority: certificate::authority(&key, now)?.pem(),
            authority_key: key.serialize_pem(),
            service_account_key: KeyPair::generate()?.serialize_pem(),
        })
    }

    /// What is in `data_dir`; `None` if something is missing there.
    pub fn read(data_dir: &Path) -> Result<Option<Shared>, PkiError> {
        let read = |name: &str| files::read(&data_dir.join("pki").join(name));
        let parts = (read("ca.crt")?, read("ca.key")?, read("sa.key")?);
        let (Some(authority), Some(authority_key), Some(service_account_key)) = parts else {
            return Ok(None);
        };
        Ok(Some(Shared { authority, authority_key, service_account_key }))
    }

    /// Puts it into a `data_dir` that has none.
    pub fn write(&self, data_dir: &Path) -> Result<(), PkiError> {
        let directory = data_dir.join("pki");
        files::create_directory(&directory)?;
        // The certificate last: without it the next start takes the rest for nothing.
        files::write(&directory.join("sa.key"), &self.service_account_key, files::SECRET)?;
        files::write(&directory.join("ca.key"), &self.authority_key, files::SECRET)?;
        files::write(&directory.join("ca.crt"), &self.authority, files::PUBLIC)
    }

    /// As a document.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it is text")
    }

    pub fn decode(document: &[u8]) -> Option<Shared> {
        serde_json::from_slice(document).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_with_the_same_document_trust_each_other() {
        let directory = |name: &str| {
            std::env::temp_dir().join(format!("mainstay-shared-{name}-{}", std::process::id()))
        };
        let (one, two) = (directory("one"), directory("two"));
        let shared = Shared::make(OffsetDateTime::now_utc()).unwrap();
        assert!(Shared::decode(&shared.encode()).as_ref() == Some(&shared));
        assert!(Shared::decode(b"{}").is_none());
        assert!(Shared::read(&one).unwrap().is_none());
        let prepared = [&one, &two].map(|data_dir| {
            shared.write(data_dir).unwrap();
            assert!(Shared::read(data_dir).unwrap() == Some(shared.clone()));
            let request = super::super::Request {
                data_dir: data_dir.clone(),
                names: Vec::new(),
                service_address: [10, 0, 0, 1].into(),
                server_url: None,
                server_authority: None,
            };
            super::super::prepare(&request, OffsetDateTime::now_utc()).unwrap()
        });
        assert_eq!(prepared[0].authority, prepared[1].authority);
        assert_eq!(prepared[0].service_account_key, prepared[1].service_account_key);
        assert_ne!(prepared[0].server_key, prepared[1].server_key);
        for data_dir in [one, two] {
            std::fs::remove_dir_all(data_dir).unwrap();
        }
    }
}
