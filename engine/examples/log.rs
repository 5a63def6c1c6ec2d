//! Measures the write-ahead log alone: how many durable records a second, how soon, and how
//! fast a start reads them back.
//!
//! `cargo run --release -p mainstay-engine --example log -- DIRECTORY COMMITTERS SECONDS [VARIANT]`
//!
//! COMMITTERS write one record of 1 KiB each and the next one as soon as that is durable; all that
//! wait travel in one frame. VARIANT: `synced` (O_DSYNC), `datasync`, `measured` (the default);
//! with `-shy` behind it the threads get no real-time priority. DIRECTORY must not exist, and is
//! removed at the end.

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mainstay_engine::effect::{Batch, Change, Effect, Item};
use mainstay_engine::log::encode::encode;
use mainstay_engine::log::replay::Commitment;
use mainstay_engine::record::Record;
use mainstay_engine::runtime::disk::{DataDirectory, Durability, LogOptions, LogWriter};

/// Entries that stay when segments are released, as a snapshot would have it.
const ENTRIES_KEPT: u64 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (directory, committers, seconds, variant) = match &arguments[..] {
        [directory, committers, seconds] => (directory, committers, seconds, "measured"),
        [directory, committers, seconds, variant] => (directory, committers, seconds, &variant[..]),
        _ => return Err("arguments: DIRECTORY COMMITTERS SECONDS [VARIANT]".into()),
    };
    let directory = Path::new(directory);
    if directory.exists() {
        return Err(format!("{} exists already", directory.display()).into());
    }
    let options = LogOptions {
        durability: match variant.trim_end_matches("-shy") {
            "synced" => Durability::SyncedWrites,
            "datasync" => Durability::DataSync,
            "measured" => Durability::Measured,
            other => return Err(format!("unknown variant {other}").into()),
        },
        prefer_threads: !variant.ends_with("-shy"),
        ..LogOptions::default()
    };
    write(directory, options, committers.parse()?, Duration::from_secs_f64(seconds.parse()?))?;
    read(directory)?;
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

fn write(
    directory: &Path,
    options: LogOptions,
    committers: usize,
    duration: Duration,
) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let recovery = DataDirectory::open(directory)?.recover(Commitment::EveryEntry)?;
    let log = recovery.start(options)?;
    println!(
        "a new log is open after {:.1} ms: {:?}, real-time priority: {}",
        started.elapsed().as_secs_f64() * 1e3,
        log.durability,
        log.preferred
    );
    let mut writer = log.writer;
    let mut latencies_us = Vec::new();
    // When each committer that is waiting began to wait, and the frames on their way.
    let mut queue: Vec<Instant> = vec![Instant::now(); committers];
    let mut frames: VecDeque<(u64, Vec<Instant>)> = VecDeque::new();
    let (mut durable, mut index, mut revision) = (0, 0, 1);
    let started = Instant::now();
    while started.elapsed() < duration {
        if !queue.is_empty() && frames.len() < writer.depth() {
            index += 1;
            let batch = batch(index, revision, queue.len());
            revision = batch.revision_after;
            let number = writer.append(encode(&batch))?;
            frames.push_back((number, std::mem::take(&mut queue)));
            writer.release_before(index.saturating_sub(ENTRIES_KEPT));
            continue;
        }
        durable = wait(&writer, durable)?;
        let now = Instant::now();
        while let Some((_, waiting)) = frames.pop_front_if(|frame| frame.0 <= durable) {
            latencies_us.extend(waiting.iter().map(|since| (now - *since).as_micros() as u32));
            queue.resize(queue.len() + waiting.len(), now);
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    latencies_us.sort_unstable();
    let percentile = |share: f64| latencies_us[(latencies_us.len() as f64 * share) as usize];
    println!(
        "{committers} committers: {:.0} records/s, p50 {} us, p99 {} us, p99.9 {} us",
        latencies_us.len() as f64 / elapsed,
        percentile(0.5),
        percentile(0.99),
        percentile(0.999)
    );
    Ok(())
}

fn read(directory: &Path) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let mut recovery = DataDirectory::open(directory)?.recover(Commitment::EveryEntry)?;
    let mut records = 0;
    while let Some(batch) = recovery.next_batch()? {
        records += batch.effects().count();
    }
    let seconds = started.elapsed().as_secs_f64();
    let (_, bytes) = recovery.progress();
    println!(
        "read {records} records back in {:.0} ms: {:.0} MB of segments, {:.0} MB/s",
        seconds * 1e3,
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / seconds
    );
    Ok(())
}

fn batch(index: u64, revision_before: i64, records: usize) -> Batch {
    let value = [b'v'; 1024];
    let item = |number| {
        let revision = revision_before + 1 + number as i64;
        let key = format!("/registry/leases/kube-node-lease/node-{number:06}");
        let record = Record::new(key.as_bytes(), &value, 1, revision, revision, 0);
        Item::Effect(Effect { revision, changes: vec![Change { record, previous: None }] })
    };
    Batch {
        index,
        term: 1,
        revision_before,
        revision_after: revision_before + records as i64,
        items: (0..records).map(item).collect(),
    }
}

/// Parks this thread until more than the first `after` appends are durable.
fn wait(writer: &LogWriter, after: u64) -> Result<u64, Box<dyn Error>> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut durable = pin!(writer.durable(after));
    loop {
        match durable.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(durable) => return Ok(durable?),
            Poll::Pending => thread::park(),
        }
    }
}
