//! The whole program against a real etcd, if one is in PATH: every workload, the files it writes,
//! its exit codes, and a short comparison.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use mainstay_bench::compare::peer::{Peer, find};
use mainstay_bench::compare::server::{ScratchDirectory, Server};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// Starts etcd; without one says loudly what is not tested (the test harness hides `eprintln`).
fn etcd(label: &str) -> Option<Server> {
    if find(Path::new("etcd")).is_none() {
        let _ = writeln!(
            std::io::stderr(),
            "\n*** NOT TESTED: {label}. etcd is not in PATH (Debian: apt-get install etcd-server)\n"
        );
        return None;
    }
    let peer = Peer::parse("etcd=etcd:etcd").unwrap().locate().unwrap();
    let directory = ScratchDirectory::create(&std::env::temp_dir(), label).unwrap();
    Some(Server::start(&peer, directory).unwrap())
}

/// Runs the program with the words of `arguments`.
fn bench(arguments: &str) -> Output {
    let words = arguments.split_whitespace();
    Command::new(env!("CARGO_BIN_EXE_mainstay-bench")).args(words).output().unwrap()
}

fn signal(server: &Server, name: &str) {
    let process = server.process().to_string();
    assert!(Command::new("kill").args([name, &process]).status().unwrap().success());
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_workload_runs_without_errors() {
    let Some(server) = etcd("test-workloads") else { return };
    let files = ScratchDirectory::create(&std::env::temp_dir(), "test-files").unwrap();
    let (json, log) = (files.path().join("figures.json"), files.path().join("run.hlog"));
    let endpoint = format!("http://{}", server.endpoint().authority());
    for (workload, operations) in [
        ("--workload put --total 300", 300),
        ("--workload put --total 300 --rate 3000", 300),
        ("--workload txn-put --total 300 --key-space 20", 300),
        ("--workload lease-flood --total 300 --key-space 40", 300),
        ("--workload range --total 300 --key-space 50", 300),
        ("--workload range --total 300 --key-space 50 --serializable --no-prepare", 300),
        ("--workload range --list --limit 10 --total 50 --key-space 50", 50),
        ("--workload watch --total 30 --watchers 10 --watchers-per-stream 3 --rate 300", 300),
        ("--workload put --total 300 --threads 2", 300),
    ] {
        let output = bench(&format!(
            "etcd --endpoints {endpoint} --clients 8 --json {} --hdr-log {} {workload}",
            json.display(),
            log.display()
        ));
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{workload}: {said} {complained}");
        let figures = read_json(&json);
        assert_eq!(figures["operations"], operations, "{workload}: {said}");
        assert_eq!(figures["errors"], Value::Object(serde_json::Map::new()), "{workload}");
        assert!(figures["latency"]["p50_us"].as_f64().unwrap() > 10.0, "{workload}: {said}");
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(log.contains("[BaseTime: ") && log.contains("HISTFAAA"), "{workload}: {log}");
    }
    server.stop();
}

#[test]
fn errors_are_counted_by_kind_and_make_the_exit_code() {
    let Some(server) = etcd("test-errors") else { return };
    let endpoint = format!("http://{}", server.endpoint().authority());
    let arguments =
        format!("etcd --endpoints {endpoint} --total 20 --clients 2 --request-timeout 50ms");
    // A stopped process still has its connections accepted by the kernel, but never answers.
    signal(&server, "-STOP");
    let output = bench(&arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("20 x no answer within"), "{said}");
    let forgiven = bench(&format!("{arguments} --allow-errors --no-prepare --workload range"));
    signal(&server, "-CONT");
    // All failed, so there is nothing to forgive them for.
    assert!(!forgiven.status.success());
    server.stop();

    let output = bench(&arguments);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complained.contains("cannot connect"), "{complained}");
}

#[test]
fn a_stall_of_the_server_is_charged_to_all_requests_that_were_due() {
    let Some(server) = etcd("test-stall") else { return };
    let files = ScratchDirectory::create(&std::env::temp_dir(), "test-stall-files").unwrap();
    let endpoint = format!("http://{}", server.endpoint().authority());
    let json = files.path().join("figures.json");
    // Two clients only: without the correction just two requests would see the stall.
    let arguments = format!(
        "etcd --endpoints {endpoint} --clients 2 --rate 200 --duration 2s --json {}",
        json.display()
    );
    let output = std::thread::scope(|scope| {
        let running = scope.spawn(|| bench(&arguments));
        std::thread::sleep(Duration::from_millis(700));
        signal(&server, "-STOP");
        std::thread::sleep(Duration::from_millis(600));
        signal(&server, "-CONT");
        running.join().unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let figures = read_json(&json);
    // 600 ms of 2 s were stalled: the requests due in its first half waited for over 300 ms.
    let curve = figures["curve"].as_array().unwrap();
    let slow =
        curve.iter().find(|point| point["latency_us"].as_f64().unwrap() > 300_000.0).unwrap();
    let percentile = slow["percentile"].as_f64().unwrap();
    assert!(percentile < 93.0, "over 300 ms only from percentile {percentile}");
    server.stop();
}

#[test]
fn a_comparison_writes_its_report_and_leaves_nothing_behind() {
    let Some(server) = etcd("test-compare") else { return };
    server.stop();
    let files = ScratchDirectory::create(&std::env::temp_dir(), "test-report").unwrap();
    let data = files.path().join("data");
    let (report, json) = (files.path().join("report.html"), files.path().join("report.json"));
    let output = bench(&format!(
        "compare --peer one=etcd:etcd --peer two=etcd:etcd --clients 1,8 --workloads put \
         --duration 300ms --warmup 100ms --idle 100ms --rounds 1 --dir {} --output {} --json {} \
         -- --key-space 100",
        data.display(),
        report.display(),
        json.display()
    ));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(&report).unwrap();
    assert!(page.contains("one and two, side by side") && page.contains("etcd Version"));
    let comparison = read_json(&json);
    let runs = comparison["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    for run in runs {
        for figure in
            ["start_ms", "idle_resident_bytes", "resident_peak_bytes", "cpu_us_per_operation"]
        {
            assert!(run[figure].as_f64().unwrap() > 0.0, "{figure} of {run}");
        }
        assert!(run["written_bytes_per_operation"].as_f64().unwrap() >= 512.0, "{run}");
    }
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "data directories are removed");
}

#[test]
fn clusters_are_compared_by_the_sum_of_their_members() {
    let Some(server) = etcd("test-clusters") else { return };
    server.stop();
    let files = ScratchDirectory::create(&std::env::temp_dir(), "test-clusters-files").unwrap();
    let data = files.path().join("data");
    let (report, json) = (files.path().join("report.html"), files.path().join("report.json"));
    let output = bench(&format!(
        "compare --peer one=etcd:etcd --members 3 --clients 6 --workloads put --duration 500ms \
         --warmup 200ms --idle 100ms --rounds 1 --dir {} --output {} --json {} -- --key-space 100",
        data.display(),
        report.display(),
        json.display()
    ));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read_to_string(&report).unwrap().contains("sum over its members"));
    let comparison = read_json(&json);
    let run = &comparison["runs"][0];
    assert_eq!(run["figures"]["asked"]["endpoints"].as_array().unwrap().len(), 3);
    // Each of three members writes it.
    assert!(run["written_bytes_per_operation"].as_f64().unwrap() >= 3.0 * 512.0, "{run}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "data directories are removed");
}

#[test]
fn killed_leaders_and_joining_members_are_measured() {
    let Some(server) = etcd("test-failover") else { return };
    server.stop();
    let files = ScratchDirectory::create(&std::env::temp_dir(), "test-failover-files").unwrap();
    let (data, json) = (files.path().join("data"), files.path().join("report.json"));
    let output = bench(&format!(
        "failover --peer one=etcd:etcd --kills 2 --settle 500ms --dir {} --json {}",
        data.display(),
        json.display()
    ));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outcome = &read_json(&json)["outcomes"][0];
    let kills = outcome["kills"].as_array().unwrap();
    assert_eq!(kills.len(), 2);
    for kill in kills {
        // An election takes at least as long as followers wait for a leader: a second.
        let gap_ms = kill["gap_ms"].as_f64().unwrap();
        assert!((500.0..20_000.0).contains(&gap_ms), "{kill}");
    }

    let output = bench(&format!(
        "catchup --peer one=etcd:etcd --keys 2000 --value-size 512 --clients 8 --rate 200 --beside 2s \
         --dir {} --json {}",
        data.display(),
        json.display()
    ));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outcome = &read_json(&json)["outcomes"][0];
    assert!(outcome["caught_up_seconds"].as_f64().unwrap() > 0.0, "{outcome}");
    for felt in outcome["felt"].as_array().unwrap() {
        assert!(felt["operations"].as_u64().unwrap() > 0, "{outcome}");
    }
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "data directories are removed");
}
