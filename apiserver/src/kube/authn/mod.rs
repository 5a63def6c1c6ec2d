//! Who sends a request: the subject of a verified client certificate, or nobody in particular.

pub mod accounts;
mod certificate;
pub mod tokens;

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::kube::status::{ApiError, quoted};
use crate::net::ConnectionInfo;

pub const ANONYMOUS: &str = "system:anonymous";
pub const UNAUTHENTICATED_GROUP: &str = "system:unauthenticated";
pub const AUTHENTICATED_GROUP: &str = "system:authenticated";
/// What the names of service accounts begin with.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// Members may do everything.
pub const MASTERS_GROUP: &str = "system:masters";

/// Who sends a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    pub fn anonymous() -> User {
        User {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED_GROUP.to_owned()],
            ..User::default()
        }
    }

    /// The server itself.
    pub fn server() -> User {
        User {
            name: "system:apiserver".to_owned(),
            groups: vec![MASTERS_GROUP.to_owned()],
            ..User::default()
        }
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// Who sends a request, as far as that can be told without asking anybody.
#[derive(Debug, PartialEq, Eq)]
pub enum Credential {
    User(User),
    /// A token, yet to be checked.
    Token(String),
}

/// Reads the credential of a request: a verified certificate counts more than a token.
pub fn credential(
    connection: &ConnectionInfo,
    headers: &HeaderMap,
) -> Result<Credential, ApiError> {
    if let Some(leaf) = connection.peer_certificates.first() {
        let mut user = certificate::user(leaf)?;
        user.groups.push(AUTHENTICATED_GROUP.to_owned());
        return Ok(Credential::User(user));
    }
    let authorization = headers.get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let (scheme, token) = authorization.unwrap_or("").split_once(' ').unwrap_or_default();
    Ok(match scheme.eq_ignore_ascii_case("bearer") {
        true => Credential::Token(token.trim().to_owned()),
        false => Credential::User(User::anonymous()),
    })
}

/// The user that a request wants to act as; `None` if it says nothing of the kind. Whether it may is
/// authorization's business. A wish that can't be read is refused: taken for none, it would run with
/// all that its sender may do.
pub fn impersonated(headers: &HeaderMap) -> Result<Option<User>, ApiError> {
    let mut wish = Wish::default();
    for (name, value) in headers {
        let known = ["impersonate-user", "impersonate-group", "impersonate-uid"];
        let extra = name.as_str().strip_prefix("impersonate-extra-");
        if extra.is_none() && !known.contains(&name.as_str()) {
            continue;
        }
        let Ok(text) = std::str::from_utf8(value.as_bytes()) else {
            return Err(ApiError::bad_request(format!("the header {name} is not UTF-8 text")));
        };
        wish.add(name.as_str(), extra, text);
    }
    wish.user()
}

/// What the headers say about the user to act as.
#[derive(Default)]
struct Wish<'a> {
    name: Option<&'a str>,
    uid: Option<&'a str>,
    groups: Vec<&'a str>,
    extra: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Wish<'a> {
    fn add(&mut self, header: &str, extra: Option<&'a str>, text: &'a str) {
        match (header, extra) {
            (_, Some(key)) => self.extra.entry(key).or_default().push(text),
            ("impersonate-group", None) => self.groups.push(text),
            ("impersonate-uid", None) => self.uid = self.uid.or(Some(text)),
            _ => self.name = self.name.or(Some(text)),
        }
    }

    fn user(self) -> Result<Option<User>, ApiError> {
        let name = self.name.unwrap_or("");
        let uid = self.uid.unwrap_or("");
        if name.is_empty() {
            let nothing = uid.is_empty() && self.groups.is_empty() && self.extra.is_empty();
            return if nothing { Ok(None) } else { Err(self.nameless()) };
        }
        let mut groups: Vec<String> = self.groups.into_iter().map(str::to_owned).collect();
        if groups.is_empty()
            && let Some(account) = name.strip_prefix(SERVICE_ACCOUNT_PREFIX)
        {
            let namespace = account.split(':').next().unwrap_or("");
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        if name == ANONYMOUS {
            groups.push(UNAUTHENTICATED_GROUP.to_owned());
        } else if !groups.iter().any(|group| group == AUTHENTICATED_GROUP) {
            groups.push(AUTHENTICATED_GROUP.to_owned());
        }
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        let extra = self.extra.into_iter().map(|(key, texts)| (key.to_owned(), owned(texts)));
        let (name, uid) = (name.to_owned(), uid.to_owned());
        Ok(Some(User { name, uid, groups, extra: extra.collect() }))
    }

    /// kube-apiserver shows the wish as Go prints it.
    fn nameless(&self) -> ApiError {
        let list = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            format!("[]string{{{}}}", texts.join(", "))
        };
        let groups = match self.groups.is_empty() {
            true => "[]string(nil)".to_owned(),
            false => list(&self.groups),
        };
        let fields =
            self.extra.iter().map(|(key, texts)| format!("{}:{}", quoted(key), list(texts)));
        let extra = match self.extra.is_empty() {
            true => "map[string][]string(nil)".to_owned(),
            false => {
                format!("map[string][]string{{{}}}", fields.collect::<Vec<_>>().join(", "))
            }
        };
        ApiError::bad_request(format!(
            "requested &user.DefaultInfo{{Name:\"\", UID:{}, Groups:{groups}, Extra:{extra}}} without impersonating a user name",
            quoted(self.uid.unwrap_or(""))
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_certificate_or_token_one_is_anonymous() {
        let connection = ConnectionInfo::default();
        let mut headers = HeaderMap::new();
        let anonymous = Ok(Credential::User(User::anonymous()));
        assert_eq!(credential(&connection, &headers), anonymous);
        headers.insert("authorization", "Bearer x".parse().unwrap());
        let token = Ok(Credential::Token("x".to_owned()));
        assert_eq!(credential(&connection, &headers), token);
    }

    #[test]
    fn impersonation_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(impersonated(&headers), Ok(None));
        headers.insert("impersonate-user", "alice".parse().unwrap());
        headers.append("impersonate-group", "dev".parse().unwrap());
        headers.append("impersonate-group", "ops".parse().unwrap());
        let user = impersonated(&headers).unwrap().unwrap();
        assert_eq!(user.name, "alice");
        assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
    }
    #[test]
    fn a_wish_that_is_incomplete_or_unreadable_is_refused() {
        let nameless = |fields: &str| {
            format!(
                "requested &user.DefaultInfo{{Name:\"\", {fields}}} without impersonating a user name"
            )
        };
        for (name, value, expected) in [
            (
                "impersonate-user",
                b"al\xffice".as_slice(),
                "the header impersonate-user is not UTF-8 text".to_owned(),
            ),
            (
                "impersonate-group",
                b"\x80",
                "the header impersonate-group is not UTF-8 text".to_owned(),
            ),
            (
                "impersonate-group",
                b"g",
                nameless("UID:\"\", Groups:[]string{\"g\"}, Extra:map[string][]string(nil)"),
            ),
            (
                "impersonate-uid",
                b"x",
                nameless("UID:\"x\", Groups:[]string(nil), Extra:map[string][]string(nil)"),
            ),
            (
                "impersonate-extra-scopes",
                b"x",
                nameless(
                    "UID:\"\", Groups:[]string(nil), Extra:map[string][]string{\"scopes\":[]string{\"x\"}}",
                ),
            ),
        ] {
            let mut headers = HeaderMap::new();
            let name: http::HeaderName = name.parse().unwrap();
            headers.insert(name, http::HeaderValue::from_bytes(value).unwrap());
            let error = impersonated(&headers).unwrap_err();
            assert_eq!(error.code().as_u16(), 400);
            assert_eq!(error.status().message, expected);
        }
        let mut headers = HeaderMap::new();
        let name = http::HeaderValue::from_bytes("zoë".as_bytes()).unwrap();
        headers.insert("impersonate-user", name);
        assert_eq!(impersonated(&headers).unwrap().unwrap().name, "zoë");
    }
}
