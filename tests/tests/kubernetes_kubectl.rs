//! The Kubernetes door, driven by the real kubectl.

use std::time::{Duration, Instant};

use mainstay_tests::etcdctl::{self, Etcdctl};
use mainstay_tests::kubectl::{self, Kubectl};
use mainstay_tests::process::{Directory, Mainstay};
use serde_json::{Value, json};

const MANIFEST: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: demo}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: demo, labels: {app: web}}
data: {color: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: demo}
stringData: {password: hunter2}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: server, image: \"registry.example/web:1\"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

/// A server of its own for one test, and kubectl for it; `None` when there is no kubectl.
fn start(what: &str) -> Option<(Directory, Mainstay, Kubectl)> {
    if !kubectl::is_present() {
        kubectl::skipped(what);
        return None;
    }
    let directory = Directory::new();
    let server = Mainstay::serve(directory.path(), &["--cores=2"]);
    let client = Kubectl::new(directory.path());
    client.until(&["get", "namespace", "default"], |said| said.success);
    Some((directory, server, client))
}

fn apply_manifest(kubectl: &Kubectl) -> String {
    kubectl.ok_with(&["apply", "-f", "-"], MANIFEST)
}

#[test]
fn apply_get_and_delete() {
    let Some((_directory, _server, kubectl)) = start("apply, get, delete") else { return };
    let applied = apply_manifest(&kubectl);
    assert_eq!(
        applied,
        "namespace/demo created\nconfigmap/settings created\nsecret/login created\n\
         deployment.apps/web created\nservice/web created\n"
    );
    let again = kubectl.ok_with(&["apply", "-f", "-"], MANIFEST);
    assert!(again.contains("deployment.apps/web unchanged"), "{again}");
    assert!(again.contains("service/web unchanged"), "{again}");

    let names = kubectl.ok(&["get", "deploy,svc,cm,secret", "-n", "demo", "-o", "name"]);
    assert_eq!(names, "deployment.apps/web\nservice/web\nconfigmap/settings\nsecret/login\n");
    let wide = kubectl.ok(&["get", "deployment", "web", "-n", "demo", "-o", "wide"]);
    let words: Vec<&str> = wide.lines().flat_map(str::split_whitespace).collect();
    assert_eq!(
        words[..8],
        ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    );
    assert_eq!((words[8], words[9]), ("web", "0/2"));
    assert_eq!(words[13..], ["server", "registry.example/web:1", "app=web"]);

    let yaml = kubectl.ok(&["get", "configmap", "settings", "-n", "demo", "-o", "yaml"]);
    assert!(yaml.contains("\ndata:\n  color: blue\nkind: ConfigMap\n"), "{yaml}");
    let secret = kubectl.json(&["get", "secret", "login", "-n", "demo"]);
    assert_eq!(secret["data"]["password"], "aHVudGVyMg==");
    let service = kubectl.json(&["get", "service", "web", "-n", "demo"]);
    let address = service["spec"]["clusterIP"].as_str().expect("a service has an address");
    assert!(address.starts_with("10.0.0."), "{address}");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 8080);

    let labelled = kubectl.ok(&["get", "cm", "-A", "-l", "app in (web)", "-o", "name"]);
    assert_eq!(labelled, "configmap/settings\n");
    let named = kubectl.ok(&["get", "ns", "--field-selector", "metadata.name=demo", "-o", "name"]);
    assert_eq!(named, "namespace/demo\n");

    let deleted = kubectl.ok(&["delete", "service", "web", "-n", "demo"]);
    assert!(deleted.contains("service \"web\" deleted"), "{deleted}");
    // Waits until the namespace is empty and gone.
    kubectl.ok(&["delete", "namespace", "demo"]);
    let gone = kubectl.fails(&["get", "configmap", "settings", "-n", "demo"], "");
    assert!(gone.contains("Error from server (NotFound):"), "{gone}");
}

#[test]
fn a_watch_shows_changes_as_they_happen() {
    let Some((_directory, _server, kubectl)) = start("get --watch") else { return };
    kubectl.ok(&["create", "configmap", "seen", "--from-literal=a=1"]);
    let watch =
        kubectl.start(&["get", "configmaps", "--watch", "--output-watch-events", "--no-headers"]);
    let event = |line: String| -> Vec<String> {
        line.split_whitespace().take(3).map(str::to_owned).collect()
    };
    assert_eq!(event(watch.line()), ["ADDED", "seen", "1"]);
    kubectl.ok(&["patch", "cm", "seen", "--type=merge", "-p", "{\"data\":{\"b\":\"2\"}}"]);
    assert_eq!(event(watch.line()), ["MODIFIED", "seen", "2"]);
    kubectl.ok(&["create", "configmap", "new"]);
    assert_eq!(event(watch.line()), ["ADDED", "new", "0"]);
    kubectl.ok(&["delete", "configmap", "seen"]);
    assert_eq!(event(watch.line()), ["DELETED", "seen", "2"]);
}

#[test]
fn a_watch_does_not_hold_up_a_stop() {
    let Some((_directory, server, kubectl)) = start("get --watch") else { return };
    kubectl.ok(&["create", "configmap", "seen"]);
    let watch = kubectl.start(&["get", "configmaps", "--watch", "--no-headers"]);
    assert!(watch.line().starts_with("seen"));
    let before = Instant::now();
    assert!(server.stop().success());
    // The grace of requests that do not end is three seconds.
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
}

#[test]
fn events_share_leases_and_deletions_have_none() {
    let Some((_directory, server, kubectl)) = start("events") else { return };
    if !etcdctl::is_present() {
        return etcdctl::skipped("the leases of events");
    }
    for number in 0..6 {
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("e{number}"), "namespace": "default"},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        });
        kubectl.ok_with(&["create", "-f", "-"], &event.to_string());
    }
    kubectl.ok(&["delete", "event", "e0", "e1", "e2"]);
    let leases = Etcdctl::new(&server.etcd).ok(&["lease", "list"]);
    // One line says how many there are. Each core shares its own.
    let count = leases.lines().count() - 1;
    assert!((1..=2).contains(&count), "{leases}");
}

#[test]
fn patches_of_three_kinds_and_apply() {
    let Some((_directory, _server, kubectl)) = start("patch") else { return };
    apply_manifest(&kubectl);
    let patch = |kind: &str, patch: Value| {
        let text = patch.to_string();
        let kind = format!("--type={kind}");
        kubectl.json(&["patch", "deployment", "web", "-n", "demo", &kind, "-p", &text])
    };
    let merged = patch("merge", json!({"spec": {"replicas": 3}}));
    assert_eq!(merged["spec"]["replicas"], 3);
    assert_eq!(merged["metadata"]["generation"], 2);
    let replaced = patch("json", json!([{"op": "replace", "path": "/spec/replicas", "value": 4}]));
    assert_eq!(replaced["spec"]["replicas"], 4);
    let containers = json!([{"name": "helper", "image": "registry.example/helper:1"}]);
    let strategic =
        patch("strategic", json!({"spec": {"template": {"spec": {"containers": containers}}}}));
    let containers = strategic["spec"]["template"]["spec"]["containers"].as_array().cloned();
    let names: Vec<Value> =
        containers.unwrap_or_default().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["helper", "server"], "containers merge by name");

    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine}\ndata: {a: x}\n";
    kubectl.ok_with(&["apply", "--server-side", "--field-manager=one", "-f", "-"], manifest);
    let other = manifest.replace("a: x", "a: other");
    let conflict =
        kubectl.fails(&["apply", "--server-side", "--field-manager=two", "-f", "-"], &other);
    assert!(conflict.contains("conflict with \"one\": .data.a"), "{conflict}");
}

#[test]
fn label_annotate_scale_edit_create() {
    let Some((_directory, _server, kubectl)) = start("label, annotate, scale, edit") else {
        return;
    };
    apply_manifest(&kubectl);
    kubectl.ok(&["label", "deployment", "web", "-n", "demo", "tier=front"]);
    kubectl.ok(&["annotate", "deployment", "web", "-n", "demo", "note=hello"]);
    kubectl.ok(&["scale", "deployment", "web", "-n", "demo", "--replicas=5"]);
    let object = kubectl.json(&["get", "deployment", "web", "-n", "demo"]);
    assert_eq!(object["metadata"]["labels"]["tier"], "front");
    assert_eq!(object["metadata"]["annotations"]["note"], "hello");
    assert_eq!(object["spec"]["replicas"], 5);

    let edited = kubectl.edit(&["configmap", "settings", "-n", "demo"], "sed -i s/blue/green/");
    assert!(edited.success, "{edited:?}");
    let settings = kubectl.json(&["get", "cm", "settings", "-n", "demo"]);
    assert_eq!(settings["data"]["color"], "green");

    kubectl.ok(&["create", "deployment", "other", "--image=nginx", "-n", "demo"]);
    kubectl.ok(&["create", "serviceaccount", "robot", "-n", "demo"]);
    kubectl.ok(&["run", "alone", "--image=nginx:1", "-n", "demo"]);
    kubectl.ok(&[
        "expose",
        "deployment",
        "web",
        "-n",
        "demo",
        "--port=90",
        "--type=NodePort",
        "--name=door",
    ]);
    let door = kubectl.json(&["get", "service", "door", "-n", "demo"]);
    let port = door["spec"]["ports"][0]["nodePort"].as_i64().expect("a node port");
    assert!((30_000..32_768).contains(&port), "{port}");
    let described = kubectl.ok(&["describe", "pod", "alone", "-n", "demo"]);
    assert!(described.contains("Status:           Pending"), "{described}");
    assert!(described.contains("Image:        nginx:1"), "{described}");
}

#[test]
fn what_is_served_is_told() {
    let Some((_directory, _server, kubectl)) = start("api-resources, explain") else { return };
    let resources = kubectl.ok(&["api-resources", "--no-headers"]);
    for (name, short) in [("pods", "po"), ("deployments", "deploy"), ("leases", "")] {
        let found = resources.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[0] == name && (short.is_empty() || words[1] == short)
        });
        assert!(found, "{name} in {resources}");
    }
    let versions = kubectl.ok(&["api-versions"]);
    assert!(versions.lines().any(|line| line == "apps/v1"), "{versions}");
    let explained = kubectl.ok(&["explain", "deployment.spec.replicas"]);
    assert!(explained.contains("FIELD: replicas <integer>"), "{explained}");
    let version = kubectl.json(&["version"]);
    assert_eq!(version["serverVersion"]["minor"], "36");
    assert_eq!(kubectl.ok(&["get", "--raw", "/readyz"]), "ok");
}

#[test]
fn nonsense_is_refused_in_known_words() {
    let Some((_directory, _server, kubectl)) = start("refusals") else { return };
    let apply = ["apply", "-f", "-"];
    let create = ["create", "--validate=false", "-f", "-"];
    for (command, input, expected) in [
        (&apply[..], "kind: [", "error converting YAML to JSON"),
        (
            &create[..],
            "apiVersion: v1\nkind: Nope\nmetadata: {name: x}\n",
            "no matches for kind \"Nope\" in version \"v1\"",
        ),
        (
            &create[..],
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n",
            "a lowercase RFC 1123 subdomain must consist of",
        ),
        (
            &create[..],
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: 1}\n",
            "cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            &create[..],
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: absent}\n",
            "namespaces \"absent\" not found",
        ),
        (
            &["create", "-f", "-"][..],
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nbogus: 1\n",
            "unknown field \"bogus\"",
        ),
    ] {
        let said = kubectl.fails(command, input);
        assert!(said.contains(expected), "{input:?} gave {said}");
    }
    let protected = kubectl.fails(&["delete", "namespace", "default"], "");
    assert!(protected.contains("this namespace may not be deleted"), "{protected}");
}

#[test]
fn objects_outlive_the_process_and_lie_where_a_kube_apiserver_looks() {
    let Some((directory, server, kubectl)) = start("restart, keys") else { return };
    apply_manifest(&kubectl);
    let before = kubectl.json(&["get", "deployment", "web", "-n", "demo"]);
    if etcdctl::is_present() {
        let keys = Etcdctl::new(&server.etcd).ok(&["get", "--prefix", "/registry/", "--keys-only"]);
        for key in [
            "/registry/configmaps/demo/settings",
            "/registry/deployments/demo/web",
            "/registry/namespaces/kube-system",
            "/registry/secrets/demo/login",
            "/registry/services/specs/default/kubernetes",
            "/registry/services/specs/demo/web",
        ] {
            assert!(keys.lines().any(|line| line == key), "{key} in {keys}");
        }
    } else {
        etcdctl::skipped("the keys of objects");
    }
    server.kill();
    let _server = Mainstay::serve(directory.path(), &["--cores=1"]);
    let after = kubectl
        .until(&["get", "deployment", "web", "-n", "demo", "-o", "json"], |said| said.success);
    let after: Value = serde_json::from_str(&after.stdout).expect("JSON");
    assert_eq!(after, before);
}
