//! Makes a database of an etcd and reads it back: `database KEYS VALUE_BYTES FILE`. For measuring,
//! and as a source for `mainstayctl import`.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use mainstay_bbolt::etcd::read;
use mainstay_bbolt::etcd::write::{Chunks, Contents, Facts, KeyVersion};
use mainstay_bbolt::reader::{Database, FileSource};

/// A key like those of a Kubernetes cluster, all with the same value.
#[derive(Debug)]
struct Version {
    key: String,
    value: Arc<[u8]>,
    revision: i64,
}

impl KeyVersion for Version {
    fn key(&self) -> &[u8] {
        self.key.as_bytes()
    }
    fn value(&self) -> &[u8] {
        &self.value
    }
    fn create_revision(&self) -> i64 {
        self.revision
    }
    fn mod_revision(&self) -> i64 {
        self.revision
    }
    fn version(&self) -> i64 {
        1
    }
    fn lease(&self) -> i64 {
        0
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [keys, value_bytes, file] = &arguments[..] else {
        return Err("usage: database KEYS VALUE_BYTES FILE".into());
    };
    let (keys, value_bytes): (i64, usize) = (keys.parse()?, value_bytes.parse()?);
    let value: Arc<[u8]> = (0..value_bytes).map(|number| number as u8).collect();
    let version = |number: i64| Version {
        key: format!("/registry/pods/namespace-{}/pod-{number:08}", number % 100),
        value: Arc::clone(&value),
        revision: number + 2,
    };
    let versions: Vec<Version> = (0..keys).map(version).collect();
    let revision = keys + 1;

    let started = Instant::now();
    let contents = Arc::new(Contents::new(&Facts { revision, ..Facts::default() }, versions)?);
    let plan = contents.plan();
    println!("plan: {:.3} s", started.elapsed().as_secs_f64());
    let mut output = File::create(file)?;
    let mut chunks = Chunks::new(contents, plan);
    let started = Instant::now();
    while let Some(chunk) = chunks.next_chunk(1 << 20) {
        output.write_all(&chunk)?;
    }
    let mebibytes = plan.file_bytes() as f64 / f64::from(1 << 20);
    let seconds = started.elapsed().as_secs_f64();
    println!("write: {mebibytes:.0} MiB in {seconds:.3} s, {:.0} MiB/s", mebibytes / seconds);

    let source = FileSource::new(File::open(file)?)?;
    let started = Instant::now();
    let database = Database::open(&source)?;
    let mut read = read::versions(&database)?;
    let mut count = 0;
    while read.next()?.is_some() {
        count += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("read: {count} versions in {seconds:.3} s, {:.0} MiB/s", mebibytes / seconds);
    Ok(())
}
