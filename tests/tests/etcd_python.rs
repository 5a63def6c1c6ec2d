//! The etcd door, driven by the Python package `etcd3`, in an environment of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mainstay_tests::process::{Directory, Mainstay};

fn left_out(reason: &str) {
    let _lost = writeln!(std::io::stderr(), "NOT TESTED: the Python package etcd3: {reason}");
}

/// An interpreter with the packages, made once and kept beside the workspace's builds; or why there
/// is none.
fn interpreter(requirements: &Path) -> Result<PathBuf, String> {
    let test = std::env::current_exe().expect("a test has a path");
    let environment = test.ancestors().nth(3).expect("a target directory").join("etcd3-python");
    let python = environment.join("bin/python");
    let has_packages = || {
        let mut command = Command::new(&python);
        command.args(["-c", "import etcd3, grpc"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if has_packages() {
        return Ok(python);
    }
    let run = |command: &mut Command, what: &str| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{what}: {error}")),
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment), "python3 -m venv")?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements);
    run(&mut pip, "pip install")?;
    if has_packages() { Ok(python) } else { Err("the packages can't be imported".to_owned()) }
}

#[test]
fn everything_the_package_offers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let python = match interpreter(&folder.join("requirements.txt")) {
        Ok(python) => python,
        Err(reason) => return left_out(&reason),
    };
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--cores=2"]);
    let (host, port) = server.etcd.rsplit_once(':').expect("an address");
    let output = Command::new(python)
        .arg(folder.join("etcd3_check.py"))
        .args([host, port])
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 7, "{said}");
}
