//! Replays what was recorded from etcd's JSON gateway against a real server.
//!
//! The recordings and the script that replays them lie beside the project, in `../shared/golden`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mainstay_tests::process::{Directory, Mainstay};

/// The scenarios that are not answered as etcd does, with the reason.
const KNOWN: &[(&str, &str)] = &[];

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

fn has_python() -> bool {
    Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok()
}

fn skipped(reason: &str) {
    let _lost = writeln!(
        std::io::stderr(),
        "NOT TESTED: the answers of etcd's JSON gateway, scenario by scenario: {reason}"
    );
}

/// Replays all etcd scenarios against `server`.
fn replay(server: &Mainstay, recordings: &Path, results: &Path) -> BTreeMap<String, Outcome> {
    let said = Command::new("python3")
        .arg(recordings.join("replay.py"))
        .args(["--etcd", &format!("http://{}", server.etcd), "--area", "etcd-*", "--quiet"])
        .arg("--json")
        .arg(results)
        .output()
        .expect("python3 runs");
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
fn etcd_scenarios() {
    let Some(recordings) = recordings() else {
        return skipped("../shared/golden is not there");
    };
    if !has_python() {
        return skipped("python3 is not on PATH");
    }
    let directory = Directory::new();
    let mut server = Mainstay::store(directory.path(), &["--cores=2"]);
    let results = Directory::new();
    let outcomes = replay(&server, &recordings, &results.path().join("results.json"));
    assert!(server.is_running(), "the server is gone");
    assert!(outcomes.len() >= 100, "only {} scenarios were found", outcomes.len());

    let mut wrong = String::new();
    for (id, outcome) in &outcomes {
        let known = KNOWN.iter().find(|(known, _)| known == id);
        match (outcome.passed, known) {
            (true, None) | (false, Some(_)) => {}
            (false, None) => wrong += &format!("{id} differs:\n{}\n", outcome.difference),
            (true, Some((_, reason))) => {
                wrong += &format!("{id} passes now; take it off the list ({reason})\n");
            }
        }
    }
    for (id, _) in KNOWN {
        if !outcomes.contains_key(*id) {
            wrong += &format!("{id} is on the list and was not replayed\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{} scenarios, {} of them known to differ", outcomes.len(), KNOWN.len());
}
