//! Signed tokens (RFC 7519): whoever has the public key knows whom they name.
//!
//! The cryptography is a library's; what is done here is the frame around it: three parts in base64,
//! of which the first must name the method that was configured, and no other.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use super::Shown;
use super::keys::Keys;
use crate::etcd::errors::{self, EtcdError};

/// Bytes of a token that is looked at: a header of HTTP/2 may be longer.
const TOKEN_BYTES: usize = 8 << 10;

/// Makes and checks signed tokens of one method.
pub(in crate::etcd::auth) struct Jwt {
    method: String,
    keys: Keys,
    ttl: Duration,
}

impl fmt::Debug for Jwt {
    /// Without the keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Jwt").field("method", &self.method).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    alg: &'a str,
    #[serde(skip_deserializing)]
    typ: &'a str,
}

/// etcd's three claims.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// Seconds since 1970.
    exp: u64,
    revision: u64,
    username: String,
}

impl Jwt {
    /// Keys are the contents of files, see [`Keys::new`]. `ttl` counts from a token's making.
    pub(super) fn new(
        method: &str,
        public: Option<&[u8]>,
        private: Option<&[u8]>,
        ttl: Duration,
    ) -> Result<Jwt, String> {
        Ok(Jwt { method: method.to_owned(), keys: Keys::new(method, public, private)?, ttl })
    }

    pub(super) fn make(&self, user: &str, revision: u64, now_s: u64) -> Result<String, EtcdError> {
        let header = Header { alg: &self.method, typ: "JWT" };
        let exp = now_s.saturating_add(self.ttl.as_secs());
        let claims = Claims { exp, revision, username: user.to_owned() };
        let part = |value: serde_json::Result<Vec<u8>>| value.map(|text| BASE64.encode(text));
        let parts =
            part(serde_json::to_vec(&header)).ok().zip(part(serde_json::to_vec(&claims)).ok());
        let (header, claims) = parts.ok_or(errors::VERIFY_ONLY)?;
        let signed = format!("{header}.{claims}");
        let signature = self.keys.sign(signed.as_bytes()).ok_or(errors::VERIFY_ONLY)?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }

    pub(super) fn find(&self, token: &str, now_s: u64) -> Option<Shown> {
        if token.len() > TOKEN_BYTES {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header = BASE64.decode(header).ok()?;
        let header: Header<'_> = serde_json::from_slice(&header).ok()?;
        if header.alg != self.method {
            return None;
        }
        if !self.keys.verify(signed.as_bytes(), &BASE64.decode(signature).ok()?) {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        let user = claims.username.into();
        let shown = Shown { user, made_at: claims.revision, speaks_for_now: false };
        (now_s < claims.exp).then_some(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn key_pair(algorithm: &'static rcgen::SignatureAlgorithm) -> (String, String) {
        let pair = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        (pair.public_key_pem(), pair.serialize_pem())
    }

    fn hmac(secret: &[u8]) -> Jwt {
        Jwt::new("HS256", None, Some(secret), TTL).expect("good options")
    }

    #[test]
    fn every_method_signs_what_it_accepts() {
        let rsa = key_pair(&rcgen::PKCS_RSA_SHA256);
        let p256 = key_pair(&rcgen::PKCS_ECDSA_P256_SHA256);
        let p384 = key_pair(&rcgen::PKCS_ECDSA_P384_SHA384);
        let p521 = key_pair(&rcgen::PKCS_ECDSA_P521_SHA512);
        let ed25519 = key_pair(&rcgen::PKCS_ED25519);
        for (methods, (public, private)) in [
            (&["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..], &rsa),
            (&["ES256"], &p256),
            (&["ES384"], &p384),
            (&["ES512"], &p521),
            (&["EdDSA"], &ed25519),
        ] {
            for method in methods {
                let keys = |public: Option<&str>, private: Option<&str>| {
                    let (public, private) = (public.map(str::as_bytes), private.map(str::as_bytes));
                    Jwt::new(method, public, private, TTL).expect(method)
                };
                let maker = keys(None, Some(private));
                let token = maker.make("u", 7, 100).expect(method);
                let expected = Shown { user: "u".into(), made_at: 7, speaks_for_now: false };
                for checker in
                    [&maker, &keys(Some(public), None), &keys(Some(public), Some(private))]
                {
                    assert_eq!(checker.find(&token, 159), Some(expected.clone()), "{method}");
                    assert_eq!(checker.find(&token, 160), None, "{method}: run out");
                }
                let error = keys(Some(public), None).make("u", 7, 100).expect_err(method);
                assert_eq!(error, errors::VERIFY_ONLY);
            }
        }
        let other = key_pair(&rcgen::PKCS_ED25519);
        for (method, public, private, expected) in [
            ("EdDSA", Some(&other.0), Some(&ed25519.1), "not of one pair"),
            ("RS256", None, Some(&ed25519.1), "this sign-method"),
            ("ES384", None, Some(&p256.1), "this sign-method"),
            ("EdDSA", Some(&ed25519.1), None, "no PUBLIC KEY"),
            ("EdDSA", None, Some(&ed25519.0), "no private key"),
        ] {
            let (public, private) =
                (public.map(|pem| pem.as_bytes()), private.map(|pem| pem.as_bytes()));
            let error = Jwt::new(method, public, private, TTL).expect_err(method);
            assert!(error.contains(expected), "{method}: {error}");
        }
    }

    /// The example of RFC 7515, appendix A.1: made elsewhere, and without etcd's claims.
    #[test]
    fn a_known_signature_is_a_good_one() {
        let secret = BASE64
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .expect("base64");
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature =
            BASE64.decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk").expect("base64");
        let jwt = hmac(&secret);
        assert!(jwt.keys.verify(signed.as_bytes(), &signature));
        assert_eq!(jwt.keys.sign(signed.as_bytes()), Some(signature));
    }

    #[test]
    fn what_was_not_signed_so_is_refused() {
        let jwt = hmac(b"secret");
        let good = jwt.make("u", 7, 0).expect("signed");
        assert!(jwt.find(&good, 0).is_some());
        let parts: Vec<&str> = good.split('.').collect();
        let header = |text: &str| BASE64.encode(text);
        let root = BASE64.encode(r#"{"exp":9999999999,"revision":9,"username":"root"}"#);
        let signed = |header: &str, claims: &str| {
            let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
            let signature = jwt.keys.sign(message.as_bytes()).expect("a secret");
            format!("{message}.{}", BASE64.encode(signature))
        };
        let hs256 = r#"{"alg":"HS256"}"#;
        assert!(jwt.find(&signed(hs256, r#"{"exp":9,"revision":1,"username":"u"}"#), 0).is_some());
        for token in [
            String::new(),
            "a.b.c".to_owned(),
            parts[..2].join("."),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{root}.{}", parts[0], parts[2]),
            format!("{}.{root}.", header(r#"{"alg":"none"}"#)),
            format!("{}.{}.{}", header(r#"{"alg":"HS512"}"#), parts[1], parts[2]),
            hmac(b"other").make("u", 7, 0).expect("signed"),
            signed(r#"{"alg":"HS384"}"#, r#"{"exp":9,"revision":1,"username":"u"}"#),
            signed(hs256, r#"{"exp":"9999999999","revision":1,"username":"u"}"#),
            signed(hs256, r#"{"revision":1,"username":"u"}"#),
            signed(hs256, r#"{"exp":9,"username":"u"}"#),
            signed(hs256, r#"{"exp":9,"revision":1}"#),
            signed(hs256, "nonsense"),
            "x".repeat(TOKEN_BYTES + 1),
        ] {
            assert_eq!(jwt.find(&token, 0), None, "{token}");
        }
    }
}
