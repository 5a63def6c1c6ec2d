//! Tokens of service accounts: signed and checked JSON Web Tokens (ES256).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

const ALGORITHM: &str = "ES256";
/// Far above any token that is made here.
const TOKEN_BYTES: usize = 16 * 1024;

/// Makes and checks the tokens of one issuer.
pub struct TokenIssuer {
    issuer: String,
    key: EcdsaKeyPair,
    key_id: String,
}

impl std::fmt::Debug for TokenIssuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "TokenIssuer({}, {})", self.issuer, self.key_id)
    }
}

/// The key for tokens is none.
#[derive(Debug, thiserror::Error)]
#[error("the key for the tokens of service accounts is no P-256 key in PKCS #8: {0}")]
pub struct KeyError(String);

impl TokenIssuer {
    /// Signs with the key in this PEM.
    pub fn new(issuer: &str, key_pem: &[u8]) -> Result<TokenIssuer, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(key_pem)
            .map_err(|error| KeyError(error.to_string()))?;
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
                .map_err(|error| KeyError(error.to_string()))?;
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key().as_ref());
        let key_id = BASE64.encode(digest.as_ref());
        Ok(TokenIssuer { issuer: issuer.to_owned(), key, key_id })
    }

    /// Who issues, which is also the audience of this server.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A token that says this. `None` when the system has no random bytes.
    pub fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({"alg": ALGORITHM, "kid": self.key_id});
        let content =
            format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), content.as_bytes()).ok()?;
        Some(format!("{content}.{}", BASE64.encode(signature.as_ref())))
    }

    /// What a token says, if this server signed it and it is valid now.
    pub fn verify(&self, token: &str, now_unix_seconds: i64) -> Option<Value> {
        if token.len() > TOKEN_BYTES {
            return None;
        }
        let (content, signature) = token.rsplit_once('.')?;
        let (header, claims) = content.split_once('.')?;
        let decode = |text: &str| -> Option<Value> {
            serde_json::from_slice(&BASE64.decode(text).ok()?).ok()
        };
        if decode(header)?["alg"] != ALGORITHM {
            return None;
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(content.as_bytes(), &BASE64.decode(signature).ok()?)
            .ok()?;
        let claims = decode(claims)?;
        let time = |name: &str| claims[name].as_i64();
        let is_valid = claims["iss"] == self.issuer.as_str()
            && time("exp").is_some_and(|end| now_unix_seconds < end)
            && time("nbf").is_none_or(|start| now_unix_seconds >= start);
        is_valid.then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(name: &str) -> TokenIssuer {
        let key = rcgen::KeyPair::generate().expect("a key");
        TokenIssuer::new(name, key.serialize_pem().as_bytes()).expect("a P-256 key")
    }

    #[test]
    fn tokens_are_checked() {
        let (own, other) = (issuer("https://a"), issuer("https://a"));
        let claims = json!({"iss": "https://a", "exp": 200, "nbf": 100, "sub": "s"});
        let token = own.sign(&claims).expect("random bytes");
        assert_eq!(own.verify(&token, 150), Some(claims.clone()));
        assert_eq!(own.verify(&token, 200), None, "it has expired");
        assert_eq!(own.verify(&token, 99), None, "it is not valid yet");
        assert_eq!(other.verify(&token, 150), None, "another key");
        let foreign = own.sign(&json!({"iss": "https://b", "exp": 200})).expect("random bytes");
        assert_eq!(own.verify(&foreign, 150), None, "another issuer");
        let parts: Vec<&str> = token.split('.').collect();
        let none = BASE64.encode(r#"{"alg":"none"}"#);
        for forged in [
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{}.{}.{}", parts[0], BASE64.encode(claims.to_string()), "AAAA"),
            "a.b.c".to_owned(),
            String::new(),
        ] {
            assert_eq!(own.verify(&forged, 150), None, "{forged}");
        }
    }
}
