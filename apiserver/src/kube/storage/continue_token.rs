//! Continue tokens of lists, in kube-apiserver's format: base64 of
//! `{"v":"meta.k8s.io/v1","rv":<revision>,"start":"<rest of a key>"}`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::kube::status::ApiError;

const VERSION: &str = "meta.k8s.io/v1";

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "v", default)]
    version: String,
    #[serde(rename = "rv", default)]
    revision: i64,
    #[serde(default)]
    start: String,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContinueToken {
    /// The revision of the pages before; negative for "the newest there is".
    pub revision: i64,
    /// The first key of the page.
    pub start_key: String,
}

impl ContinueToken {
    /// `directory` is the list's: the token holds what follows it.
    pub fn encode(&self, directory: &str) -> String {
        let start = self.start_key.strip_prefix(directory).unwrap_or(&self.start_key).to_owned();
        let wire = Wire { version: VERSION.to_owned(), revision: self.revision, start };
        let json = serde_json::to_string(&wire).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(json)
    }

    pub fn decode(token: &str, directory: &str) -> Result<ContinueToken, ApiError> {
        let refused = |why: String| {
            ApiError::bad_request(format!(
                "invalid continue token: continue key is not valid: {why}"
            ))
        };
        let json = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|error| {
            let offset = match error {
                base64::DecodeError::InvalidByte(offset, _) => offset,
                _ => token.len(),
            };
            refused(format!("illegal base64 data at input byte {offset}"))
        })?;
        let wire: Wire = serde_json::from_slice(&json)
            .map_err(|error| refused(json_complaint(&json, &error)))?;
        if wire.version != VERSION {
            return Err(refused(
                "server does not recognize this encoded version".to_owned()
                    + &format!(" {:?}", wire.version),
            ));
        }
        if wire.revision == 0 {
            return Err(refused(
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned(),
            ));
        }
        let start = wire.start.trim_start_matches('/');
        if start.is_empty() || start.split('/').any(|part| part == ".." || part == ".") {
            return Err(refused(format!("invalid start key: {}", wire.start)));
        }
        Ok(ContinueToken { revision: wire.revision, start_key: format!("{directory}{start}") })
    }
}

fn json_complaint(json: &[u8], error: &serde_json::Error) -> String {
    match json.first() {
        Some(byte) if !byte.is_ascii_whitespace() && *byte != b'{' => {
            format!("invalid character '{}' looking for beginning of value", char::from(*byte))
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back() {
        let token = ContinueToken { revision: 7, start_key: "/registry/pods/n/a\0".to_owned() };
        let text = token.encode("/registry/pods/");
        assert_eq!(ContinueToken::decode(&text, "/registry/pods/"), Ok(token));
    }

    #[test]
    fn nonsense_is_refused_with_the_known_text() {
        let error = ContinueToken::decode("abc", "/registry/pods/").unwrap_err();
        assert_eq!(
            error.status().message,
            "invalid continue token: continue key is not valid: invalid character 'i' looking for beginning of value"
        );
        for start in ["", "../secrets/x"] {
            let token = ContinueToken { revision: 7, start_key: start.to_owned() }.encode("/d/");
            assert!(ContinueToken::decode(&token, "/d/").is_err(), "{start}");
        }
    }
}
