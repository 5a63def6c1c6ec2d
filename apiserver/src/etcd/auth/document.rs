//! The document of the store that holds users and roles, as bytes.

use bytes::Bytes;
use mainstay_proto::auth::Permission;
use prost::Message;

use super::state::{AuthState, Role, User};

/// Its name in the store.
pub(super) const NAME: &[u8] = b"etcd-auth";

/// Field numbers are for ever: documents lie on disks.
#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(bool, tag = "1")]
    enabled: bool,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(uint64, tag = "3")]
    tokens_since: u64,
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
    #[prost(uint64, tag = "4")]
    password_revision: u64,
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

pub(super) fn encode(state: &AuthState) -> Bytes {
    let users = state.users.iter().map(|(name, user)| UserRecord {
        name: name.clone(),
        password: user.password.clone(),
        no_password: user.no_password,
        password_revision: user.password_revision,
        roles: user.roles.iter().cloned().collect(),
    });
    let roles = state.roles.iter().map(|(name, role)| RoleRecord {
        name: name.clone(),
        permissions: role.permissions.clone(),
    });
    let document = Document {
        enabled: state.enabled,
        revision: state.revision,
        tokens_since: state.tokens_since,
        users: users.collect(),
        roles: roles.collect(),
    };
    document.encode_to_vec().into()
}

/// The state that a document holds; without one nobody has made a user yet.
///
/// # Errors
/// When the bytes are no such document.
pub(super) fn decode(content: Option<&Bytes>) -> Result<AuthState, String> {
    let Some(content) = content else { return Ok(AuthState::default()) };
    let document = Document::decode(&content[..]).map_err(|error| {
        format!("the store's document of users and roles can't be read: {error}")
    })?;
    let users = document.users.into_iter().map(|record| {
        let user = User {
            password: record.password,
            no_password: record.no_password,
            password_revision: record.password_revision,
            roles: record.roles.into_iter().collect(),
        };
        (record.name, user)
    });
    let roles = document.roles.into_iter().map(|record| {
        let mut permissions = record.permissions;
        permissions
            .sort_by(|one, other| (&one.key, &one.range_end).cmp(&(&other.key, &other.range_end)));
        (record.name, Role { permissions })
    });
    Ok(AuthState {
        enabled: document.enabled,
        revision: document.revision,
        tokens_since: document.tokens_since,
        users: users.collect(),
        roles: roles.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> AuthState {
        let mut state = AuthState::default();
        let permission = |kind, key: &'static str, range_end: &'static str| {
            Some(Permission { kind, key: key.into(), range_end: range_end.into() })
        };
        state.add_user("root", Some(&Bytes::from_static(b"$2b$hash"))).unwrap();
        state.add_user("certificate", None).unwrap();
        state.add_role("r").unwrap();
        state.grant_permission("r", permission(2, "b", "c").as_ref()).unwrap();
        state.grant_permission("r", permission(0, "b", "").as_ref()).unwrap();
        state.grant_permission("r", permission(1, "a", "\0").as_ref()).unwrap();
        state.grant_role("certificate", "r").unwrap();
        state.grant_role("root", "root").unwrap();
        state.enable().unwrap();
        state
    }

    #[test]
    fn a_document_gives_back_what_it_was_given() {
        assert_eq!(decode(None), Ok(AuthState::default()));
        let mut state = everything();
        assert_eq!(decode(Some(&encode(&state))), Ok(state.clone()));
        state.disable();
        assert_eq!(decode(Some(&encode(&state))), Ok(state));
    }

    /// Tools that turn etcd's files into data directories and back write and read the same.
    #[test]
    fn tools_write_and_read_the_same_document() {
        use mainstay_bbolt::etcd::document as tools;
        assert_eq!(NAME, tools::NAME);
        let state = everything();
        let theirs = tools::decode(&encode(&state)).expect("readable");
        assert!(theirs.enabled && theirs.revision == state.revision && theirs.users.len() == 2);
        let back = decode(Some(&tools::encode(&theirs).expect("writable"))).expect("readable");
        // What they leave out voids tokens that only a running server has given out.
        let mut expected = state;
        expected.users.values_mut().for_each(|user| user.password_revision = 0);
        assert_eq!(back, expected);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let error = decode(Some(&Bytes::from_static(b"\xff\xff"))).unwrap_err();
        assert!(error.contains("users and roles can't be read"), "{error}");
    }
}
