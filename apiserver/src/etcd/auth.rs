//! Service Auth, for a store without users: authentication is off and can't be turned on.
//!
//! What etcd answers when no user and no role exists is answered in the same words; what would
//! make one is refused.

use std::rc::Rc;

use mainstay_proto::auth as proto;
use mainstay_proto::auth::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse,
    AuthStatusRequest, AuthStatusResponse, AuthenticateRequest, AuthenticateResponse,
};

use super::Door;
use super::errors::{self, EtcdError};
use crate::net::grpc::Status;

const NO_USERS: &str = "mainstay has no etcd users and roles yet: protect the port with \
                        client certificates (--client-cert-auth) or by binding it to localhost";

pub(super) async fn status(
    door: Rc<Door>,
    _request: AuthStatusRequest,
) -> Result<AuthStatusResponse, Status> {
    let header = Some(door.header(door.store.revision()));
    Ok(AuthStatusResponse { header, enabled: false, auth_revision: 1 })
}

pub(super) async fn enable(
    _door: Rc<Door>,
    _request: AuthEnableRequest,
) -> Result<AuthEnableResponse, Status> {
    Err(errors::ROOT_USER_NOT_FOUND.into())
}

pub(super) async fn disable(
    door: Rc<Door>,
    _request: AuthDisableRequest,
) -> Result<AuthDisableResponse, Status> {
    Ok(AuthDisableResponse { header: Some(door.header(door.store.revision())) })
}

pub(super) async fn authenticate(
    _door: Rc<Door>,
    _request: AuthenticateRequest,
) -> Result<AuthenticateResponse, Status> {
    Err(errors::AUTH_NOT_ENABLED.into())
}

pub(super) async fn user_list(
    door: Rc<Door>,
    _request: proto::AuthUserListRequest,
) -> Result<proto::AuthUserListResponse, Status> {
    let header = Some(door.header(door.store.revision()));
    Ok(proto::AuthUserListResponse { header, users: Vec::new() })
}

pub(super) async fn role_list(
    door: Rc<Door>,
    _request: proto::AuthRoleListRequest,
) -> Result<proto::AuthRoleListResponse, Status> {
    let header = Some(door.header(door.store.revision()));
    Ok(proto::AuthRoleListResponse { header, roles: Vec::new() })
}

pub(super) async fn user_add(
    _door: Rc<Door>,
    request: proto::AuthUserAddRequest,
) -> Result<proto::AuthUserAddResponse, Status> {
    Err(refuse_new(&request.name, errors::USER_EMPTY))
}

pub(super) async fn role_add(
    _door: Rc<Door>,
    request: proto::AuthRoleAddRequest,
) -> Result<proto::AuthRoleAddResponse, Status> {
    Err(refuse_new(&request.name, errors::ROLE_EMPTY))
}

fn refuse_new(name: &str, empty: EtcdError) -> Status {
    if name.is_empty() { empty.into() } else { errors::unimplemented(NO_USERS) }
}

/// Methods that name a user or a role which can't exist.
macro_rules! not_found {
    ($($name:ident($request:ident) -> $response:ident: $error:ident;)*) => {$(
        pub(super) async fn $name(
            _door: Rc<Door>,
            _request: proto::$request,
        ) -> Result<proto::$response, Status> {
            Err(errors::$error.into())
        }
    )*};
}

not_found! {
    user_get(AuthUserGetRequest) -> AuthUserGetResponse: USER_NOT_FOUND;
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse: USER_NOT_FOUND;
    user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse:
        USER_NOT_FOUND;
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse: USER_NOT_FOUND;
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse: USER_NOT_FOUND;
    role_get(AuthRoleGetRequest) -> AuthRoleGetResponse: ROLE_NOT_FOUND;
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse: ROLE_NOT_FOUND;
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse:
        ROLE_NOT_FOUND;
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse:
        ROLE_NOT_FOUND;
}
