//! Users and roles as Mainstay's store keeps them: one document, by the name [`NAME`].

use bytes::Bytes;
use mainstay_proto::auth::{Permission, UserAddOptions};
use prost::Message;

use super::Auth;
use super::message::{Role, User};

/// The document's name in the store.
pub const NAME: &[u8] = b"etcd-auth";

/// The etcd door writes and reads the same: its tests hold the two against each other.
#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(bool, tag = "1")]
    enabled: bool,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(message, repeated, tag = "4")]
    users: Vec<UserRecord>,
    #[prost(message, repeated, tag = "5")]
    roles: Vec<RoleRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct UserRecord {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    password: Bytes,
    #[prost(bool, tag = "3")]
    no_password: bool,
    #[prost(string, repeated, tag = "5")]
    roles: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct RoleRecord {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    permissions: Vec<Permission>,
}

/// The document of these users and roles.
///
/// # Errors
/// When a name is not UTF-8, which no client can have made it.
pub fn encode(auth: &Auth) -> Result<Bytes, String> {
    let name = |what: &str, name: &Bytes| {
        String::from_utf8(name.to_vec())
            .map_err(|_| format!("the {what} name {} is not UTF-8", name.escape_ascii()))
    };
    let user = |user: &User| {
        Ok(UserRecord {
            name: name("user", &user.name)?,
            password: user.password.clone(),
            no_password: user.options.is_some_and(|options| options.no_password),
            roles: user.roles.clone(),
        })
    };
    let role = |role: &Role| {
        let permissions = role.permissions.clone();
        Ok(RoleRecord { name: name("role", &role.name)?, permissions })
    };
    let document = Document {
        enabled: auth.enabled,
        revision: auth.revision.max(1),
        users: auth.users.iter().map(user).collect::<Result<_, String>>()?,
        roles: auth.roles.iter().map(role).collect::<Result<_, String>>()?,
    };
    Ok(document.encode_to_vec().into())
}

/// The users and roles of a document.
///
/// # Errors
/// When the bytes are no such document.
pub fn decode(content: &Bytes) -> Result<Auth, String> {
    let document = Document::decode(content.clone())
        .map_err(|error| format!("the store's document of users and roles: {error}"))?;
    let user = |record: UserRecord| User {
        name: record.name.into(),
        password: record.password,
        roles: record.roles,
        options: Some(UserAddOptions { no_password: record.no_password }),
    };
    let role =
        |record: RoleRecord| Role { name: record.name.into(), permissions: record.permissions };
    Ok(Auth {
        enabled: document.enabled,
        revision: document.revision,
        users: document.users.into_iter().map(user).collect(),
        roles: document.roles.into_iter().map(role).collect(),
    })
}
