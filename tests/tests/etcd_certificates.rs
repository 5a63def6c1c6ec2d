//! Certificates of the etcd door that change while it serves, and clients that they shut out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mainstay_tests::process::{Directory, Mainstay};
use mainstay_tests::tls::{self, Authority, Identity};

/// Longer than it takes until changed files are looked at.
const PATIENCE: Duration = Duration::from_secs(20);

struct Setup {
    directory: Directory,
    authority: Authority,
    server: Identity,
}

impl Setup {
    fn new() -> Setup {
        let authority = Authority::new("test CA");
        let server = authority.sign("server", &["localhost", "127.0.0.1"], 1);
        let setup = Setup { directory: Directory::new(), authority, server };
        setup.write("ca.crt", &setup.authority.pem);
        setup.write("tls.crt", &setup.server.certificate);
        setup.write("tls.key", &setup.server.key);
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        tls::replace(&self.path(name), content);
    }

    fn start(&self, more: &[&str]) -> Mainstay {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.path(name).display());
        let data = self.path("data");
        let flags = [file("cert-file", "tls.crt"), file("key-file", "tls.key")];
        let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        flags.extend(["--cores=2", "--listen-client-urls=https://127.0.0.1:0"]);
        flags.extend(more);
        Mainstay::store(&data, &flags)
    }

    fn flag(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.path(file).display())
    }

    /// Whether this client is served.
    fn serves(&self, server: &Mainstay, client: Option<&Identity>) -> bool {
        match tls::get(&server.etcd, "/version", &self.authority.pem, client) {
            Ok((answer, _)) => {
                assert!(answer.contains("etcdserver"), "{answer}");
                true
            }
            Err(_) => false,
        }
    }
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn certificates_are_replaced_without_a_restart() {
    let setup = Setup::new();
    let server = setup.start(&[]);
    let shown = |trusted: &str| {
        tls::get(&server.etcd, "/health", trusted, None).map(|(_, certificate)| certificate)
    };
    let first = shown(&setup.authority.pem).expect("served");

    // Half of a pair: the old pair stays, and that is said once.
    let other = Authority::new("another CA");
    let next = other.sign("server", &["localhost"], 2);
    setup.write("tls.crt", &next.certificate);
    eventually("the mistake is told", || {
        assert_eq!(shown(&setup.authority.pem).expect("still served"), first);
        server.stderr().contains("the certificates that were served so far stay")
    });
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(shown(&setup.authority.pem).expect("still served"), first);
    assert_eq!(server.stderr().matches("served so far stay").count(), 1, "{}", server.stderr());

    // The whole pair: new clients see it, and trust the other authority.
    setup.write("tls.key", &next.key);
    eventually("the new pair is served", || shown(&other.pem).is_ok());
    assert_ne!(shown(&other.pem).expect("served"), first);
    assert!(shown(&setup.authority.pem).is_err());
    assert!(server.stderr().contains("new certificates taken"));
    assert!(server.stop().success());
}

#[test]
fn revoked_certificates_are_refused_from_then_on() {
    let setup = Setup::new();
    let good = setup.authority.sign("good", &[], 20);
    let bad = setup.authority.sign("bad", &[], 30);
    setup.write("revoked.pem", &setup.authority.revoke(&[10]));
    let flags =
        [setup.flag("trusted-ca-file", "ca.crt"), setup.flag("client-crl-file", "revoked.pem")];
    let server = setup.start(&[&flags[0], &flags[1]]);
    assert!(setup.serves(&server, Some(&good)) && setup.serves(&server, Some(&bad)));
    assert!(!setup.serves(&server, None));
    setup.write("revoked.pem", &setup.authority.revoke(&[10, 30]));
    eventually("the list is read again", || !setup.serves(&server, Some(&bad)));
    assert!(setup.serves(&server, Some(&good)));
    // A list that can't be read changes nothing.
    setup.write("revoked.pem", "nonsense");
    eventually("it is told", || {
        assert!(!setup.serves(&server, Some(&bad)));
        server.stderr().contains("revocation list can't be used")
    });
    assert!(setup.serves(&server, Some(&good)));
    assert!(server.stop().success());
}

#[test]
fn another_authority_may_vouch_for_clients() {
    let setup = Setup::new();
    let other = Authority::new("another CA");
    let (ours, theirs) = (setup.authority.sign("ours", &[], 2), other.sign("theirs", &[], 3));
    let server = setup.start(&[&setup.flag("trusted-ca-file", "ca.crt")]);
    assert!(setup.serves(&server, Some(&ours)) && !setup.serves(&server, Some(&theirs)));
    setup.write("ca.crt", &other.pem);
    eventually("the authority is read again", || setup.serves(&server, Some(&theirs)));
    assert!(!setup.serves(&server, Some(&ours)));
    assert!(server.stop().success());
}

#[test]
fn only_certificates_with_the_right_name_are_taken() {
    let setup = Setup::new();
    let authority = setup.flag("trusted-ca-file", "ca.crt");
    let node = setup.authority.sign("node", &["node.example"], 2);
    let guest = setup.authority.sign("guest", &["guest.example"], 3);
    for flag in
        ["--client-cert-allowed-cn=other,node", "--client-cert-allowed-hostname=node.example"]
    {
        let server = setup.start(&[&authority, flag]);
        assert!(setup.serves(&server, Some(&node)), "{flag}");
        assert!(!setup.serves(&server, Some(&guest)) && !setup.serves(&server, None), "{flag}");
        assert!(server.stop().success());
    }
}

#[test]
fn versions_of_tls_are_chosen() {
    let setup = Setup::new();
    let (older, newer) = (&rustls::version::TLS12, &rustls::version::TLS13);
    for (flags, old_works, new_works) in [
        (&["--tls-min-version=TLS1.3"][..], false, true),
        (&["--tls-max-version=TLS1.2"], true, false),
        (&["--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"], true, true),
        (&["--cipher-suites=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"], false, true),
    ] {
        let server = setup.start(flags);
        for (version, works) in [(older, old_works), (newer, new_works)] {
            let handshake = || {
                let mut stream =
                    tls::connect(&server.etcd, &setup.authority.pem, None, &[version])?;
                stream.conn.complete_io(&mut stream.sock)
            };
            assert_eq!(handshake().is_ok(), works, "{flags:?} {version:?}");
        }
        assert!(server.stop().success());
    }
}

#[test]
fn the_kubernetes_door_takes_new_certificates_too() {
    let setup = Setup::new();
    let data = setup.path("data");
    let own =
        [setup.flag("tls-cert-file", "tls.crt"), setup.flag("tls-private-key-file", "tls.key")];
    let server = Mainstay::serve(&data, &["--cores=1", &own[0], &own[1]]);
    let line = server.banner.lines().find_map(|line| line.trim().strip_prefix("Kubernetes:"));
    let address = line.expect("a Kubernetes door").trim().strip_prefix("https://").expect("a URL");
    let live = |trusted: &str| tls::get(address, "/livez", trusted, None);
    eventually("it has started", || {
        live(&setup.authority.pem).expect("served").0.contains("200 OK")
    });
    let other = Authority::new("another CA");
    let next = other.sign("server", &["localhost"], 2);
    setup.write("tls.crt", &next.certificate);
    setup.write("tls.key", &next.key);
    eventually("the new pair is served", || live(&other.pem).is_ok());
    assert!(live(&setup.authority.pem).is_err());
    assert!(server.stop().success());
}
