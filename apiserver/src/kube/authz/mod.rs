//! Who may do what. For now: members of `system:masters` everything, everybody else may ask how
//! the server is and which version, and, once authenticated, what it serves.

use crate::kube::authn::{AUTHENTICATED_GROUP, MASTERS_GROUP, User};
use crate::kube::request::path::RequestInfo;
use crate::kube::status::{ApiError, Named};

/// Refuses what the user may not do, in kube-apiserver's words.
pub fn authorize(user: &User, info: &RequestInfo) -> Result<(), ApiError> {
    if user.is_in(MASTERS_GROUP) || may_read_path(user, info) {
        Ok(())
    } else {
        Err(refusal(user, info))
    }
}

/// Refuses an impersonation by a user who may not do everything anyway.
pub fn authorize_impersonation(user: &User, wanted: &User) -> Result<(), ApiError> {
    if user.is_in(MASTERS_GROUP) {
        return Ok(());
    }
    let users = Named { group: "", kind: "users" };
    let why = format!(
        "User \"{}\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
        user.name
    );
    Err(ApiError::forbidden(users, &wanted.name, &why))
}

/// What the roles `system:public-info-viewer` and `system:discovery` allow.
fn may_read_path(user: &User, info: &RequestInfo) -> bool {
    const PUBLIC: [&str; 5] = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    const DISCOVERY: [&str; 3] = ["/api", "/apis", "/openapi"];
    if info.is_resource || info.verb != "get" {
        return false;
    }
    let below = |root: &str| {
        info.path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PUBLIC.contains(&info.path.as_str())
        || (user.is_in(AUTHENTICATED_GROUP) && DISCOVERY.iter().any(|root| below(root)))
}

fn refusal(user: &User, info: &RequestInfo) -> ApiError {
    if !info.is_resource {
        return ApiError::forbidden_path(format!(
            "forbidden: User \"{}\" cannot {} path \"{}\"",
            user.name, info.verb, info.path
        ));
    }
    let place = if info.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", info.namespace)
    };
    let why = format!(
        "User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
        user.name,
        info.verb,
        info.resource_and_subresource(),
        info.group
    );
    let resource = Named { group: &info.group, kind: &info.resource };
    ApiError::forbidden(resource, &info.name, &why)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::kube::request::path::parse;

    fn user(name: &str, group: &str) -> User {
        User { name: name.to_owned(), groups: vec![group.to_owned()] }
    }

    #[test]
    fn who_may_what() {
        let admin = user("admin", MASTERS_GROUP);
        let alice = user("alice", AUTHENTICATED_GROUP);
        let nobody = User::anonymous();
        for (user, path, allowed) in [
            (&admin, "/api/v1/secrets", true),
            (&alice, "/api/v1/secrets", false),
            (&alice, "/apis/apps/v1", true),
            (&alice, "/version", true),
            (&alice, "/metrics", false),
            (&nobody, "/livez", true),
            (&nobody, "/livez/ping", false),
            (&nobody, "/apis", false),
        ] {
            let info = parse(&Method::GET, path, false, None);
            assert_eq!(authorize(user, &info).is_ok(), allowed, "{} {path}", user.name);
        }
    }

    #[test]
    fn refusals_have_the_recorded_texts() {
        let alice = user("alice", "dev");
        for (path, expected) in [
            ("/", "forbidden: User \"alice\" cannot get path \"/\""),
            (
                "/api/v1/namespaces",
                "namespaces is forbidden: User \"alice\" cannot list resource \"namespaces\" in API group \"\" at the cluster scope",
            ),
            (
                "/apis/apps/v1/namespaces/n/deployments/d/scale",
                "deployments.apps \"d\" is forbidden: User \"alice\" cannot get resource \"deployments/scale\" in API group \"apps\" in the namespace \"n\"",
            ),
        ] {
            let info = parse(&Method::GET, path, false, None);
            assert_eq!(authorize(&alice, &info).unwrap_err().status().message, expected);
        }
    }
}
