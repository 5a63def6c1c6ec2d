//! The etcd door over TLS, with certificates that Mainstay makes and with others'.

use std::path::Path;
use std::process::Command;

use mainstay_tests::etcdctl::{self, Etcdctl};
use mainstay_tests::process::{Directory, Mainstay, binary};

fn flags(directory: &Path, client: Option<&str>) -> Vec<String> {
    let file = |name: &str| directory.join("pki").join(name).display().to_string();
    let mut flags = vec![format!("--cacert={}", file("ca.crt"))];
    if let Some(client) = client {
        flags.push(format!("--cert={}", file(&format!("{client}.crt"))));
        flags.push(format!("--key={}", file(&format!("{client}.key"))));
    }
    flags
}

#[test]
fn tls_with_certificates_of_our_own() {
    if !etcdctl::is_present() {
        etcdctl::skipped("TLS");
        return;
    }
    let directory = Directory::new();
    let listen = "--listen-client-urls=https://127.0.0.1:0";
    let server = Mainstay::store(directory.path(), &["--cores=2", listen]);
    let etcdctl = Etcdctl::new(&format!("https://{}", server.etcd));
    let trusting = etcdctl.clone().with(flags(directory.path(), None));
    assert_eq!(trusting.ok(&["put", "k", "v"]), "OK\n");
    let mut watch = trusting.start(&["watch", "k", "--rev=1"]);
    assert_eq!(watch.next(3), "PUT|k|v");
    let short = vec!["--command-timeout=2s".to_owned(), "--dial-timeout=2s".to_owned()];
    etcdctl.clone().with(short.clone()).fails(&["get", "k"]);
    drop(watch);
    assert!(server.stop().success());

    // The same certificates after a restart; and now clients must have one, too.
    let authority = format!("--trusted-ca-file={}/pki/ca.crt", directory.path().display());
    for asking in ["--client-cert-auth", &authority] {
        let server = Mainstay::store(directory.path(), &["--cores=2", listen, asking]);
        let etcdctl = Etcdctl::new(&format!("https://{}", server.etcd));
        let admin = etcdctl.clone().with(flags(directory.path(), Some("admin")));
        assert_eq!(admin.ok(&["get", "k"]), "k\nv\n", "{asking}");
        for others in [flags(directory.path(), None), flags(directory.path(), Some("apiserver"))] {
            etcdctl.clone().with([others, short.clone()].concat()).fails(&["get", "k"]);
        }
        assert!(server.stop().success());
    }
}

#[test]
fn unusable_certificates_are_told_before_anything_is_served() {
    let directory = Directory::new();
    let file = directory.path().join("nonsense.pem");
    std::fs::write(&file, "nonsense").expect("a file");
    let file = file.display().to_string();
    let data = directory.path().join("data").display().to_string();
    for (flags, expected) in [
        (vec!["--cert-file", &file, "--key-file", &file], "no certificate in the PEM data"),
        (vec!["--cert-file", "/no/such", "--key-file", &file], "can't read /no/such"),
        (vec!["--trusted-ca-file", &file], "the client CA"),
        (vec!["--cert-file", &file], "--key-file"),
    ] {
        let output = Command::new(binary())
            .args(["store", "--data-dir", &data, "--listen-client-urls=https://127.0.0.1:0"])
            .args(&flags)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{flags:?}");
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
}
