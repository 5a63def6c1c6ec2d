//! What a path and a method ask for.

use http::Method;

/// The parts of a request's path, before it is known whether such a resource exists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for paths
    /// that are no resource the method in lower case.
    pub verb: &'static str,
    /// Below `/api/VERSION/` or `/apis/GROUP/VERSION/`, with a resource.
    pub is_resource: bool,
    pub group: String,
    pub version: String,
    /// Plural.
    pub resource: String,
    pub subresource: String,
    /// Empty for cluster scope and for all namespaces.
    pub namespace: String,
    pub name: String,
    /// The path as sent.
    pub path: String,
    /// Segments behind the subresource: nothing that is served here has any.
    pub surplus: bool,
    /// The path has an empty segment in its middle.
    pub malformed: bool,
    /// The legacy form `/api/v1/watch/...`.
    pub legacy_watch: bool,
}

impl RequestInfo {
    /// `v1`, or `apps/v1`.
    pub fn group_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods`, or `pods/status`.
    pub fn resource_and_subresource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// Reads a path. `watch` and `name_selector` come from the query: `watch=1` turns a list into a
/// watch, and a field selector on `metadata.name` names the one object that a list or watch is for.
pub fn parse(method: &Method, path: &str, watch: bool, name_selector: Option<&str>) -> RequestInfo {
    let mut info =
        RequestInfo { verb: plain_verb(method), path: path.to_owned(), ..RequestInfo::default() };
    let trimmed = path.strip_prefix('/').unwrap_or(path);
    let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
    let parts: Vec<String> = trimmed.split('/').map(percent_decode).collect();
    info.malformed = parts.iter().any(String::is_empty) && !trimmed.is_empty();
    let mut rest = match parts.first().map(String::as_str) {
        Some("api") if parts.len() >= 3 => {
            info.version = parts[1].clone();
            &parts[2..]
        }
        Some("apis") if parts.len() >= 4 => {
            info.group = parts[1].clone();
            info.version = parts[2].clone();
            &parts[3..]
        }
        _ => return info,
    };
    info.is_resource = true;
    if rest[0] == "watch" && rest.len() > 1 {
        info.legacy_watch = true;
        rest = &rest[1..];
    }
    read_resource(&mut info, rest);
    info.verb = resource_verb(method, &info, watch);
    if let ("list" | "watch", true, Some(name)) = (info.verb, info.name.is_empty(), name_selector) {
        info.name = name.to_owned();
    }
    info
}

/// `namespaces/NS/pods/NAME/status`, `namespaces/NS`, `nodes/NAME/status`.
fn read_resource(info: &mut RequestInfo, rest: &[String]) {
    const OF_A_NAMESPACE: [&str; 2] = ["status", "finalize"];
    let mut rest = rest;
    if rest[0] == "namespaces" && rest.len() > 1 {
        info.namespace = rest[1].clone();
        let names_namespace =
            rest.len() == 2 || (rest.len() == 3 && OF_A_NAMESPACE.contains(&rest[2].as_str()));
        if !names_namespace {
            rest = &rest[2..];
        }
    }
    let mut parts = rest.iter();
    let mut next = || parts.next().cloned().unwrap_or_default();
    info.resource = next();
    info.name = next();
    info.subresource = next();
    info.surplus = rest.len() > 3;
}

fn plain_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        "TRACE" => "trace",
        _ => "unknown",
    }
}

fn resource_verb(method: &Method, info: &RequestInfo, watch: bool) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" if info.legacy_watch => "watch",
        "GET" if info.name.is_empty() && watch => "watch",
        "GET" if info.name.is_empty() => "list",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if info.name.is_empty() => "deletecollection",
        "DELETE" => "delete",
        _ => plain_verb(method),
    }
}

/// Undoes `%41`; what is no such escape stays as it is.
pub fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let escape = bytes.get(index + 1..index + 3).and_then(hexadecimal);
        match (byte, escape) {
            (b'%', Some(value)) => {
                decoded.push(value);
                index += 3;
            }
            _ => {
                decoded.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hexadecimal(two: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(two).ok()?;
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// verb, group, version, resource, subresource, namespace, name
    type Parts = [&'static str; 7];

    #[test]
    fn paths_mean_what_clients_expect() {
        let cases: &[(&str, &str, Parts)] = &[
            ("GET", "/api/v1/pods", ["list", "", "v1", "pods", "", "", ""]),
            ("GET", "/api/v1/namespaces/n/pods/p", ["get", "", "v1", "pods", "", "n", "p"]),
            ("GET", "/api/v1/namespaces", ["list", "", "v1", "namespaces", "", "", ""]),
            ("GET", "/api/v1/namespaces/n", ["get", "", "v1", "namespaces", "", "n", "n"]),
            (
                "PUT",
                "/api/v1/namespaces/n/finalize",
                ["update", "", "v1", "namespaces", "finalize", "n", "n"],
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/n/deployments/d/status",
                ["patch", "apps", "v1", "deployments", "status", "n", "d"],
            ),
            (
                "DELETE",
                "/api/v1/namespaces/n/configmaps",
                ["deletecollection", "", "v1", "configmaps", "", "n", ""],
            ),
            (
                "GET",
                "/api/v1/watch/namespaces/n/configmaps/a",
                ["watch", "", "v1", "configmaps", "", "n", "a"],
            ),
            (
                "GET",
                "/api/v1/namespaces/n/configmaps/",
                ["list", "", "v1", "configmaps", "", "n", ""],
            ),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                ["get", "rbac.authorization.k8s.io", "v1", "clusterroles", "", "", "system:node"],
            ),
        ];
        for (method, path, expected) in cases {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let info = parse(&method, path, false, None);
            let actual = [
                info.verb,
                &info.group,
                &info.version,
                &info.resource,
                &info.subresource,
                &info.namespace,
                &info.name,
            ];
            assert_eq!(&actual, expected, "{path}");
            assert!(info.is_resource && !info.malformed, "{path}");
        }
    }

    #[test]
    fn paths_that_are_no_resource() {
        for path in
            ["/", "/api", "/api/v1", "/apis/apps/v1", "/healthz/ping", "/openapi/v3/apis/apps/v1"]
        {
            let info = parse(&Method::GET, path, false, None);
            assert!(!info.is_resource, "{path}");
            assert_eq!(info.verb, "get", "{path}");
        }
        assert!(parse(&Method::GET, "/api/v1//configmaps", false, None).malformed);
    }

    #[test]
    fn a_name_selector_names_the_object_of_a_list() {
        let info = parse(&Method::GET, "/api/v1/namespaces/n/pods", true, Some("p"));
        assert_eq!((info.verb, info.name.as_str()), ("watch", "p"));
    }

    #[test]
    fn escapes() {
        for (text, expected) in
            [("a%2Fb", "a/b"), ("%", "%"), ("%zz", "%zz"), ("%+1", "%+1"), ("a%41", "aA")]
        {
            assert_eq!(percent_decode(text), expected);
        }
    }
}
