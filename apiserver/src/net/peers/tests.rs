//! Members that show each other certificates, on loopback.

use std::cell::RefCell;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use mainstay_engine::cluster::MemberInfo;
use mainstay_engine::message::Request;
use mainstay_engine::peer::{Identity, JoinAnswer, PeerMessage};
use mainstay_engine::runtime::peers::{Handler, PeerMetrics, Peers};
use mainstay_engine::runtime::{run_alone, timer};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use super::*;

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path =
            std::env::temp_dir().join(format!("mainstay-peers-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(DnType::CommonName, "peers");
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(parameters, key).expect("an authority")
}

/// Writes a certificate for 127.0.0.1 of this common name, its key and its authority; options that
/// use them.
fn options(directory: &Directory, name: &str, authority: &Authority) -> PeerTlsOptions {
    let mut parameters =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a good address");
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let made = parameters.signed_by(&key, authority).expect("a certificate");
    PeerTlsOptions {
        certificate: Some(directory.write(&format!("{name}.crt"), &made.pem())),
        key: Some(directory.write(&format!("{name}.key"), &key.serialize_pem())),
        trusted_ca: Some(directory.write("ca.crt", &authority.pem())),
        ..PeerTlsOptions::default()
    }
}

/// Keeps the numbers of requests.
#[derive(Default)]
struct Told(RefCell<Vec<u64>>);

impl Handler for Told {
    fn messages(&self, _from: u64, messages: Vec<PeerMessage>) {
        let number = |message: PeerMessage| match message {
            PeerMessage::Request { number, .. } => Some(number),
            _ => None,
        };
        self.0.borrow_mut().extend(messages.into_iter().filter_map(number));
    }

    fn join(&self, _peer_urls: &[String]) -> Option<JoinAnswer> {
        None
    }

    fn removed(&self, _by: u64) {}
}

fn free_url(tls: bool) -> ListenUrl {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address: SocketAddr = listener.local_addr().expect("bound");
    ListenUrl { tls, address: ListenAddress::Tcp(address) }
}

/// Whether two members with these options get to talk to each other; `wait_ms` for those who won't.
fn talk(options: [PeerTlsOptions; 2], tls: bool, wait_ms: u64) -> bool {
    let test = move || async move {
        let urls = [free_url(tls), free_url(tls)];
        let infos = [1, 2].map(|id| MemberInfo {
            id,
            peer_urls: vec![urls[id as usize - 1].to_string()],
            ..MemberInfo::default()
        });
        let mut members = Vec::new();
        for (id, (url, options)) in (1..).zip(urls.iter().zip(&options)) {
            let network = network(std::slice::from_ref(url), options).expect("good options");
            let own = Identity { cluster_id: 9, member_id: id, ..Identity::default() };
            let told = Rc::new(Told::default());
            let metrics = Arc::new(PeerMetrics::default());
            let peers = Peers::start(own, network, told.clone(), metrics).expect("free ports");
            peers.set_members(&infos);
            members.push((peers, told));
        }
        let begun_ms = timer::monotonic_ms();
        while timer::monotonic_ms() < begun_ms + wait_ms {
            timer::sleep(Duration::from_millis(10)).await;
            if members[0].0.is_connected(2) && members[1].0.is_connected(1) {
                break;
            }
        }
        members[0].0.send(2, PeerMessage::Request { number: 77, request: Request::Leases });
        timer::sleep(Duration::from_millis(200)).await;
        members.iter().for_each(|(peers, _)| peers.stop());
        *members[1].1.0.borrow() == [77]
    };
    run_alone(test).expect("no panic")
}

const SHORT_MS: u64 = 700;
const LONG_MS: u64 = 20_000;

#[test]
fn members_of_one_authority_talk() {
    let directory = Directory::new("talk");
    let authority = authority();
    let one = options(&directory, "one", &authority);
    let two = options(&directory, "two", &authority);
    assert!(talk([one.clone(), two.clone()], true, LONG_MS));

    let allow = |options: &PeerTlsOptions, names: &[&str]| PeerTlsOptions {
        allowed: AllowedNames {
            common_names: names.iter().map(|&name| name.to_owned()).collect(),
            ..AllowedNames::default()
        },
        ..options.clone()
    };
    assert!(talk([allow(&one, &["two"]), allow(&two, &["three", "one"])], true, LONG_MS));
    assert!(!talk([allow(&one, &["two"]), allow(&two, &["three"])], true, SHORT_MS));
}

#[test]
fn strangers_do_not_get_in() {
    let (ours, theirs) = (Directory::new("ours"), Directory::new("theirs"));
    let one = options(&ours, "one", &authority());
    let other = options(&theirs, "other", &authority());
    let made = PeerTlsOptions { auto_tls: true, ..PeerTlsOptions::default() };
    assert!(!talk([one.clone(), other], true, SHORT_MS), "another authority");
    assert!(!talk([one.clone(), made], true, SHORT_MS), "no certificate to show");
    assert!(talk([one, PeerTlsOptions::default()], false, LONG_MS), "http:// is not encrypted");
}

#[test]
fn members_that_make_their_certificates_talk() {
    let made = || PeerTlsOptions { auto_tls: true, ..PeerTlsOptions::default() };
    assert!(talk([made(), made()], true, LONG_MS));
}

#[test]
fn a_revoked_certificate_is_not_good() {
    let directory = Directory::new("revoked");
    let authority = authority();
    let one = options(&directory, "one", &authority);
    let two = options(&directory, "two", &authority);
    let pem = fs::read(two.certificate.as_ref().expect("written")).expect("a file");
    let chain = crate::net::tls::certificates("two", &pem).expect("a certificate");
    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).expect("a certificate");
    let revoked = rcgen::RevokedCertParams {
        serial_number: rcgen::SerialNumber::from_slice(parsed.raw_serial()),
        revocation_time: rcgen::date_time_ymd(2025, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2025, 1, 1),
        next_update: rcgen::date_time_ymd(2099, 1, 1),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&authority).expect("a list").pem().expect("PEM");
    let wary = PeerTlsOptions { revoked: Some(directory.write("crl.pem", &list)), ..one.clone() };
    assert!(!talk([wary, two.clone()], true, SHORT_MS));
    assert!(talk([one, two], true, LONG_MS));
}

#[test]
fn flags_that_can_not_work_are_refused() {
    let directory = Directory::new("flags");
    let good = options(&directory, "one", &authority());
    let unix = ListenUrl { tls: false, address: ListenAddress::Unix(Path::new("/a").to_owned()) };
    let absent = Some(directory.0.join("absent"));
    for (listen, options, expected) in [
        (unix, good.clone(), "members connect by TCP"),
        (free_url(true), PeerTlsOptions::default(), "--peer-auto-tls"),
        (
            free_url(true),
            PeerTlsOptions { trusted_ca: None, ..good.clone() },
            "--peer-trusted-ca-file",
        ),
        (
            free_url(true),
            PeerTlsOptions { auto_tls: true, client_cert_auth: true, ..PeerTlsOptions::default() },
            "--peer-trusted-ca-file",
        ),
        (free_url(true), PeerTlsOptions { key: absent.clone(), ..good.clone() }, "absent"),
        (free_url(true), PeerTlsOptions { client_key: absent, ..good.clone() }, "absent"),
    ] {
        let refused = network(&[listen], &options).err().expect(expected).to_string();
        assert!(refused.contains(expected), "{refused}, not {expected}");
    }
    assert!(network(&[free_url(false)], &PeerTlsOptions::default()).is_ok());
}
