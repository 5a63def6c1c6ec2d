//! The roles and bindings that every cluster has, as data.

use serde_json::{Value, json};

use super::rule::Rule;

const ROLES: &str = include_str!("roles.txt");
const GROUP: &str = "rbac.authorization.k8s.io";

/// The objects, roles before the bindings that name them.
pub fn objects() -> Vec<Value> {
    let mut roles: Vec<Value> = Vec::new();
    let mut bindings = Vec::new();
    let lines = ROLES.lines().skip(1);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(rule) = line.strip_prefix(' ') {
            let role = roles.last_mut().expect("a rule stands below its role");
            if let Some(rules) = role["rules"].as_array_mut() {
                rules.push(read_rule(rule).to_value());
            }
        } else if let Some(subjects) = line.strip_prefix("to ") {
            let role = roles.last().expect("subjects stand below their role");
            bindings.push(binding(role["metadata"]["name"].as_str().unwrap_or(""), subjects));
        } else if let Some(role) = line.strip_prefix("role ") {
            roles.push(read_role(role));
        }
    }
    roles.extend(bindings);
    roles
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
    })
}

fn read_role(line: &str) -> Value {
    let mut words = line.split(' ');
    let mut role = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRole",
        "metadata": metadata(words.next().unwrap_or("")), "rules": [],
    });
    let label = |name: &str| format!("{GROUP}/aggregate-to-{name}");
    for word in words {
        match word.split_once('=') {
            Some(("aggregate-to", name)) => {
                role["metadata"]["labels"][label(name)] = "true".into();
            }
            Some(("aggregates", name)) => {
                role["rules"] = Value::Null;
                role["aggregationRule"] =
                    json!({"clusterRoleSelectors": [{"matchLabels": {label(name): "true"}}]});
            }
            _ => unreachable!("the words of roles are tested"),
        }
    }
    role
}

fn read_rule(line: &str) -> Rule {
    let mut words = line.split(' ');
    let list = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
    let mut rule = Rule { verbs: list(words.next().unwrap_or("")), ..Rule::default() };
    for word in words {
        match word.split_once('=') {
            Some(("groups", names)) => {
                let core = |name: String| if name == "core" { String::new() } else { name };
                rule.groups = list(names).into_iter().map(core).collect();
            }
            Some(("resources", names)) => rule.resources = list(names),
            Some(("names", names)) => rule.names = list(names),
            Some(("urls", names)) => rule.urls = list(names),
            _ => unreachable!("the words of rules are tested"),
        }
    }
    rule
}

fn binding(role: &str, subjects: &str) -> Value {
    let subjects: Vec<Value> = subjects
        .split(' ')
        .map(|subject| match subject.split_once(':').unwrap_or_default() {
            ("ServiceAccount", account) => {
                let (namespace, name) = account.split_once('/').unwrap_or_default();
                json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
            }
            (kind, name) => json!({"kind": kind, "apiGroup": GROUP, "name": name}),
        })
        .collect();
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "ClusterRoleBinding",
        "metadata": metadata(role),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_as_described() {
        let objects = objects();
        let find = |kind: &str, name: &str| {
            let is_it = |o: &&Value| o["kind"] == kind && o["metadata"]["name"] == name;
            objects.iter().find(is_it).expect("is there").clone()
        };
        assert_eq!(find("ClusterRole", "cluster-admin")["rules"][0]["verbs"], json!(["*"]));
        assert!(find("ClusterRole", "view")["rules"].is_null());
        let label = "rbac.authorization.k8s.io/aggregate-to-admin";
        assert_eq!(find("ClusterRole", "edit")["metadata"]["labels"][label], "true");
        let everybody = find("ClusterRoleBinding", "system:public-info-viewer");
        assert_eq!(everybody["subjects"].as_array().map(Vec::len), Some(2));
        let account = find("ClusterRoleBinding", "system:controller:job-controller");
        assert_eq!(account["subjects"][0]["namespace"], "kube-system");
        for binding in objects.iter().filter(|object| object["kind"] == "ClusterRoleBinding") {
            find("ClusterRole", binding["roleRef"]["name"].as_str().unwrap_or(""));
        }
    }
}
