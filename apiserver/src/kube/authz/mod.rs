//! Who may do what: members of `system:masters` everything, everybody else what roles allow.

mod bootstrap;
pub mod escalation;
pub mod follow;
pub mod node;
pub mod rbac;
pub mod reviews;
mod rule;

pub use bootstrap::objects as bootstrap_objects;

use self::rbac::Policy;
use crate::kube::authn::{MASTERS_GROUP, SERVICE_ACCOUNT_PREFIX, User};
use crate::kube::request::path::RequestInfo;
use crate::kube::status::{ApiError, Named};

/// What somebody wants to do: a verb on a resource, or on a path that is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub name: &'a str,
    /// Empty for the whole cluster.
    pub namespace: &'a str,
    /// Empty for a resource.
    pub path: &'a str,
}

impl<'a> Attributes<'a> {
    pub fn of(info: &'a RequestInfo) -> Attributes<'a> {
        if !info.is_resource {
            return Attributes { verb: info.verb, path: &info.path, ..Attributes::default() };
        }
        Attributes {
            verb: info.verb,
            group: &info.group,
            resource: &info.resource,
            subresource: &info.subresource,
            name: &info.name,
            namespace: &info.namespace,
            path: "",
        }
    }
}

/// Why something is allowed, or which roles were looked for in vain.
pub fn decide(policy: &Policy, user: &User, asked: &Attributes<'_>) -> Result<String, Vec<String>> {
    if user.is_in(MASTERS_GROUP) {
        return Ok(String::new());
    }
    policy.allows(user, asked)
}

/// Refuses what the user may not do, in kube-apiserver's words. `reason` is what another authorizer
/// has to say, if anything.
pub fn authorize(
    policy: &Policy,
    user: &User,
    info: &RequestInfo,
    reason: &str,
) -> Result<(), ApiError> {
    let decided = decide(policy, user, &Attributes::of(info));
    decided.map(drop).map_err(|missing| {
        let missing = if missing.is_empty() { String::new() } else { missing_text(&missing) };
        let reasons = [reason.to_owned(), missing];
        let reasons: Vec<String> = reasons.into_iter().filter(|text| !text.is_empty()).collect();
        refusal(user, info, info.verb, &reasons.join(", "))
    })
}

/// Refuses an impersonation of whom the user may not act as, or not for this.
pub fn authorize_impersonation(
    policy: &Policy,
    user: &User,
    wanted: &User,
    info: &RequestInfo,
) -> Result<(), ApiError> {
    let may = |asked: &Attributes<'_>| decide(policy, user, asked).is_ok();
    if user.is_in(MASTERS_GROUP) || may_become(&may, "impersonate", wanted) {
        return Ok(());
    }
    // Constrained impersonation: whom, and what for, are two questions.
    let mode = match wanted.name.starts_with(SERVICE_ACCOUNT_PREFIX) {
        true => "serviceaccount",
        false => "user-info",
    };
    let verb = format!("impersonate-on:{mode}:{}", info.verb);
    let purpose = Attributes { verb: &verb, ..Attributes::of(info) };
    if may(&purpose) && may_become(&may, &format!("impersonate:{mode}"), wanted) {
        return Ok(());
    }
    Err(refusal(user, info, &verb, ""))
}

/// Whether somebody may act as a user, with all that makes up that user.
fn may_become(may: &dyn Fn(&Attributes<'_>) -> bool, verb: &str, wanted: &User) -> bool {
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let group = if verb == "impersonate" { "" } else { AUTHENTICATION };
    let base = Attributes { verb, group, ..Attributes::default() };
    let account = wanted.name.strip_prefix(SERVICE_ACCOUNT_PREFIX);
    let named = match account.and_then(|account| account.split_once(':')) {
        Some((namespace, name)) => {
            may(&Attributes { resource: "serviceaccounts", namespace, name, ..base })
        }
        None => may(&Attributes { resource: "users", name: &wanted.name, ..base }),
    };
    // Groups that come with every user, or with a service account, need no leave.
    let implied = |group: &str| group.starts_with("system:") && group != MASTERS_GROUP;
    let mut groups = wanted.groups.iter().filter(|group| !implied(group));
    let own = Attributes { group: AUTHENTICATION, ..base };
    named
        && groups.all(|name| may(&Attributes { resource: "groups", name, ..base }))
        && (wanted.uid.is_empty()
            || may(&Attributes { resource: "uids", name: &wanted.uid, ..own }))
        && wanted.extra.iter().all(|(key, values)| {
            values.iter().all(|name| {
                may(&Attributes { resource: "userextras", subresource: key, name, ..own })
            })
        })
}

fn missing_text(missing: &[String]) -> String {
    match missing {
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    }
}

fn refusal(user: &User, info: &RequestInfo, verb: &str, reason: &str) -> ApiError {
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if !info.is_resource {
        return ApiError::forbidden_path(format!(
            "forbidden: User \"{}\" cannot {verb} path \"{}\"{reason}",
            user.name, info.path
        ));
    }
    let place = if info.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", info.namespace)
    };
    let why = format!(
        "User \"{}\" cannot {verb} resource \"{}\" in API group \"{}\" {place}{reason}",
        user.name,
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

    /// What every cluster begins with.
    fn policy() -> Policy {
        let policy = Policy::default();
        for object in bootstrap_objects() {
            policy.put(&crate::kube::registry::into_object(object));
        }
        policy
    }

    fn user(name: &str, group: &str) -> User {
        User { name: name.to_owned(), groups: vec![group.to_owned()], ..User::default() }
    }

    #[test]
    fn who_may_what() {
        let admin = user("admin", MASTERS_GROUP);
        let alice = user("alice", "system:authenticated");
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
            assert_eq!(
                authorize(&policy(), user, &info, "").is_ok(),
                allowed,
                "{} {path}",
                user.name
            );
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
            assert_eq!(
                authorize(&policy(), &alice, &info, "").unwrap_err().status().message,
                expected
            );
        }
    }
}
