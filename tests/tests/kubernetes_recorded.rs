//! Replays what was recorded from kube-apiserver against a real server.
//!
//! The recordings and the script that replays them lie beside the project, in `../shared/golden`.
//! `kubernetes_known.txt` lists the scenarios that are not answered alike (yet): one that begins to
//! differ fails the test, and one that does not differ any more has to leave the list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mainstay_tests::process::{Directory, Mainstay};

/// Scenarios that differ, one a line.
const KNOWN: &str = include_str!("kubernetes_known.txt");

/// What is replayed: areas that need nobody beside the server and wait for nothing.
const AREAS: [&str; 43] = [
    "badrequest",
    "crd",
    "crd-invalid",
    "csr",
    "defaulting",
    "delete",
    "discovery",
    "dryrun",
    "errors",
    "events",
    "fieldvalidation",
    "generatename",
    "generation",
    "health",
    "immutable",
    "jsonpatch",
    "lifecycle",
    "limitranger",
    "mergepatch",
    "namespaces",
    "node",
    "noop",
    "openapi",
    "paging",
    "partialmetadata",
    "priority",
    "protobuf",
    "quota",
    "rbac",
    "resourceversion",
    "secrets",
    "serviceaccounts",
    "services",
    "ssa",
    "strategicmerge",
    "subresources",
    "table",
    "tokens",
    "unconditional",
    "validation",
    "warnings",
    "watch",
    "yaml",
];

/// How one scenario went.
#[derive(Debug)]
struct Outcome {
    passed: bool,
    difference: String,
}

fn recordings() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden");
    folder.join("replay.py").exists().then_some(folder)
}

fn can_run(program: &str, argument: &str) -> bool {
    let output =
        Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    output.is_ok_and(|status| status.success())
}

fn skipped(reason: &str) {
    let _lost = writeln!(
        std::io::stderr(),
        "NOT TESTED: the answers of kube-apiserver, scenario by scenario: {reason}"
    );
}

/// Certificates for the server and for everybody who asks it in a scenario.
fn make_certificates(recordings: &Path, directory: &Path) {
    let made = Command::new("bash")
        .arg(recordings.join("mkcerts.sh"))
        .arg(directory)
        .output()
        .expect("bash runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn start(directory: &Path, certificates: &Path) -> Mainstay {
    let file = |flag: &str, name: &str| format!("{flag}={}", certificates.join(name).display());
    let flags = [
        "--cores=2".to_owned(),
        "--controllers=-*".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=192.0.2.10".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        file("--tls-cert-file", "apiserver.crt"),
        file("--tls-private-key-file", "apiserver.key"),
        file("--client-ca-file", "ca.crt"),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Mainstay::serve(directory, &flags)
}

/// Where the server is, as it says in the kubeconfig that it has written.
fn address(directory: &Path) -> String {
    let text = fs::read_to_string(directory.join("admin.kubeconfig")).expect("a kubeconfig");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("server:"));
    line.expect("a kubeconfig names a server").trim().trim_matches('"').to_owned()
}

/// Replays the areas against the server.
fn replay(
    address: &str,
    recordings: &Path,
    certificates: &Path,
    results: &Path,
) -> BTreeMap<String, Outcome> {
    let mut command = Command::new("python3");
    command.arg(recordings.join("replay.py")).arg("--quiet").args(["-j", "4"]);
    command.args(["--server", address]);
    command.arg("--certs-dir").arg(certificates).arg("--json").arg(results);
    for area in AREAS {
        command.args(["--area", area]);
    }
    let said = command.output().expect("python3 runs");
    let text = fs::read(results).unwrap_or_else(|error| {
        panic!("no results ({error}): {}", String::from_utf8_lossy(&said.stderr))
    });
    let results: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let results = results.as_object().expect("an object of scenarios");
    let outcome = |result: &serde_json::Value| Outcome {
        passed: result["ok"].as_bool().expect("a result has ok"),
        difference: result["diff"].as_str().unwrap_or_default().to_owned(),
    };
    results.iter().map(|(id, result)| (id.clone(), outcome(result))).collect()
}

#[test]
fn kubernetes_scenarios() {
    let Some(recordings) = recordings() else {
        return skipped("../shared/golden is not there");
    };
    if !can_run("python3", "--version") || !can_run("openssl", "version") {
        return skipped("python3 and openssl are not both on PATH");
    }
    let (directory, certificates, results) = (Directory::new(), Directory::new(), Directory::new());
    make_certificates(&recordings, certificates.path());
    let mut server = start(directory.path(), certificates.path());
    let results = results.path().join("results.json");
    let outcomes = replay(&address(directory.path()), &recordings, certificates.path(), &results);
    assert!(server.is_running(), "the server is gone");
    assert!(outcomes.len() >= 400, "only {} scenarios were found", outcomes.len());

    let known: BTreeSet<&str> = KNOWN
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut wrong = String::new();
    for (id, outcome) in &outcomes {
        match (outcome.passed, known.contains(id.as_str())) {
            (true, false) | (false, true) => {}
            (false, false) => wrong += &format!("{id} differs:\n{}\n", outcome.difference),
            (true, true) => wrong += &format!("{id} passes now; take it off the list\n"),
        }
    }
    for id in known.iter().filter(|id| !outcomes.contains_key(**id)) {
        wrong += &format!("{id} is on the list and was not replayed\n");
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{} scenarios, {} of them known to differ", outcomes.len(), known.len());
}
