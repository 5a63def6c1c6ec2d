//! Simple tokens that say whose they are, sealed with a secret that all members of a cluster have: each
//! knows those that another one has given out, and nobody else can make one.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

/// Bytes of the secret.
pub(in crate::etcd::auth) const SECRET_BYTES: usize = 32;

/// What a sealed token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) user: Arc<str>,
    /// The auth revision at which it was made.
    pub(super) made_at: u64,
    /// When, by the clock on the wall, seconds.
    pub(super) issued_s: u64,
}

/// The secret, once it is known.
#[derive(Debug, Default)]
pub(super) struct Seal(OnceLock<Box<hmac::Key>>);

impl Seal {
    pub(super) fn is_known(&self) -> bool {
        self.0.get().is_some()
    }

    /// There is one secret for the whole life of a cluster: the first one stays.
    pub(super) fn set(&self, secret: &[u8]) {
        self.0.get_or_init(|| Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
    }

    /// The token that begins with `number`, which is another one each time, and says this; `None`
    /// without a secret.
    pub(super) fn seal(&self, number: &str, said: &Said) -> Option<String> {
        let key = self.0.get()?;
        let Said { user, made_at, issued_s } = said;
        let mut facts = made_at.to_le_bytes().to_vec();
        facts.extend_from_slice(&issued_s.to_le_bytes());
        facts.extend_from_slice(user.as_bytes());
        let head = format!("{number}.{}", BASE64.encode(facts));
        let seal = hmac::sign(key, head.as_bytes());
        Some(format!("{head}.{}", BASE64.encode(seal)))
    }

    /// What a token says, if some member has sealed it.
    pub(super) fn open(&self, token: &str) -> Option<Said> {
        let key = self.0.get()?;
        let (head, seal) = token.rsplit_once('.')?;
        hmac::verify(key, head.as_bytes(), &BASE64.decode(seal).ok()?).ok()?;
        let (_, facts) = head.rsplit_once('.')?;
        let facts = BASE64.decode(facts).ok()?;
        let (made_at, rest) = facts.split_first_chunk()?;
        let (issued_s, user) = rest.split_first_chunk()?;
        Some(Said {
            user: std::str::from_utf8(user).ok()?.into(),
            made_at: u64::from_le_bytes(*made_at),
            issued_s: u64::from_le_bytes(*issued_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_secret_knows_the_token() {
        let (one, two, other) = (Seal::default(), Seal::default(), Seal::default());
        let said = Said { user: "alice".into(), made_at: 7, issued_s: 1_000 };
        assert_eq!(one.seal("x.1", &said), None, "no secret");
        one.set(&[1; SECRET_BYTES]);
        two.set(&[1; SECRET_BYTES]);
        two.set(&[9; SECRET_BYTES]);
        other.set(&[2; SECRET_BYTES]);
        let token = one.seal("x.1", &said).expect("sealed");
        assert!(token.starts_with("x.1."), "{token}");
        assert_eq!(two.open(&token), Some(said.clone()));
        assert_eq!(other.open(&token), None);
        for position in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("text");
            // The last letter of base64 has bits that mean nothing.
            assert!(two.open(&changed).is_none() || position + 1 == token.len(), "{changed}");
        }
        for token in ["", ".", "..", "x.1", "x.1.AAAA.AAAA"] {
            assert_eq!(two.open(token), None, "{token}");
        }
    }
}
