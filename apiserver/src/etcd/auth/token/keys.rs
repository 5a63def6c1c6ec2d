//! Keys of signed tokens: which algorithm goes with which key, and what PEM files they come from.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};

/// How a method signs.
enum Algorithm {
    Hmac(hmac::Algorithm),
    Rsa(&'static dyn VerificationAlgorithm, &'static dyn RsaEncoding),
    Ecdsa(&'static dyn VerificationAlgorithm, &'static EcdsaSigningAlgorithm),
    Ed25519,
}

/// By the names of RFC 7518 and RFC 8037. The method `none` is none.
fn algorithm(method: &str) -> Option<Algorithm> {
    use Algorithm::{Ecdsa, Hmac, Rsa};
    Some(match method {
        "HS256" => Hmac(hmac::HMAC_SHA256),
        "HS384" => Hmac(hmac::HMAC_SHA384),
        "HS512" => Hmac(hmac::HMAC_SHA512),
        "RS256" => Rsa(&signature::RSA_PKCS1_2048_8192_SHA256, &signature::RSA_PKCS1_SHA256),
        "RS384" => Rsa(&signature::RSA_PKCS1_2048_8192_SHA384, &signature::RSA_PKCS1_SHA384),
        "RS512" => Rsa(&signature::RSA_PKCS1_2048_8192_SHA512, &signature::RSA_PKCS1_SHA512),
        "PS256" => Rsa(&signature::RSA_PSS_2048_8192_SHA256, &signature::RSA_PSS_SHA256),
        "PS384" => Rsa(&signature::RSA_PSS_2048_8192_SHA384, &signature::RSA_PSS_SHA384),
        "PS512" => Rsa(&signature::RSA_PSS_2048_8192_SHA512, &signature::RSA_PSS_SHA512),
        "ES256" => {
            Ecdsa(&signature::ECDSA_P256_SHA256_FIXED, &signature::ECDSA_P256_SHA256_FIXED_SIGNING)
        }
        "ES384" => {
            Ecdsa(&signature::ECDSA_P384_SHA384_FIXED, &signature::ECDSA_P384_SHA384_FIXED_SIGNING)
        }
        "ES512" => {
            Ecdsa(&signature::ECDSA_P521_SHA512_FIXED, &signature::ECDSA_P521_SHA512_FIXED_SIGNING)
        }
        "EdDSA" => Algorithm::Ed25519,
        _ => return None,
    })
}

pub(super) enum Signer {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The key or keys of one method.
pub(super) enum Keys {
    Secret(Box<hmac::Key>),
    Pair {
        /// `None` for a server that checks tokens and makes none.
        signer: Option<Signer>,
        verifier: UnparsedPublicKey<Vec<u8>>,
    },
}

impl Keys {
    /// From the contents of key files: PEM, but for HMAC's secret, which is taken as it is.
    pub(super) fn new(
        method: &str,
        public: Option<&[u8]>,
        private: Option<&[u8]>,
    ) -> Result<Keys, String> {
        let algorithm = algorithm(method).ok_or_else(|| {
            format!(
                "sign-method {method:?} is none of HS256, RS256, PS256, ES256 (and the longer ones \
                 of each) and EdDSA"
            )
        })?;
        let (verification, signer) = match algorithm {
            Algorithm::Hmac(algorithm) => {
                let secret =
                    private.ok_or("this sign-method needs priv-key=, the shared secret")?;
                if secret.is_empty() {
                    return Err("priv-key: the file is empty".to_owned());
                }
                return Ok(Keys::Secret(Box::new(hmac::Key::new(algorithm, secret))));
            }
            Algorithm::Rsa(verification, encoding) => {
                let signer = private.map(rsa).transpose()?;
                (verification, signer.map(|pair| Signer::Rsa(Box::new(pair), encoding)))
            }
            Algorithm::Ecdsa(verification, signing) => {
                let signer = private.map(|pem| ecdsa(pem, signing)).transpose()?;
                (verification, signer.map(Signer::Ecdsa))
            }
            Algorithm::Ed25519 => {
                let signer = private.map(ed25519).transpose()?;
                let verification: &'static dyn VerificationAlgorithm = &signature::ED25519;
                (verification, signer.map(Signer::Ed25519))
            }
        };
        let own = signer.as_ref().map(Signer::public_key).transpose()?;
        let given = public.map(public_key).transpose()?;
        if let (Some(own), Some(given)) = (&own, &given)
            && own != given
        {
            return Err("pub-key and priv-key are not of one pair".to_owned());
        }
        let public =
            own.or(given).ok_or("jwt needs priv-key= or, to check tokens only, pub-key=")?;
        Ok(Keys::Pair { signer, verifier: UnparsedPublicKey::new(verification, public) })
    }

    /// `None` for who may not sign.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Keys::Secret(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Keys::Pair { signer, .. } => signer.as_ref()?.sign(message),
        }
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Keys::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Keys::Pair { verifier, .. } => verifier.verify(message, signature).is_ok(),
        }
    }
}

impl Signer {
    /// As the `SubjectPublicKeyInfo` of X.509.
    fn public_key(&self) -> Result<Vec<u8>, String> {
        let encoded: Result<PublicKeyX509Der<'_>, _> = match self {
            Signer::Rsa(pair, _) => pair.public_key().as_der(),
            Signer::Ecdsa(pair) => pair.public_key().as_der(),
            Signer::Ed25519(pair) => pair.public_key().as_der(),
        };
        let encoded = encoded.map_err(|_| "priv-key: its public key can't be encoded")?;
        Ok(encoded.as_ref().to_vec())
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Signer::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Signer::Ecdsa(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Signer::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| format!("priv-key: no private key in the PEM data: {error}"))
}

fn unusable(error: impl std::fmt::Display) -> String {
    format!("priv-key: can't be used with this sign-method: {error}")
}

fn rsa(pem: &[u8]) -> Result<RsaKeyPair, String> {
    match private_key(pem)? {
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        key => RsaKeyPair::from_pkcs8(key.secret_der()),
    }
    .map_err(unusable)
}

fn ecdsa(pem: &[u8], signing: &'static EcdsaSigningAlgorithm) -> Result<EcdsaKeyPair, String> {
    match private_key(pem)? {
        PrivateKeyDer::Sec1(key) => {
            EcdsaKeyPair::from_private_key_der(signing, key.secret_sec1_der())
        }
        key => EcdsaKeyPair::from_pkcs8(signing, key.secret_der()),
    }
    .map_err(unusable)
}

fn ed25519(pem: &[u8]) -> Result<Ed25519KeyPair, String> {
    // Without the check: the older form of such files has no public key to hold it against.
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(private_key(pem)?.secret_der()).map_err(unusable)
}

/// A public key, by itself or in a certificate, as the `SubjectPublicKeyInfo` of X.509.
fn public_key(pem: &[u8]) -> Result<Vec<u8>, String> {
    if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(pem) {
        return Ok(key.as_ref().to_vec());
    }
    let refuse = |reason: String| {
        format!("pub-key: no PUBLIC KEY and no CERTIFICATE in the PEM data: {reason}")
    };
    let certificate =
        CertificateDer::from_pem_slice(pem).map_err(|error| refuse(error.to_string()))?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificate)
        .map_err(|error| refuse(error.to_string()))?;
    Ok(certificate.public_key().raw.to_vec())
}
