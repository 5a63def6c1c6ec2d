//! Keys, laid out as a kube-apiserver does: `/registry/<prefix>/[<namespace>/]<name>`.

/// Below this everything of Kubernetes lies.
pub const ROOT: &str = "/registry/";

/// Where kube-apiservers agree on who compacts: the key that they write every interval.
pub const COMPACT_REVISION_KEY: &str = "compact_rev_key";

/// The directory of a resource, or of one of its namespaces. Ends in a slash.
pub fn directory(storage_prefix: &str, namespace: &str) -> String {
    if namespace.is_empty() {
        format!("{ROOT}{storage_prefix}/")
    } else {
        format!("{ROOT}{storage_prefix}/{namespace}/")
    }
}

/// The key of one object.
pub fn object(storage_prefix: &str, namespace: &str, name: &str) -> String {
    format!("{}{name}", directory(storage_prefix, namespace))
}

/// The namespace in a key of a namespaced resource.
pub fn namespace_of<'a>(storage_prefix: &str, key: &'a str) -> Option<&'a str> {
    let rest = key.strip_prefix(ROOT)?.strip_prefix(storage_prefix)?.strip_prefix('/')?;
    rest.split_once('/').map(|(namespace, _)| namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_kube_apiserver() {
        assert_eq!(object("minions", "", "n1"), "/registry/minions/n1");
        assert_eq!(object("services/specs", "ns", "s"), "/registry/services/specs/ns/s");
        assert_eq!(directory("pods", ""), "/registry/pods/");
        assert_eq!(namespace_of("services/specs", "/registry/services/specs/ns/s"), Some("ns"));
        assert_eq!(namespace_of("minions", "/registry/minions/n1"), None);
    }
}
