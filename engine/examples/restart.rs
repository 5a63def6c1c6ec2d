//! Measures a start alone: how long it takes until a store of many keys answers, and how much
//! memory it has then.
//!
//! `cargo run --release -p mainstay-engine --example restart -- fill DIRECTORY KEYS BYTES`
//! `cargo run --release -p mainstay-engine --example restart -- start DIRECTORY CORES [COUNT]`
//!
//! `fill` writes KEYS keys with values of BYTES bytes and waits until a snapshot holds them all
//! (for `fill-log`, without one). `start` tells when every core has answered, from the start of the
//! process; with COUNT it also counts the keys.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use mainstay_engine::Store;
use mainstay_engine::request::{KeyRange, Operation, Put, RangeRequest, Transaction};
use mainstay_engine::runtime::{Options, Tuning, open, timer};
use mainstay_engine::snapshot::policy::Pace;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Writes under way at once.
const WRITERS: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        ["fill", directory, keys, bytes] => {
            fill(Path::new(directory), keys.parse()?, bytes.parse()?, true)
        }
        ["fill-log", directory, keys, bytes] => {
            fill(Path::new(directory), keys.parse()?, bytes.parse()?, false)
        }
        ["start", directory, cores] => start(Path::new(directory), cores.parse()?, false, started),
        ["start", directory, cores, _] => {
            start(Path::new(directory), cores.parse()?, true, started)
        }
        _ => Err("arguments: fill DIRECTORY KEYS BYTES, or start DIRECTORY CORES".into()),
    }
}

fn fill(directory: &Path, keys: usize, bytes: usize, snapshot: bool) -> Result<(), Box<dyn Error>> {
    let data_dir = directory.to_owned();
    let options = Options { data_dir: data_dir.clone(), cores: 2, ..Options::default() };
    let snapshots = if snapshot {
        Pace { log_bytes: u64::MAX, quiet_log_bytes: 1, idle_ms: 300, bytes_per_second: 1 << 40 }
    } else {
        Pace { log_bytes: u64::MAX, quiet_log_bytes: u64::MAX, ..Pace::default() }
    };
    let tuning = Tuning { snapshots, ..Tuning::default() };
    open(&options)?.tune(tuning).run(move |core| {
        let data_dir = data_dir.clone();
        async move {
            if core.number > 0 {
                return core.shutdown.requested().await;
            }
            let started = Instant::now();
            let store = &core.store;
            let writer = |first: usize| async move {
                for number in (first..keys).step_by(WRITERS) {
                    put(store, number, bytes).await;
                }
            };
            join_all((0..WRITERS).map(writer)).await;
            println!("{keys} keys of {bytes} bytes in {:.1?}", started.elapsed());
            while snapshot && newest_snapshot(&data_dir) < store.status().raft_index {
                timer::sleep(Duration::from_millis(50)).await;
            }
            core.shutdown.request();
        }
    })?;
    report_files(directory)
}

async fn put(store: &Store, number: usize, bytes: usize) {
    // Not in order, as keys of many writers are not.
    let name = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let key = format!("/registry/pods/namespace-{:03}/pod-{name:016x}", number % 1000);
    let value = vec![number as u8; bytes];
    let put = Put {
        key: Bytes::from(key),
        value: value.into(),
        lease: 0,
        previous: false,
        ignore_value: false,
        ignore_lease: false,
    };
    store.transact(Transaction::of(Operation::Put(put))).await.expect("the put is done");
}

fn start(
    directory: &Path,
    cores: usize,
    count: bool,
    started: Instant,
) -> Result<(), Box<dyn Error>> {
    let options = Options { data_dir: directory.to_owned(), cores, ..Options::default() };
    open(&options)?.run(move |core| async move {
        let status = core.store.status();
        println!("core {}: ready after {:.0?}", core.number, started.elapsed());
        if core.number > 0 {
            return core.shutdown.requested().await;
        }
        timer::sleep(Duration::from_millis(600)).await;
        let memory = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for line in
            memory.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"))
        {
            println!("{line}");
        }
        let live = core.store.status().live_bytes;
        println!(
            "revision {}, {} keys, {live} live bytes",
            status.revision,
            core.store.status().keys
        );
        if count {
            let all = KeyRange::From(Bytes::from_static(b"\0"));
            let request = RangeRequest { count_only: true, ..RangeRequest::new(all) };
            let counted = core.store.range(request).await.expect("a count").count;
            println!("{counted} keys counted");
        }
        core.shutdown.request();
    })?;
    Ok(())
}

fn files(directory: &Path, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("member").join(folder));
    entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The index of the newest snapshot; 0 when there is none.
fn newest_snapshot(directory: &Path) -> u64 {
    let index = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".snap")?;
        u64::from_str_radix(name, 16).ok()
    };
    files(directory, "snap").iter().filter_map(index).max().unwrap_or(0)
}

fn report_files(directory: &Path) -> Result<(), Box<dyn Error>> {
    for folder in ["snap", "wal"] {
        let mut bytes = 0;
        for path in files(directory, folder) {
            bytes += fs::metadata(path)?.len();
        }
        println!("{folder}: {} MiB", bytes >> 20);
    }
    Ok(())
}
