//! Service Auth: users, roles, permissions, and tokens for passwords.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use mainstay_engine::StoreError;
use mainstay_engine::runtime::{run_blocking, timer};
use mainstay_proto::ResponseHeader;
use mainstay_proto::auth as proto;
use mainstay_proto::auth::{
    AuthDisableRequest, AuthEnableRequest, AuthStatusRequest, AuthStatusResponse,
    AuthenticateRequest, AuthenticateResponse,
};

use super::document;
use super::guard::Caller;
use super::need::{Need, Who};
use super::state::AuthState;
use crate::etcd::errors::{self, EtcdError, from_store};
use crate::etcd::{Door, limits};
use crate::net::grpc::Status;

/// Times that a login is begun anew because the password changed while it was compared.
const LOGIN_ATTEMPTS: usize = 8;

fn header(door: &Door) -> Option<ResponseHeader> {
    Some(door.header(door.store.revision()))
}

/// Makes a change of users and roles: on the newest state, which nobody else changes meanwhile, if
/// the caller is root in that state. Once it is committed, every core knows.
async fn change(
    door: &Door,
    caller: &Caller,
    apply: impl Fn(&mut AuthState) -> Result<(), EtcdError>,
) -> Result<Option<ResponseHeader>, Status> {
    for _ in 0..limits::AUTH_CHANGE_ATTEMPTS {
        let newest = door.auth.newest().await?;
        let view = &newest.view;
        if view.state.enabled {
            let identity = door.auth.identify(caller, view)?;
            view.check(identity.as_ref(), &Need::who(Who::Root))?;
        }
        let mut state = view.state.clone();
        apply(&mut state)?;
        if state == view.state {
            return Ok(header(door));
        }
        let content = document::encode(&state);
        if content.len() > limits::AUTH_DOCUMENT_BYTES
            && newest.content.as_ref().is_none_or(|before| before.len() < content.len())
        {
            return Err(errors::AUTH_TOO_LARGE.into());
        }
        match door.store.swap_document(document::NAME, newest.content, content).await {
            Ok(()) => return Ok(header(door)),
            Err(StoreError::DocumentChanged) => timer::sleep(limits::AUTH_CHANGE_WAIT).await,
            Err(error) => return Err(from_store(error)),
        }
    }
    Err(errors::TOO_MANY_REQUESTS.into())
}

pub(in crate::etcd) async fn status(
    door: Rc<Door>,
    _request: AuthStatusRequest,
) -> Result<AuthStatusResponse, Status> {
    let view = door.auth.view().await?;
    let AuthState { enabled, revision, .. } = view.state;
    Ok(AuthStatusResponse { header: header(&door), enabled, auth_revision: revision })
}

/// A token for a password.
pub(in crate::etcd) async fn authenticate(
    door: Rc<Door>,
    request: AuthenticateRequest,
) -> Result<AuthenticateResponse, Status> {
    let options = door.auth.options.clone();
    for _ in 0..LOGIN_ATTEMPTS {
        let view = door.auth.view().await?;
        let user = match view.state.password_of(&request.name) {
            Ok(user) => Some(user),
            Err(errors::AUTH_FAILED) => None,
            Err(error) => return Err(error.into()),
        };
        let hashed = user.map(|user| user.password.clone());
        if !options.passwords.matches(request.password.clone(), hashed).await? {
            return Err(errors::AUTH_FAILED.into());
        }
        // Comparing took long. A token speaks for the password that was compared: it must not be
        // younger than the one that is good now.
        let newest = door.auth.view().await?;
        let since = |state: &AuthState| {
            let user = state.users.get(&request.name).map(|user| user.password_revision);
            (user, state.tokens_since, state.enabled)
        };
        if since(&newest.state) != since(&view.state) {
            continue;
        }
        door.auth.agree_on_secret().await?;
        let (name, revision) = (request.name.clone(), newest.state.revision);
        let token = run_blocking(move || options.tokens.make(&name, revision)).await;
        let token = token.map_err(|_| errors::TOO_MANY_REQUESTS)??;
        return Ok(AuthenticateResponse { header: header(&door), token });
    }
    Err(errors::TOO_MANY_REQUESTS.into())
}

/// The hash that a request brings or asks for. Hashes come in base64.
async fn hashed(door: &Door, password: String, hash: &str) -> Result<Bytes, Status> {
    if password.is_empty() && !hash.is_empty() {
        let hash = BASE64.decode(hash).map_err(|_| errors::NO_PASSWORD_USER)?;
        return Ok(hash.into());
    }
    Ok(door.auth.options.passwords.hash(password).await?)
}

/// No password is a password, too, unless the options say that there is none.
pub(in crate::etcd) async fn user_add(
    door: Rc<Door>,
    caller: Rc<Caller>,
    request: proto::AuthUserAddRequest,
) -> Result<proto::AuthUserAddResponse, Status> {
    let proto::AuthUserAddRequest { name, password, options, hashed_password } = request;
    let password = match options.is_some_and(|options| options.no_password) {
        true => None,
        false => Some(hashed(&door, password, &hashed_password).await?),
    };
    let header = change(&door, &caller, |state| state.add_user(&name, password.as_ref())).await?;
    Ok(proto::AuthUserAddResponse { header })
}

/// As in etcd, without a new password no password is good any more.
pub(in crate::etcd) async fn user_change_password(
    door: Rc<Door>,
    caller: Rc<Caller>,
    request: proto::AuthUserChangePasswordRequest,
) -> Result<proto::AuthUserChangePasswordResponse, Status> {
    let proto::AuthUserChangePasswordRequest { name, password, hashed_password } = request;
    let password = match password.is_empty() && hashed_password.is_empty() {
        true => Bytes::new(),
        false => hashed(&door, password, &hashed_password).await?,
    };
    let header = change(&door, &caller, |state| state.change_password(&name, &password)).await?;
    Ok(proto::AuthUserChangePasswordResponse { header })
}

pub(in crate::etcd) async fn user_get(
    door: Rc<Door>,
    request: proto::AuthUserGetRequest,
) -> Result<proto::AuthUserGetResponse, Status> {
    let roles = door.auth.view().await?.state.roles_of(&request.name)?;
    Ok(proto::AuthUserGetResponse { header: header(&door), roles })
}

pub(in crate::etcd) async fn user_list(
    door: Rc<Door>,
    _request: proto::AuthUserListRequest,
) -> Result<proto::AuthUserListResponse, Status> {
    let users = door.auth.view().await?.state.users.keys().cloned().collect();
    Ok(proto::AuthUserListResponse { header: header(&door), users })
}

pub(in crate::etcd) async fn role_get(
    door: Rc<Door>,
    request: proto::AuthRoleGetRequest,
) -> Result<proto::AuthRoleGetResponse, Status> {
    let permissions = door.auth.view().await?.state.permissions_of(&request.role)?;
    Ok(proto::AuthRoleGetResponse { header: header(&door), permissions })
}

pub(in crate::etcd) async fn role_list(
    door: Rc<Door>,
    _request: proto::AuthRoleListRequest,
) -> Result<proto::AuthRoleListResponse, Status> {
    let roles = door.auth.view().await?.state.roles.keys().cloned().collect();
    Ok(proto::AuthRoleListResponse { header: header(&door), roles })
}

/// Methods that are one change of the state.
macro_rules! changes {
    ($($name:ident($request:ty) -> $response:ident: |$state:ident, $ask:ident| $apply:expr;)*) => {$(
        pub(in crate::etcd) async fn $name(
            door: Rc<Door>,
            caller: Rc<Caller>,
            $ask: $request,
        ) -> Result<proto::$response, Status> {
            let header = change(&door, &caller, |$state| $apply).await?;
            Ok(proto::$response { header })
        }
    )*};
}

changes! {
    enable(AuthEnableRequest) -> AuthEnableResponse: |state, _request| state.enable();
    disable(AuthDisableRequest) -> AuthDisableResponse: |state, _request| {
        state.disable();
        Ok(())
    };
    user_delete(proto::AuthUserDeleteRequest) -> AuthUserDeleteResponse:
        |state, request| state.delete_user(&request.name);
    user_grant_role(proto::AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse:
        |state, request| state.grant_role(&request.user, &request.role);
    user_revoke_role(proto::AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse:
        |state, request| state.revoke_role(&request.name, &request.role);
    role_add(proto::AuthRoleAddRequest) -> AuthRoleAddResponse:
        |state, request| state.add_role(&request.name);
    role_delete(proto::AuthRoleDeleteRequest) -> AuthRoleDeleteResponse:
        |state, request| state.delete_role(&request.role);
    role_grant_permission(proto::AuthRoleGrantPermissionRequest)
        -> AuthRoleGrantPermissionResponse:
        |state, request| state.grant_permission(&request.name, request.permission.as_ref());
    role_revoke_permission(proto::AuthRoleRevokePermissionRequest)
        -> AuthRoleRevokePermissionResponse:
        |state, request| state.revoke_permission(&request.role, &request.key, &request.range_end);
}
