//! ResourceQuota: what a namespace may use together. The amounts in use stand in each quota's
//! status; before a write is refused by them they are counted anew, since nobody else may have taken
//! out what is gone.

mod usage;

use std::future::Future;
use std::pin::Pin;

use serde_json::{Value, json};

use self::usage::{Amounts, add, has_scopes, is_in_scope, usage};
use crate::kube::authn::User;
use crate::kube::limits::UPDATE_TRIES;
use crate::kube::object::{self, Object};
use crate::kube::registry::context::WriteContext;
use crate::kube::registry::update::Saved;
use crate::kube::registry::{Registry, Target, storage_error};
use crate::kube::request::options::WriteOptions;
use crate::kube::schema::quantity::Quantity;
use crate::kube::status::ApiError;

/// Who writes the amounts in use.
const MANAGER: &str = "kube-apiserver";
/// Objects that are counted at a time.
const CHUNK: usize = 500;

/// Takes what a new object uses (or a changed one uses more than before) from all quotas that count
/// it, or refuses it.
pub(super) async fn charge(
    registry: &Registry,
    target: &Target,
    new: &Object,
    old: Option<&Object>,
    context: &WriteContext,
) -> Result<(), ApiError> {
    let row = &target.entry.resource;
    if !row.namespaced || !target.subresource.is_empty() {
        return Ok(());
    }
    let Some(quotas) = registry.catalog.entry("", "v1", "resourcequotas") else { return Ok(()) };
    let directory = quotas.directory(&target.namespace);
    let directory = directory.as_bytes();
    let page = registry.storage.range(directory, directory, 0, 0).await.map_err(storage_error)?;
    for stored in &page.items {
        let quota = registry.decode(quotas, stored)?;
        let of_quota = Target {
            entry: quotas.clone(),
            namespace: target.namespace.clone(),
            name: object::name(&quota).to_owned(),
            subresource: "status".to_owned(),
        };
        if is_new_usage(target, &quota, new, old) {
            charge_one(registry, target, &of_quota, new, old, context).await?;
        }
    }
    Ok(())
}

fn counts(target: &Target, quota: &Object, object: &Object) -> bool {
    let is_pod = target.entry.resource.group.is_empty() && target.entry.resource.plural == "pods";
    !has_scopes(quota) || (is_pod && is_in_scope(quota, object))
}

/// What the write uses more than before, of what the quota limits.
fn delta(target: &Target, quota: &Object, new: &Object, old: Option<&Object>) -> Amounts {
    let row = &target.entry.resource;
    let before = old.map(|old| usage(row, old)).unwrap_or_default();
    let hard = hard_of(quota);
    usage(row, new)
        .into_iter()
        .filter(|(name, _)| hard.contains_key(name))
        .map(|(name, amount)| match before.get(&name) {
            Some(before) => (name, amount.minus(before)),
            None => (name, amount),
        })
        .filter(|(_, amount)| amount.is_positive())
        .collect()
}

fn is_new_usage(target: &Target, quota: &Object, new: &Object, old: Option<&Object>) -> bool {
    counts(target, quota, new) && !delta(target, quota, new, old).is_empty()
}

fn hard_of(quota: &Object) -> Amounts {
    read(object::at(quota, &["spec", "hard"]))
}

fn read(amounts: Option<&Value>) -> Amounts {
    let members = amounts.and_then(Value::as_object).into_iter().flatten();
    members
        .filter_map(|(name, text)| Some((name.clone(), Quantity::parse(text.as_str()?).ok()?)))
        .collect()
}

async fn charge_one(
    registry: &Registry,
    target: &Target,
    of_quota: &Target,
    new: &Object,
    old: Option<&Object>,
    context: &WriteContext,
) -> Result<(), ApiError> {
    let mut is_counted = false;
    for _ in 0..UPDATE_TRIES {
        let Some((quota, _)) = registry.find(of_quota).await? else { return Ok(()) };
        let delta = delta(target, &quota, new, old);
        let hard = hard_of(&quota);
        let known = read(object::at(&quota, &["status", "used"]));
        let mut used = known.clone();
        let mut exceeded = exceeded_of(&delta, &used, &hard);
        let is_settled = hard.keys().all(|name| known.contains_key(name));
        if (!exceeded.is_empty() || !is_settled) && !is_counted {
            is_counted = true;
            used = count(registry, &quota, &of_quota.namespace).await?;
            exceeded = exceeded_of(&delta, &used, &hard);
        }
        if !exceeded.is_empty() {
            let why = refusal(&of_quota.name, &exceeded, &delta, &used, &hard);
            return Err(ApiError::forbidden(target.resource(), object::name(new), &why));
        }
        if context.options.dry_run {
            return Ok(());
        }
        for (name, amount) in &delta {
            add(&mut used, name, amount.clone());
        }
        if save(registry, of_quota, quota, &used, context).await? {
            return Ok(());
        }
    }
    Err(ApiError::modified(of_quota.resource(), &of_quota.name))
}

/// The names of what would be more than is allowed.
fn exceeded_of(delta: &Amounts, used: &Amounts, hard: &Amounts) -> Vec<String> {
    let exceeds = |(name, amount): &(&String, &Quantity)| {
        let after = match used.get(*name) {
            Some(used) => used.plus(amount),
            None => (*amount).clone(),
        };
        hard.get(*name).is_some_and(|hard| after.compare(hard).is_gt())
    };
    delta.iter().filter(exceeds).map(|(name, _)| name.clone()).collect()
}

fn refusal(
    quota: &str,
    exceeded: &[String],
    delta: &Amounts,
    used: &Amounts,
    hard: &Amounts,
) -> String {
    let list = |amounts: &Amounts| {
        let zero = "0".to_owned();
        let texts: Vec<String> = exceeded
            .iter()
            .map(|name| {
                let amount = amounts.get(name).map(Quantity::to_string);
                format!("{name}={}", amount.unwrap_or_else(|| zero.clone()))
            })
            .collect();
        texts.join(",")
    };
    format!(
        "exceeded quota: {quota}, requested: {}, used: {}, limited: {}",
        list(delta),
        list(used),
        list(hard)
    )
}

/// Counts what is in use of all that a quota limits.
async fn count(registry: &Registry, quota: &Object, namespace: &str) -> Result<Amounts, ApiError> {
    let hard = hard_of(quota);
    let zero = Quantity::parse("0").expect("zero is a quantity");
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), zero.clone())).collect();
    for entry in registry.catalog.all() {
        let row = &entry.resource;
        let is_counted = row.namespaced && row.stored && row.gvk() == row.stored_as;
        let possible = usage(row, &Object::new());
        let core = ["pods", "services", "persistentvolumeclaims"];
        let is_wide = row.group.is_empty() && core.contains(&row.plural.as_str());
        if !is_counted || !(is_wide || possible.keys().any(|name| hard.contains_key(name))) {
            continue;
        }
        let target = Target {
            entry: entry.clone(),
            namespace: namespace.to_owned(),
            name: String::new(),
            subresource: String::new(),
        };
        let directory = entry.directory(namespace);
        let mut start = directory.clone().into_bytes();
        loop {
            let page = registry.storage.range(directory.as_bytes(), &start, CHUNK, 0).await;
            let page = page.map_err(storage_error)?;
            for stored in &page.items {
                let object = registry.decode(&entry, stored)?;
                if counts(&target, quota, &object) {
                    for (name, amount) in usage(row, &object) {
                        if hard.contains_key(&name) {
                            add(&mut used, &name, amount);
                        }
                    }
                }
            }
            let Some(last) = page.items.last().filter(|_| page.remaining > 0) else { break };
            start = last.key.to_vec();
            start.push(0);
        }
    }
    Ok(used)
}

type Saving<'a> = Pin<Box<dyn Future<Output = Result<Saved, ApiError>> + 'a>>;

/// Writes the amounts in use; `false` when somebody else has changed the quota.
async fn save(
    registry: &Registry,
    of_quota: &Target,
    mut quota: Object,
    used: &Amounts,
    context: &WriteContext,
) -> Result<bool, ApiError> {
    let hard = object::at(&quota, &["spec", "hard"]).cloned().unwrap_or_else(|| json!({}));
    let status = object::map_mut(&mut quota, "status");
    status.insert("hard".to_owned(), hard);
    let texts: Object =
        used.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect();
    status.insert("used".to_owned(), Value::Object(texts));
    let context = WriteContext {
        options: WriteOptions::default(),
        field_manager: MANAGER.to_owned(),
        now: context.now,
        warnings: Default::default(),
        user: User::server(),
    };
    // Boxed, since writing the quota is a write like that which it is for.
    let saving: Saving<'_> = Box::pin(registry.update(of_quota, quota, &context));
    match saving.await {
        Err(error) if error.status().reason == "Conflict" => Ok(false),
        result => result.map(|_| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(texts: &[(&str, &str)]) -> Amounts {
        let read = |text: &str| Quantity::parse(text).expect("a quantity");
        texts.iter().map(|(name, text)| ((*name).to_owned(), read(text))).collect()
    }

    #[test]
    fn refusals_tell_what_is_exceeded() {
        let delta = amounts(&[("services", "1"), ("services.nodeports", "1")]);
        let used = amounts(&[("services", "1"), ("services.nodeports", "1")]);
        let hard = amounts(&[("services", "2"), ("services.nodeports", "1")]);
        let exceeded = exceeded_of(&delta, &used, &hard);
        assert_eq!(
            refusal("q", &exceeded, &delta, &used, &hard),
            "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1"
        );
        assert!(exceeded_of(&amounts(&[("cpu", "1")]), &used, &hard).is_empty());
    }
}
