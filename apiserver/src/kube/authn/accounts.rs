//! Service accounts as users: what a token says is held against what there is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::tokens::TokenIssuer;
use super::{AUTHENTICATED_GROUP, SERVICE_ACCOUNT_PREFIX, User};
use crate::kube::authz::node::node_of;
use crate::kube::object::{self, Object};
use crate::kube::registry::context::{Now, WriteContext};
use crate::kube::registry::{Registry, Target, managed};
use crate::kube::schema::Schema;
use crate::kube::status::{ApiError, FieldError, Named};

const REQUEST: Named<'_> = Named { group: "authentication.k8s.io", kind: "TokenRequest" };
const REQUEST_TYPE: &str = "io.k8s.api.authentication.v1.TokenRequest";
const EXPIRATION_SECONDS: i64 = 3600;
const EXPIRATION_MIN_SECONDS: i64 = 600;
const EXPIRATION_MAX_SECONDS: i64 = 1 << 32;
/// What a token can be bound to.
const KINDS: [(&str, &str); 3] = [("Pod", "pods"), ("Secret", "secrets"), ("Node", "nodes")];

/// Why a token is of no use.
#[derive(Debug)]
pub enum Refusal {
    /// It is none of ours, has ended, or is of somebody who is gone.
    Invalid,
    /// It is for others.
    Audience { own: Vec<String> },
}

/// The user of a token that is meant for one of these audiences, and the audiences that fit.
pub async fn user_of_token(
    registry: &Registry,
    issuer: &TokenIssuer,
    token: &str,
    audiences: &[&str],
    now: Now,
) -> Result<(User, Vec<String>), Refusal> {
    let claims = issuer.verify(token, now.unix_seconds()).ok_or(Refusal::Invalid)?;
    let own: Vec<String> = claims["aud"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    let fitting: Vec<String> =
        own.iter().filter(|own| audiences.contains(&own.as_str())).cloned().collect();
    if fitting.is_empty() {
        return Err(Refusal::Audience { own });
    }
    let bound = &claims["kubernetes.io"];
    let text = |path: &str| bound.pointer(path).and_then(Value::as_str).unwrap_or("");
    let namespace = text("/namespace");
    let name = text("/serviceaccount/name");
    if !is_there(registry, "serviceaccounts", namespace, name, text("/serviceaccount/uid")).await {
        return Err(Refusal::Invalid);
    }
    let jti = claims["jti"].as_str().unwrap_or("");
    let key = |name: &str| format!("authentication.kubernetes.io/{name}");
    let mut extra = BTreeMap::from([(key("credential-id"), vec![format!("JTI={jti}")])]);
    for (kind, plural) in KINDS {
        let field = kind.to_lowercase();
        let (name, uid) = (text(&format!("/{field}/name")), text(&format!("/{field}/uid")));
        if name.is_empty() {
            continue;
        }
        let is_owner = kind != "Node" || text("/pod/name").is_empty();
        let place = if kind == "Node" { "" } else { namespace };
        if is_owner && !is_there(registry, plural, place, name, uid).await {
            return Err(Refusal::Invalid);
        }
        if kind != "Secret" {
            extra.insert(key(&format!("{field}-name")), vec![name.to_owned()]);
            extra.insert(key(&format!("{field}-uid")), vec![uid.to_owned()]);
        }
    }
    let user = User {
        name: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
        uid: text("/serviceaccount/uid").to_owned(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            AUTHENTICATED_GROUP.to_owned(),
        ],
        extra,
    };
    Ok((user, fitting))
}

fn target(registry: &Registry, plural: &str, namespace: &str, name: &str) -> Option<Target> {
    Some(Target {
        entry: registry.catalog.entry("", "v1", plural)?.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: String::new(),
    })
}

async fn is_there(
    registry: &Registry,
    plural: &str,
    namespace: &str,
    name: &str,
    uid: &str,
) -> bool {
    let Some(target) = target(registry, plural, namespace, name) else { return false };
    match registry.find(&target).await {
        Ok(Some((object, _))) => object::uid(&object) == uid,
        _ => false,
    }
}

/// Answers a `TokenRequest` for the service account of the target.
pub async fn request_token(
    registry: &Registry,
    issuer: &TokenIssuer,
    account: &Target,
    mut request: Object,
    context: &WriteContext,
) -> Result<Object, ApiError> {
    let (owner, _) = registry.load(account).await?;
    check_names(account, &request)?;
    complete(&mut request)?;
    check_node(account, &request, &context.user)?;
    let bound = bound_object(registry, account, &request).await?;
    let metadata = object::metadata_mut(&mut request);
    metadata.insert("name".to_owned(), account.name.as_str().into());
    metadata.insert("namespace".to_owned(), account.namespace.as_str().into());
    let schema = Schema::builtin();
    if let Some(type_id) = schema.type_named(REQUEST_TYPE) {
        managed::track_request(schema, type_id, "token", &mut request, context);
    }
    let spec = object::map_mut(&mut request, "spec");
    if object::list(spec, "audiences").is_empty() {
        spec.insert("audiences".to_owned(), json!([issuer.issuer()]));
    }
    let seconds = object::integer_at(&request, &["spec", "expirationSeconds"]);
    let now = context.now.unix_seconds();
    let mut private = json!({
        "namespace": account.namespace,
        "serviceaccount": {"name": account.name, "uid": object::uid(&owner)},
    });
    if let (Some(node), Some((_, pod))) = (node_of(&context.user), bound.first())
        && object::text_at(pod, &["spec", "nodeName"]) != node
    {
        let why = "node requested token bound to a pod scheduled on a different node";
        return Err(ApiError::forbidden(account.resource(), &account.name, why));
    }
    for (field, object) in bound {
        private[field] = json!({"name": object::name(&object), "uid": object::uid(&object)});
    }
    let claims = json!({
        "aud": request["spec"]["audiences"], "exp": now + seconds, "iat": now, "nbf": now,
        "iss": issuer.issuer(), "jti": registry.random.uuid(), "kubernetes.io": private,
        "sub": format!("{SERVICE_ACCOUNT_PREFIX}{}:{}", account.namespace, account.name),
    });
    let token = issuer.sign(&claims).ok_or_else(|| ApiError::internal("no random bytes"))?;
    let metadata = object::metadata_mut(&mut request);
    metadata.insert("uid".to_owned(), object::uid(&owner).into());
    metadata.insert("creationTimestamp".to_owned(), context.now.seconds().into());
    let end = context.now.seconds_after(seconds);
    request.insert("status".to_owned(), json!({"token": token, "expirationTimestamp": end}));
    Ok(request)
}

fn check_names(account: &Target, request: &Object) -> Result<(), ApiError> {
    let own = [
        ("name", account.name.as_str(), "must match the service account name if specified"),
        (
            "namespace",
            account.namespace.as_str(),
            "must match the service account namespace if specified",
        ),
    ];
    let errors: Vec<FieldError> = own
        .into_iter()
        .filter(|(field, wanted, _)| {
            let given = object::meta_text(request, field);
            !given.is_empty() && given != *wanted
        })
        .map(|(field, _, why)| {
            let given = object::meta_text(request, field);
            FieldError::invalid(format!("metadata.{field}"), given, why)
        })
        .collect();
    match errors.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(REQUEST, &account.name, &errors)),
    }
}

/// A kubelet gets tokens for its pods and for nothing else.
fn check_node(account: &Target, request: &Object, user: &User) -> Result<(), ApiError> {
    let text = |name: &str| object::text_at(request, &["spec", "boundObjectRef", name]);
    let why = match node_of(user) {
        None => return Ok(()),
        Some(_) if text("kind") != "Pod" => "node requested token not bound to a pod",
        Some(_) if text("uid").is_empty() => {
            "node requested token with a pod binding without a uid"
        }
        Some(_) => return Ok(()),
    };
    Err(ApiError::forbidden(account.resource(), &account.name, why))
}

/// Sets and checks what a client may leave out.
fn complete(request: &mut Object) -> Result<(), ApiError> {
    let spec = object::map_mut(request, "spec");
    if object::integer_at(spec, &["expirationSeconds"]) == 0 {
        spec.insert("expirationSeconds".to_owned(), EXPIRATION_SECONDS.into());
    }
    let seconds = object::integer_at(spec, &["expirationSeconds"]);
    let why = match seconds {
        ..EXPIRATION_MIN_SECONDS => "may not specify a duration less than 10 minutes",
        seconds if seconds > EXPIRATION_MAX_SECONDS => {
            "may not specify a duration larger than 2^32 seconds"
        }
        _ => return Ok(()),
    };
    let errors = [FieldError::invalid("spec.expirationSeconds", seconds, why)];
    Err(ApiError::invalid(REQUEST, "", &errors))
}

/// What a token is bound to: with it, the token ends. A pod's node is told along.
async fn bound_object(
    registry: &Registry,
    account: &Target,
    request: &Object,
) -> Result<Vec<(&'static str, Object)>, ApiError> {
    let text = |name: &str| object::text_at(request, &["spec", "boundObjectRef", name]);
    let (kind, version) = (text("kind"), text("apiVersion"));
    if kind.is_empty() {
        return Ok(Vec::new());
    }
    let known = KINDS.iter().find(|(own, _)| *own == kind && version == "v1");
    let Some((_, plural)) = known else {
        return Err(ApiError::bad_request(format!(
            "cannot bind token to object of type {version}, Kind={kind}"
        )));
    };
    let namespace = if kind == "Node" { "" } else { account.namespace.as_str() };
    let target = target(registry, plural, namespace, text("name"));
    let target = target.ok_or_else(ApiError::no_such_path)?;
    let (found, _) = registry.load(&target).await?;
    let uid = text("uid");
    if !uid.is_empty() && uid != object::uid(&found) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(target.resource(), &target.name, &why));
    }
    if kind != "Pod" {
        return Ok(vec![(if kind == "Node" { "node" } else { "secret" }, found)]);
    }
    let node = object::text_at(&found, &["spec", "nodeName"]).to_owned();
    let mut bound = vec![("pod", found)];
    if let Some(node) = self::target(registry, "nodes", "", &node)
        && let Some((node, _)) = registry.find(&node).await?
    {
        bound.push(("node", node));
    }
    Ok(bound)
}

/// Answers a `TokenReview`: whose token is it?
pub async fn review_token(
    registry: &Registry,
    issuer: &TokenIssuer,
    target: &Target,
    mut review: Object,
    context: &WriteContext,
) -> Result<Object, ApiError> {
    let token = object::text_at(&review, &["spec", "token"]).to_owned();
    if token.is_empty() {
        let why = "token is required for TokenReview in authentication";
        return Err(ApiError::bad_request(why));
    }
    let wanted = object::list_at(&review, &["spec", "audiences"]).iter();
    let wanted: Vec<String> = wanted.filter_map(Value::as_str).map(str::to_owned).collect();
    let mut audiences: Vec<&str> = wanted.iter().map(String::as_str).collect();
    if audiences.is_empty() {
        audiences.push(issuer.issuer());
    }
    let status = match user_of_token(registry, issuer, &token, &audiences, context.now).await {
        Ok((user, fitting)) => json!({
            "authenticated": true, "audiences": fitting,
            "user": crate::kube::authz::reviews::user_info(&user),
        }),
        Err(refusal) => {
            let list = |texts: &[String]| {
                texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" ")
            };
            let shown: Vec<String> = audiences.iter().map(|&text| text.to_owned()).collect();
            let error = match refusal {
                Refusal::Invalid => "invalid bearer token".to_owned(),
                Refusal::Audience { own } => format!(
                    "[invalid bearer token, token audiences [{}] is invalid for the target audiences [{}]]",
                    list(&own),
                    list(&shown)
                ),
            };
            json!({"user": {}, "error": error})
        }
    };
    review.remove("status");
    managed::track_update(target.entry.schema(), target, None, &mut review, context);
    review.insert("status".to_owned(), status);
    Ok(review)
}
