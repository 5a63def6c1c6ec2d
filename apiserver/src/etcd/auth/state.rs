//! Users, roles and permissions, and what each administrative request makes of them: pure data.
//!
//! Rules, errors and their order are etcd's. Every change counts the revision up by one, but for
//! turning authentication on, which changes nobody's rights.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mainstay_proto::auth::{Permission, PermissionType};

use super::permission;
use crate::etcd::errors::{self, EtcdError};
use crate::etcd::limits;

/// The user without whom authentication can't be on, and the role that may do everything.
pub(super) const ROOT: &str = "root";

/// Everything that is known of users and roles.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AuthState {
    pub(super) enabled: bool,
    pub(super) revision: u64,
    /// Tokens made at an earlier revision are void: authentication was off meanwhile.
    pub(super) tokens_since: u64,
    pub(super) users: BTreeMap<String, User>,
    pub(super) roles: BTreeMap<String, Role>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct User {
    /// As bcrypt writes it; empty for one that no password matches.
    pub(super) password: Bytes,
    /// May be a client certificate's name alone.
    pub(super) no_password: bool,
    /// The revision that made the user or last changed the password: older tokens are void.
    pub(super) password_revision: u64,
    pub(super) roles: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Role {
    /// By key and range end.
    pub(super) permissions: Vec<Permission>,
}

impl Default for AuthState {
    /// Before anybody made a user: etcd begins to count at 1.
    fn default() -> AuthState {
        let (users, roles) = (BTreeMap::new(), BTreeMap::new());
        AuthState { enabled: false, revision: 1, tokens_since: 0, users, roles }
    }
}

impl User {
    pub(super) fn is_root(&self) -> bool {
        self.roles.contains(ROOT)
    }
}

impl AuthState {
    fn user(&mut self, name: &str) -> Result<&mut User, EtcdError> {
        self.users.get_mut(name).ok_or(errors::USER_NOT_FOUND)
    }

    fn role(&mut self, name: &str) -> Result<&mut Role, EtcdError> {
        self.roles.get_mut(name).ok_or(errors::ROLE_NOT_FOUND)
    }

    /// Whether a token that was made for a user at a revision is good: there still is that user, with
    /// that password.
    pub(super) fn is_token_good(&self, user: &str, made_at: u64) -> bool {
        let user = self.users.get(user);
        user.is_some_and(|user| made_at >= user.password_revision.max(self.tokens_since))
    }

    fn changed(&mut self) {
        self.revision += 1;
    }

    pub(super) fn enable(&mut self) -> Result<(), EtcdError> {
        if self.enabled {
            return Ok(());
        }
        let root = self.users.get(ROOT).ok_or(errors::ROOT_USER_NOT_FOUND)?;
        if !root.is_root() {
            return Err(errors::ROOT_ROLE_NOT_GRANTED);
        }
        self.enabled = true;
        Ok(())
    }

    pub(super) fn disable(&mut self) {
        if self.enabled {
            self.enabled = false;
            self.changed();
            self.tokens_since = self.revision;
        }
    }

    /// `password` as bcrypt writes it; `None` for a user without one.
    pub(super) fn add_user(
        &mut self,
        name: &str,
        password: Option<&Bytes>,
    ) -> Result<(), EtcdError> {
        if name.is_empty() {
            return Err(errors::USER_EMPTY);
        }
        if name.len() > limits::AUTH_NAME_BYTES {
            return Err(errors::USER_NAME_TOO_LONG);
        }
        if self.users.contains_key(name) {
            return Err(errors::USER_EXISTS);
        }
        self.changed();
        let user = User {
            password: password.cloned().unwrap_or_default(),
            no_password: password.is_none(),
            password_revision: self.revision,
            roles: BTreeSet::new(),
        };
        self.users.insert(name.to_owned(), user);
        Ok(())
    }

    pub(super) fn delete_user(&mut self, name: &str) -> Result<(), EtcdError> {
        if self.enabled && name == ROOT {
            return Err(errors::INVALID_AUTH_MANAGEMENT);
        }
        self.users.remove(name).ok_or(errors::USER_NOT_FOUND)?;
        self.changed();
        Ok(())
    }

    /// A user without a password stays one; tokens made before are void in any case.
    pub(super) fn change_password(
        &mut self,
        name: &str,
        password: &Bytes,
    ) -> Result<(), EtcdError> {
        let revision = self.revision + 1;
        let user = self.user(name)?;
        if !user.no_password {
            user.password = password.clone();
        }
        user.password_revision = revision;
        self.changed();
        Ok(())
    }

    /// The role root need not have been made.
    pub(super) fn grant_role(&mut self, name: &str, role: &str) -> Result<(), EtcdError> {
        let role_exists = role == ROOT || self.roles.contains_key(role);
        let user = self.user(name)?;
        if !role_exists {
            return Err(errors::ROLE_NOT_FOUND);
        }
        if user.roles.insert(role.to_owned()) {
            self.changed();
        }
        Ok(())
    }

    pub(super) fn revoke_role(&mut self, name: &str, role: &str) -> Result<(), EtcdError> {
        if self.enabled && name == ROOT && role == ROOT {
            return Err(errors::INVALID_AUTH_MANAGEMENT);
        }
        if !self.user(name)?.roles.remove(role) {
            return Err(errors::ROLE_NOT_GRANTED);
        }
        self.changed();
        Ok(())
    }

    pub(super) fn add_role(&mut self, name: &str) -> Result<(), EtcdError> {
        if name.is_empty() {
            return Err(errors::ROLE_EMPTY);
        }
        if name.len() > limits::AUTH_NAME_BYTES {
            return Err(errors::ROLE_NAME_TOO_LONG);
        }
        if self.roles.contains_key(name) {
            return Err(errors::ROLE_EXISTS);
        }
        self.roles.insert(name.to_owned(), Role::default());
        self.changed();
        Ok(())
    }

    /// Users lose the role with it.
    pub(super) fn delete_role(&mut self, name: &str) -> Result<(), EtcdError> {
        if self.enabled && name == ROOT {
            return Err(errors::INVALID_AUTH_MANAGEMENT);
        }
        self.roles.remove(name).ok_or(errors::ROLE_NOT_FOUND)?;
        for user in self.users.values_mut() {
            user.roles.remove(name);
        }
        self.changed();
        Ok(())
    }

    /// A permission on the same keys is replaced.
    pub(super) fn grant_permission(
        &mut self,
        name: &str,
        permission: Option<&Permission>,
    ) -> Result<(), EtcdError> {
        let permission = permission.ok_or(errors::PERMISSION_NOT_GIVEN)?;
        if !permission::is_valid(&permission.key, &permission.range_end) {
            return Err(errors::INVALID_AUTH_MANAGEMENT);
        }
        let permissions = &mut self.role(name)?.permissions;
        let keys = |one: &Permission| (one.key.clone(), one.range_end.clone());
        match permissions.binary_search_by_key(&keys(permission), keys) {
            Ok(place) => permissions[place] = permission.clone(),
            Err(place) => permissions.insert(place, permission.clone()),
        }
        self.changed();
        Ok(())
    }

    pub(super) fn revoke_permission(
        &mut self,
        name: &str,
        key: &Bytes,
        range_end: &Bytes,
    ) -> Result<(), EtcdError> {
        let permissions = &mut self.role(name)?.permissions;
        let before = permissions.len();
        permissions.retain(|one| one.key != *key || one.range_end != *range_end);
        if permissions.len() == before {
            return Err(errors::PERMISSION_NOT_GRANTED);
        }
        self.changed();
        Ok(())
    }

    pub(super) fn roles_of(&self, user: &str) -> Result<Vec<String>, EtcdError> {
        let user = self.users.get(user).ok_or(errors::USER_NOT_FOUND)?;
        Ok(user.roles.iter().cloned().collect())
    }

    /// Those of root are told as all keys, whatever was granted to it.
    pub(super) fn permissions_of(&self, role: &str) -> Result<Vec<Permission>, EtcdError> {
        let found = self.roles.get(role).ok_or(errors::ROLE_NOT_FOUND)?;
        if role == ROOT {
            let kind = PermissionType::ReadWrite.into();
            let range_end = Bytes::from_static(&[0]);
            return Ok(vec![Permission { kind, key: Bytes::new(), range_end }]);
        }
        Ok(found.permissions.clone())
    }

    /// The password that a user has to show, as bcrypt writes it.
    pub(super) fn password_of(&self, user: &str) -> Result<&User, EtcdError> {
        if !self.enabled {
            return Err(errors::AUTH_NOT_ENABLED);
        }
        match self.users.get(user) {
            None => Err(errors::AUTH_FAILED),
            Some(user) if user.no_password => Err(errors::NO_PASSWORD_USER),
            Some(user) => Ok(user),
        }
    }
}
