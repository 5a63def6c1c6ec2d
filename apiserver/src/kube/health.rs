//! `/healthz`, `/livez`, `/readyz`: how the server is, as a whole and check by check.

use super::registry::Registry;
use super::request::query::Query;

/// A check's name; `true` when only readiness depends on it.
const CHECKS: [(&str, bool); 5] = [
    ("ping", false),
    ("log", false),
    ("etcd", false),
    ("poststarthook/start-system-namespaces-controller", false),
    ("shutdown", true),
];

/// Whether the server is stopping, as `/readyz` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub stopping: bool,
    pub bootstrapped: bool,
    pub storage_works: bool,
}

impl Facts {
    fn passes(self, check: &str) -> bool {
        match check {
            "etcd" => self.storage_works,
            "shutdown" => !self.stopping,
            "poststarthook/start-system-namespaces-controller" => self.bootstrapped,
            _ => true,
        }
    }
}

/// An answer in plain text.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    pub code: u16,
    pub text: String,
}

/// Whether a read reaches the storage.
pub async fn storage_works(registry: &Registry) -> bool {
    registry.storage.get(b"/registry/health").await.is_ok()
}

/// Answers `/livez` and the like; `None` for a check that does not exist.
pub fn report(path: &str, query: &Query, facts: Facts) -> Option<Report> {
    let (root, rest) = match path[1..].split_once('/') {
        Some((root, rest)) => (root, rest),
        None => (&path[1..], ""),
    };
    let checks = CHECKS.iter().filter(|(_, ready_only)| root == "readyz" || !ready_only);
    let checks: Vec<&str> = checks.map(|(name, _)| *name).collect();
    if !rest.is_empty() {
        let check = checks.iter().find(|name| **name == rest)?;
        return Some(single(check, facts));
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    for check in checks {
        if excluded.contains(&check) {
            lines.push_str(&format!("[+]{check} excluded: ok\n"));
        } else if facts.passes(check) {
            lines.push_str(&format!("[+]{check} ok\n"));
        } else {
            failed = true;
            lines.push_str(&format!("[-]{check} failed: reason withheld\n"));
        }
    }
    for name in excluded {
        if !CHECKS.iter().any(|(known, _)| *known == name) {
            lines.push_str(&format!(
                "warn: some health checks cannot be excluded: no matches for \"{name}\"\n"
            ));
        }
    }
    if failed {
        return Some(Report { code: 500, text: format!("{lines}{root} check failed\n") });
    }
    let verbose = query.get("verbose").is_some();
    let text = if verbose { format!("{lines}{root} check passed\n") } else { "ok".to_owned() };
    Some(Report { code: 200, text })
}

fn single(check: &str, facts: Facts) -> Report {
    if facts.passes(check) {
        Report { code: 200, text: "ok".to_owned() }
    } else {
        Report { code: 500, text: format!("internal server error: {check} failed\n") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Facts = Facts { stopping: false, bootstrapped: true, storage_works: true };

    #[test]
    fn a_server_that_is_well() {
        let none = Query::default();
        for path in ["/healthz", "/livez", "/readyz", "/readyz/etcd", "/livez/ping"] {
            let expected = Report { code: 200, text: "ok".to_owned() };
            assert_eq!(report(path, &none, WELL), Some(expected), "{path}");
        }
        assert_eq!(report("/livez/nope", &none, WELL), None);
        let verbose = report("/livez", &Query::parse("verbose"), WELL).unwrap();
        assert!(
            verbose.text.starts_with("[+]ping ok\n")
                && verbose.text.ends_with("livez check passed\n")
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        let facts = Facts { storage_works: false, stopping: true, ..WELL };
        let none = Query::default();
        assert_eq!(report("/readyz", &none, facts).unwrap().code, 500);
        assert!(report("/readyz", &none, facts).unwrap().text.contains("[-]etcd failed"));
        assert_eq!(report("/livez", &Query::parse("exclude=etcd"), facts).unwrap().code, 200);
        assert_eq!(report("/readyz/shutdown", &none, facts).unwrap().code, 500);
    }
}
