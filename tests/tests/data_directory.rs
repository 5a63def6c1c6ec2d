//! What a start says of a data directory or a kernel that it can't work with. Nothing is lost by it.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use mainstay_proto::kv;
use mainstay_tests::grpc::{Client, block_on};
use mainstay_tests::process::{Directory, Mainstay, binary};

const KEYS: usize = 40;

fn key(number: usize) -> Bytes {
    Bytes::from(format!("/data/{number:03}"))
}

/// A directory that holds [`KEYS`] keys, of a server that has stopped.
fn filled() -> Directory {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &[]);
    block_on(async {
        let client = Client::connect(&server.etcd).await;
        for number in 0..KEYS {
            // One request at a time: each is a frame of its own.
            let request = kv::PutRequest {
                key: key(number),
                value: vec![b'v'; 200].into(),
                ..kv::PutRequest::default()
            };
            let answer: Result<kv::PutResponse, _> =
                client.unary("/etcdserverpb.KV/Put", &request).await;
            answer.expect("a put");
        }
    });
    assert!(server.stop().success());
    directory
}

fn count(directory: &Path) -> i64 {
    let server = Mainstay::store(directory, &[]);
    let request = kv::RangeRequest {
        key: Bytes::from_static(b"/data/"),
        range_end: Bytes::from_static(b"/data0"),
        count_only: true,
        ..kv::RangeRequest::default()
    };
    let answer: kv::RangeResponse = block_on(async {
        Client::connect(&server.etcd).await.unary("/etcdserverpb.KV/Range", &request).await
    })
    .expect("a range");
    assert!(server.stop().success());
    answer.count
}

/// What a start that must fail says.
fn refusal(directory: &Path) -> String {
    let output = Command::new(binary())
        .args(["store", "--listen-client-urls=http://127.0.0.1:0", "--data-dir"])
        .arg(directory)
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it started: {said}");
    said
}

/// The segment and the offset in it at which the value of a key lies.
fn place(directory: &Path, wanted: &[u8]) -> (PathBuf, usize) {
    let wal = directory.join("member/wal");
    let files = std::fs::read_dir(&wal).expect("a log").map(|entry| entry.expect("a file").path());
    for file in files.filter(|path| path.extension().is_some_and(|ending| ending == "log")) {
        let bytes = std::fs::read(&file).expect("a segment");
        if let Some(offset) = bytes.windows(wanted.len()).position(|window| window == wanted) {
            return (file, offset);
        }
    }
    panic!("{wanted:?} is not in the log");
}

#[test]
fn damage_in_the_middle_of_the_log_is_refused_by_file_and_offset() {
    const BLOCK: usize = 4096;
    let directory = filled();
    let (file, offset) = place(directory.path(), &key(KEYS / 2));
    let whole = std::fs::read(&file).expect("a segment");
    let mut damaged = whole.clone();
    damaged[offset + 1] ^= 0x10;
    std::fs::write(&file, &damaged).expect("written");

    let said = refusal(directory.path());
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    let frame = (offset / BLOCK * BLOCK).to_string();
    assert!(said.contains(&name) && said.contains(&frame), "{name} at {frame}: {said}");
    assert_eq!(std::fs::read(&file).expect("a segment"), damaged, "a refusal changes nothing");

    std::fs::write(&file, &whole).expect("written");
    assert_eq!(count(directory.path()), KEYS as i64, "mended, everything is there");
}

#[test]
fn a_directory_of_a_newer_program_is_refused() {
    let directory = filled();
    let format = directory.path().join("FORMAT");
    let ours = std::fs::read_to_string(&format).expect("FORMAT");
    std::fs::write(&format, ours.replace("mainstay-format 1", "mainstay-format 3"))
        .expect("written");
    let said = refusal(directory.path());
    assert!(said.contains("FORMAT") || said.contains("newer"), "{said}");
    std::fs::write(&format, ours).expect("written");
    assert_eq!(count(directory.path()), KEYS as i64);
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    // /proc takes no directories, whoever asks: root ignores permissions.
    let said = refusal(Path::new("/proc/mainstay"));
    assert!(said.contains("/proc/mainstay"), "{said}");
}

#[test]
fn too_many_cores_are_refused() {
    let directory = Directory::new();
    let output = Command::new(binary())
        .args(["store", "--cores=1000", "--listen-client-urls=http://127.0.0.1:0", "--data-dir"])
        .arg(directory.path())
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--cores=1000"), "{said}");
}

#[test]
fn a_second_server_touches_nothing_of_the_first() {
    let directory = Directory::new();
    let first = Mainstay::serve(directory.path(), &[]);
    let files = ["admin.kubeconfig", "pki/apiserver.crt", "pki/apiserver.key"];
    let read = || files.map(|name| std::fs::read(directory.path().join(name)).expect(name));
    let before = read();
    // Another address: it would need another certificate, and another URL in the kubeconfig.
    let output = Command::new(binary())
        .args(["serve", "--listen-client-urls=http://127.0.0.1:0", "--secure-port=0"])
        .args(["--bind-address=127.0.0.2", "--data-dir"])
        .arg(directory.path())
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("in use by another process"), "{said}");
    assert!(read() == before, "the first one's files are as they were");
    assert!(first.stop().success());
}

#[test]
fn the_store_alone_writes_no_kubeconfig() {
    let directory = Directory::new();
    let server = Mainstay::store(directory.path(), &["--listen-client-urls=https://127.0.0.1:0"]);
    assert!(directory.path().join("pki/ca.crt").exists());
    assert!(!directory.path().join("admin.kubeconfig").exists());
    assert!(server.stop().success());
}
