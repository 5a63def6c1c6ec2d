//! One rule of a role: which verbs on what.

use serde_json::{Value, json};

use super::Attributes;
use crate::kube::status::quoted;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub names: Vec<String>,
    pub urls: Vec<String>,
}

const ALL: &str = "*";

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == ALL || own == wanted)
}

impl Rule {
    /// The rules that allow everything.
    pub fn everything() -> Vec<Rule> {
        let all = || vec![ALL.to_owned()];
        let paths = Rule { verbs: all(), urls: all(), ..Rule::default() };
        let resources = Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() };
        vec![resources, paths]
    }

    pub fn read_all(rules: &[Value]) -> Vec<Rule> {
        rules.iter().map(Rule::read).collect()
    }

    fn read(rule: &Value) -> Rule {
        let texts = |name: &str| -> Vec<String> {
            let list = rule.get(name).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Rule {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            urls: texts("nonResourceURLs"),
        }
    }

    pub fn to_value(&self) -> Value {
        let mut rule = json!({"verbs": self.verbs});
        for (name, list) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ] {
            if !list.is_empty() {
                rule[name] = json!(list);
            }
        }
        rule
    }

    /// Whether the rule allows a request.
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) {
            return false;
        }
        if !asked.path.is_empty() {
            return self.urls.iter().any(|url| url_matches(url, asked.path));
        }
        has(&self.groups, asked.group)
            && self.has_resource(asked.resource, asked.subresource)
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
    }

    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|own| match own.split_once('/') {
            None => own == ALL || (subresource.is_empty() && own == resource),
            Some((owner, part)) => part == subresource && (owner == ALL || owner == resource),
        })
    }

    /// The same rule as rules of one verb, one group, one resource and at most one name, or of one
    /// verb and one URL.
    pub fn parts(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            let verbs = vec![verb.clone()];
            for url in &self.urls {
                let urls = vec![url.clone()];
                parts.push(Rule { verbs: verbs.clone(), urls, ..Rule::default() });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    let names: Vec<Vec<String>> = match self.names.is_empty() {
                        true => vec![Vec::new()],
                        false => self.names.iter().map(|name| vec![name.clone()]).collect(),
                    };
                    parts.extend(names.into_iter().map(|names| Rule {
                        verbs: verbs.clone(),
                        groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        names,
                        urls: Vec::new(),
                    }));
                }
            }
        }
        parts
    }

    /// Whether everything that `part` allows is allowed by this rule.
    pub fn covers(&self, part: &Rule) -> bool {
        let all_of = |own: &[String], wanted: &[String]| wanted.iter().all(|one| has(own, one));
        let resources = part.resources.iter().all(|wanted| {
            let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
            has(&self.resources, wanted) || self.has_resource(resource, subresource)
        });
        let names = self.names.is_empty()
            || (!part.names.is_empty() && part.names.iter().all(|name| self.names.contains(name)));
        let urls = part.urls.iter().all(|url| {
            self.urls.iter().any(|own| url_matches(own, url.trim_end_matches(ALL)) || own == url)
        });
        all_of(&self.verbs, &part.verbs)
            && all_of(&self.groups, &part.groups)
            && resources
            && names
            && urls
    }

    /// As messages show it.
    pub fn shown(&self) -> String {
        let mut parts = Vec::new();
        for (name, list) in [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ] {
            if !list.is_empty() {
                let texts: Vec<String> = list.iter().map(|text| quoted(text)).collect();
                parts.push(format!("{name}:[{}]", texts.join(" ")));
            }
        }
        format!("{{{}}}", parts.join(", "))
    }
}

fn url_matches(rule: &str, path: &str) -> bool {
    match rule.strip_suffix(ALL) {
        Some(start) => path.starts_with(start),
        None => rule == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(value: Value) -> Rule {
        Rule::read(&value)
    }

    #[test]
    fn what_rules_allow() {
        let pods = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]});
        let scales = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*/scale"]});
        let named = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]});
        let paths = json!({"verbs": ["get"], "nonResourceURLs": ["/apis/*"]});
        let base = Attributes { verb: "get", resource: "pods", ..Attributes::default() };
        for (value, asked, expected) in [
            (&pods, base, true),
            (&pods, Attributes { verb: "watch", ..base }, false),
            (&pods, Attributes { subresource: "scale", ..base }, false),
            (&pods, Attributes { group: "apps", ..base }, false),
            (&scales, Attributes { subresource: "scale", ..base }, true),
            (&scales, base, false),
            (&named, Attributes { name: "a", ..base }, true),
            (&named, base, false),
            (&paths, Attributes { path: "/apis/x", resource: "", ..base }, true),
            (&paths, Attributes { path: "/api", resource: "", ..base }, false),
        ] {
            assert_eq!(rule(value.clone()).allows(&asked), expected, "{value} {asked:?}");
        }
    }

    #[test]
    fn what_rules_cover() {
        let own =
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/status"]});
        for (part, expected) in [
            (
                json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
                true,
            ),
            (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["nodes/status"]}), true),
            (json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}), false),
            (json!({"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"]}), false),
        ] {
            assert_eq!(rule(own.clone()).covers(&rule(part.clone())), expected, "{part}");
        }
        let shown =
            "{APIGroups:[\"\"], Resources:[\"pods\" \"*/status\"], Verbs:[\"get\" \"list\"]}";
        assert_eq!(rule(own.clone()).shown(), shown);
        assert_eq!(rule(own).parts().len(), 4);
    }
}
