//! The etcd door, driven by the `etcd-client` crate. Its build needs `protoc`, so it is a program of
//! its own, in `tests/etcd-client`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use mainstay_tests::process::{Directory, Mainstay};

fn left_out(reason: &str) {
    let _lost = writeln!(std::io::stderr(), "NOT TESTED: the etcd-client crate: {reason}");
}

fn has_protoc() -> bool {
    let protoc = std::env::var_os("PROTOC").unwrap_or_else(|| "protoc".into());
    Command::new(protoc).arg("--version").stdout(Stdio::null()).status().is_ok()
}

#[test]
fn everything_the_client_offers() {
    if !has_protoc() {
        return left_out("protoc is not on PATH (Debian: apt-get install protobuf-compiler)");
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("etcd-client");
    // Beside the workspace's own builds, so that it is kept like them.
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.ancestors().nth(3).expect("a target directory").join("etcd-client");
    let cargo = |command: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.arg(command).arg("--quiet").arg("--locked").current_dir(&program);
        cargo.env("CARGO_TARGET_DIR", &target);
        cargo
    };
    if !cargo("fetch").status().expect("cargo runs").success() {
        return left_out("its crates can't be fetched");
    }
    assert!(cargo("build").status().expect("cargo runs").success(), "it does not build");
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    let output = Command::new(target.join("debug/etcd-client-check"))
        .arg(&server.etcd)
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 17, "{said}");
}
