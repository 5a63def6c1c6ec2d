//! Who sends a request: the subject of a verified client certificate, or nobody in particular.

mod certificate;

use http::HeaderMap;

use crate::kube::status::ApiError;
use crate::net::ConnectionInfo;

pub const ANONYMOUS: &str = "system:anonymous";
pub const UNAUTHENTICATED_GROUP: &str = "system:unauthenticated";
pub const AUTHENTICATED_GROUP: &str = "system:authenticated";
/// Members may do everything.
pub const MASTERS_GROUP: &str = "system:masters";

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

impl User {
    pub fn anonymous() -> User {
        User { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED_GROUP.to_owned()] }
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// Finds out who sends a request. Tokens are not known here: one that is given is refused.
pub fn authenticate(connection: &ConnectionInfo, headers: &HeaderMap) -> Result<User, ApiError> {
    if let Some(leaf) = connection.peer_certificates.first() {
        let mut user = certificate::user(leaf)?;
        user.groups.push(AUTHENTICATED_GROUP.to_owned());
        return Ok(user);
    }
    let authorization = headers.get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    match authorization {
        Some(value) if value.to_ascii_lowercase().starts_with("bearer ") => {
            Err(ApiError::unauthorized())
        }
        _ => Ok(User::anonymous()),
    }
}

/// The user that a request wants to act as. Whether it may is authorization's business.
pub fn impersonated(headers: &HeaderMap) -> Option<User> {
    let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
    let name = headers.get("impersonate-user").and_then(text).filter(|name| !name.is_empty())?;
    let mut groups: Vec<String> =
        headers.get_all("impersonate-group").iter().filter_map(text).collect();
    if name == ANONYMOUS {
        groups.push(UNAUTHENTICATED_GROUP.to_owned());
    } else if !groups.iter().any(|group| group == AUTHENTICATED_GROUP) {
        groups.push(AUTHENTICATED_GROUP.to_owned());
    }
    Some(User { name, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_certificate_or_token_one_is_anonymous() {
        let connection = ConnectionInfo::default();
        let mut headers = HeaderMap::new();
        assert_eq!(authenticate(&connection, &headers), Ok(User::anonymous()));
        headers.insert("authorization", "Bearer x".parse().unwrap());
        assert_eq!(authenticate(&connection, &headers).unwrap_err().code().as_u16(), 401);
    }

    #[test]
    fn impersonation_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(impersonated(&headers), None);
        headers.insert("impersonate-user", "alice".parse().unwrap());
        headers.append("impersonate-group", "dev".parse().unwrap());
        headers.append("impersonate-group", "ops".parse().unwrap());
        let user = impersonated(&headers).unwrap();
        assert_eq!(user.name, "alice");
        assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
    }
}
