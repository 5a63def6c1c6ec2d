//! Role-based access control: roles and bindings as they are now, and what they allow.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use serde_json::Value;

use super::Attributes;
use super::rule::Rule;
use crate::kube::authn::User;
use crate::kube::object::{self, Object};
use crate::kube::resources::selector_matches;

/// What roles and bindings say, on one core; [`super::follow`] keeps it up to date.
#[derive(Debug, Default)]
pub struct Policy(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    /// By [`key`].
    roles: HashMap<String, Role>,
    bindings: HashMap<String, Rc<Binding>>,
    /// The keys of the bindings of a subject; those of one namespace stand together.
    by_subject: HashMap<String, BTreeSet<String>>,
}

#[derive(Debug)]
struct Role {
    rules: Rc<[Rule]>,
    labels: Object,
    /// The role is made of the cluster roles that one of these selectors selects.
    aggregates: Vec<Object>,
}

#[derive(Debug)]
struct Binding {
    kind: &'static str,
    /// With the namespace, if it has one.
    name: String,
    namespace: String,
    role_kind: String,
    role_name: String,
    subjects: Vec<Subject>,
}

#[derive(Debug)]
struct Subject {
    /// As [`subjects_of`] names a user's.
    key: String,
    /// `User "alice"`
    shown: String,
}

/// A rule that applies to a user, and why.
pub struct Grant<'a> {
    pub rule: &'a Rule,
    binding: &'a Binding,
    subject: &'a Subject,
}

impl Grant<'_> {
    /// As a reason of an access review.
    pub fn reason(&self) -> String {
        let Binding { kind, name, role_kind, role_name, .. } = self.binding;
        let subject = &self.subject.shown;
        format!("RBAC: allowed by {kind} \"{name}\" of {role_kind} \"{role_name}\" to {subject}")
    }
}

fn key(kind: &str, namespace: &str, name: &str) -> String {
    format!("{kind}/{namespace}/{name}")
}

/// The names under which bindings mean a user.
fn subjects_of(user: &User) -> impl Iterator<Item = String> + '_ {
    let groups = user.groups.iter().map(|group| format!("Group:{group}"));
    std::iter::once(format!("User:{}", user.name)).chain(groups)
}

impl Policy {
    /// Takes note of a role or a binding as it is now.
    pub fn put(&self, object: &Object) {
        let mut state = self.0.borrow_mut();
        let (namespace, name) = (object::namespace(object), object::name(object));
        match object::text(object, "kind") {
            kind @ ("Role" | "ClusterRole") => {
                let role = Role {
                    rules: Rule::read_all(object::list(object, "rules")).into(),
                    labels: object::labels(object).cloned().unwrap_or_default(),
                    aggregates: object::list_at(
                        object,
                        &["aggregationRule", "clusterRoleSelectors"],
                    )
                    .iter()
                    .filter_map(|selector| selector.as_object().cloned())
                    .collect(),
                };
                state.roles.insert(key(kind, namespace, name), role);
            }
            "RoleBinding" => state.bind("RoleBinding", namespace, name, object),
            "ClusterRoleBinding" => state.bind("ClusterRoleBinding", "", name, object),
            _ => {}
        }
    }

    /// Forgets a role or a binding.
    pub fn remove(&self, kind: &str, namespace: &str, name: &str) {
        let mut state = self.0.borrow_mut();
        let key = key(kind, namespace, name);
        state.roles.remove(&key);
        state.unbind(&key);
    }

    /// Forgets all of one kind but these, by namespace and name.
    pub fn retain(&self, kind: &str, known: &BTreeSet<(String, String)>) {
        let mut state = self.0.borrow_mut();
        let known: BTreeSet<String> =
            known.iter().map(|(namespace, name)| key(kind, namespace, name)).collect();
        let of_kind = format!("{kind}/");
        let gone: Vec<String> = (state.roles.keys().chain(state.bindings.keys()))
            .filter(|key| key.starts_with(&of_kind) && !known.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            state.roles.remove(&key);
            state.unbind(&key);
        }
    }

    /// Shows every rule that applies to a user in a namespace (none: the whole cluster only), until
    /// `see` says that it has seen enough. Gives the roles that bindings name and that are not there.
    pub fn visit(
        &self,
        user: &User,
        namespace: &str,
        see: &mut dyn FnMut(Grant<'_>) -> bool,
    ) -> Vec<String> {
        let state = self.0.borrow();
        let mut missing = Vec::new();
        for kind in ["ClusterRoleBinding/".to_owned(), format!("RoleBinding/{namespace}")] {
            if kind == "RoleBinding/" {
                continue;
            }
            let first = format!("{kind}/");
            for subject in subjects_of(user) {
                let Some(keys) = state.by_subject.get(&subject) else { continue };
                let keys = keys.range(first.clone()..).take_while(|key| key.starts_with(&first));
                for binding in keys.filter_map(|key| state.bindings.get(key)) {
                    let subject = binding.subjects.iter().find(|own| own.key == subject);
                    let Some(subject) = subject else { continue };
                    let Some(rules) = state.rules(binding) else {
                        missing.push(binding.missing_role());
                        continue;
                    };
                    if rules.iter().any(|rule| see(Grant { rule, binding, subject })) {
                        return missing;
                    }
                }
            }
        }
        missing
    }

    /// Why a request is allowed; otherwise the roles that were looked for in vain.
    pub fn allows(&self, user: &User, asked: &Attributes<'_>) -> Result<String, Vec<String>> {
        let mut reason = None;
        let missing = self.visit(user, asked.namespace, &mut |grant| {
            if grant.rule.allows(asked) {
                reason = Some(grant.reason());
            }
            reason.is_some()
        });
        reason.ok_or(missing)
    }

    /// The rules of a user in a namespace.
    pub fn rules_of(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let mut rules = Vec::new();
        self.visit(user, namespace, &mut |grant| {
            rules.push(grant.rule.clone());
            false
        });
        rules
    }

    /// The rules of a role; `None` when there is none of that name.
    pub fn rules_of_role(&self, kind: &str, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        let namespace = if kind == "ClusterRole" { "" } else { namespace };
        self.0.borrow().rules_of_role(&key(kind, namespace, name))
    }
}

impl Binding {
    fn missing_role(&self) -> String {
        let name = &self.role_name;
        format!("{}.rbac.authorization.k8s.io \"{name}\" not found", self.role_kind.to_lowercase())
    }
}

impl State {
    fn bind(&mut self, kind: &'static str, namespace: &str, name: &str, object: &Object) {
        let key = key(kind, namespace, name);
        self.unbind(&key);
        let subjects = object::list(object, "subjects").iter();
        let subjects: Vec<Subject> = subjects.map(|own| Subject::read(own, namespace)).collect();
        for subject in &subjects {
            self.by_subject.entry(subject.key.clone()).or_default().insert(key.clone());
        }
        let shown =
            if namespace.is_empty() { name.to_owned() } else { format!("{name}/{namespace}") };
        let binding = Binding {
            kind,
            name: shown,
            namespace: namespace.to_owned(),
            role_kind: object::text_at(object, &["roleRef", "kind"]).to_owned(),
            role_name: object::text_at(object, &["roleRef", "name"]).to_owned(),
            subjects,
        };
        self.bindings.insert(key, Rc::new(binding));
    }

    fn unbind(&mut self, key: &str) {
        let Some(binding) = self.bindings.remove(key) else { return };
        for subject in &binding.subjects {
            if let Some(keys) = self.by_subject.get_mut(&subject.key) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_subject.remove(&subject.key);
                }
            }
        }
    }

    fn rules(&self, binding: &Binding) -> Option<Vec<Rule>> {
        let is_cluster = binding.role_kind == "ClusterRole";
        let namespace = if is_cluster { "" } else { binding.namespace.as_str() };
        self.rules_of_role(&key(&binding.role_kind, namespace, &binding.role_name))
    }

    fn rules_of_role(&self, key: &str) -> Option<Vec<Rule>> {
        let role = self.roles.get(key)?;
        let mut rules = role.rules.to_vec();
        let mut seen = BTreeSet::from([key]);
        self.add_aggregated(role, &mut seen, &mut rules);
        Some(rules)
    }

    /// Adds the rules of which a role is made.
    fn add_aggregated<'a>(
        &'a self,
        role: &'a Role,
        seen: &mut BTreeSet<&'a str>,
        rules: &mut Vec<Rule>,
    ) {
        if role.aggregates.is_empty() {
            return;
        }
        for (key, part) in self.roles.iter().filter(|(key, _)| key.starts_with("ClusterRole/")) {
            let selected =
                role.aggregates.iter().any(|selector| selector_matches(selector, &part.labels));
            if selected && seen.insert(key) {
                rules.extend(part.rules.iter().cloned());
                self.add_aggregated(part, seen, rules);
            }
        }
    }
}

impl Subject {
    fn read(subject: &Value, namespace: &str) -> Subject {
        let text = |name: &str| subject.get(name).and_then(Value::as_str).unwrap_or("");
        let (kind, name) = (text("kind"), text("name"));
        if kind != "ServiceAccount" {
            return Subject { key: format!("{kind}:{name}"), shown: format!("{kind} \"{name}\"") };
        }
        let namespace = if text("namespace").is_empty() { namespace } else { text("namespace") };
        Subject {
            key: format!("User:system:serviceaccount:{namespace}:{name}"),
            shown: format!("ServiceAccount \"{name}/{namespace}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kube::registry::into_object;

    fn policy() -> Policy {
        let policy = Policy::default();
        for object in [
            json!({"kind": "ClusterRole", "metadata": {"name": "view"}, "aggregationRule":
                {"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]}}),
            json!({"kind": "ClusterRole", "metadata": {"name": "pods", "labels": {"to": "view"}},
                "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
            json!({"kind": "RoleBinding", "metadata": {"name": "b", "namespace": "n"},
                "roleRef": {"kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "User", "name": "alice"}, {"kind": "ServiceAccount", "name": "s"}]}),
            json!({"kind": "RoleBinding", "metadata": {"name": "lost", "namespace": "m"},
                "roleRef": {"kind": "Role", "name": "none"},
                "subjects": [{"kind": "User", "name": "alice"}]}),
        ] {
            policy.put(&into_object(object));
        }
        policy
    }

    fn user(name: &str) -> User {
        User { name: name.to_owned(), ..User::default() }
    }

    fn get_pods(namespace: &str) -> Attributes<'_> {
        Attributes { verb: "get", resource: "pods", namespace, ..Attributes::default() }
    }

    #[test]
    fn bindings_grant_in_their_namespace() {
        let policy = policy();
        let reason = policy.allows(&user("alice"), &get_pods("n")).expect("is allowed");
        assert_eq!(
            reason,
            "RBAC: allowed by RoleBinding \"b/n\" of ClusterRole \"view\" to User \"alice\""
        );
        assert!(policy.allows(&user("system:serviceaccount:n:s"), &get_pods("n")).is_ok());
        assert!(policy.allows(&user("bob"), &get_pods("n")).is_err());
        assert!(policy.allows(&user("alice"), &get_pods("")).is_err());
        let missing = policy.allows(&user("alice"), &get_pods("m")).expect_err("no such role");
        assert_eq!(missing, ["role.rbac.authorization.k8s.io \"none\" not found"]);
    }

    #[test]
    fn what_is_gone_grants_nothing() {
        let policy = policy();
        policy.remove("RoleBinding", "n", "b");
        assert!(policy.allows(&user("alice"), &get_pods("n")).is_err());
        policy.retain("RoleBinding", &BTreeSet::new());
        assert!(policy.0.borrow().by_subject.is_empty());
    }
}
