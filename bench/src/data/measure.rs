//! The life of one server with data: filled, stopped, started, killed, started; and another one
//! whose few keys are rewritten.

use crate::compare::peer::Peer;
use crate::compare::server::{ScratchDirectory, Server};
use crate::limits;
use crate::load::recorder::Measures;
use crate::load::run::{self, Observer, Plan};
use crate::proc::{self, Sample};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// A server at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moment {
    /// Resident memory.
    pub resident_bytes: f64,
    /// Bytes that the files of its data directory take on disk.
    pub disk_bytes: f64,
}

/// One start with data in place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Restart {
    /// From the start of the process to its first linearizable answer.
    pub ready_ms: f64,
    /// Processor time until then.
    pub cpu_ms: f64,
    /// What it took up just then.
    pub moment: Moment,
}

/// What a server with data costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Filled {
    /// The peer's name.
    pub peer: String,
    /// Bytes of all keys and values.
    pub live_bytes: f64,
    /// Seconds that writing them took.
    pub fill_seconds: f64,
    /// The server's processor time per key written.
    pub cpu_us_per_key: f64,
    /// Bytes sent to storage per key, background work up to the settled moment included.
    pub written_bytes_per_key: f64,
    /// Largest resident memory while it was filled.
    pub peak_bytes: f64,
    /// When it had been left alone for a while.
    pub settled: Moment,
    /// After SIGTERM.
    pub after_stop: Restart,
    /// After SIGKILL.
    pub after_kill: Restart,
}

/// Memory over time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Seconds since the rewriting began.
    pub seconds: f64,
    /// Resident memory.
    pub resident_bytes: f64,
    /// Writes per second in the interval before.
    pub rate: f64,
}

/// What rewriting a few keys costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rewritten {
    /// The peer's name.
    pub peer: String,
    /// Writes in all.
    pub operations: f64,
    /// Bytes that its files took at the end.
    pub disk_bytes: f64,
    /// Memory, interval by interval.
    pub points: Vec<Point>,
}

/// Fills a fresh server with `plan`'s keys and restarts it.
///
/// # Errors
/// When the server does not start, ends on the way, or cannot be reached.
pub fn fill(peer: &Peer, plan: &Plan, settle: Duration, parent: &Path) -> Result<Filled, String> {
    let directory = ScratchDirectory::create(parent, "filled")?;
    let server = Server::start(peer, directory)?;
    let mut plan = plan.clone();
    plan.endpoints = vec![server.endpoint().clone()];
    let before = sample(&server)?;
    proc::reset_resident_peak(server.process());
    let started = Instant::now();
    load(peer, &plan, &server, &mut ())?;
    let (fill_seconds, filled) = (started.elapsed().as_secs_f64(), sample(&server)?);
    std::thread::sleep(settle);
    let (quiet, settled) = (sample(&server)?, moment(&server)?);

    let (server, after_stop) = restart(peer, server, libc::SIGTERM)?;
    let (server, after_kill) = restart(peer, server, libc::SIGKILL)?;
    server.stop();
    let keys = plan.key_space as f64;
    let key_bytes = crate::load::worker::key_shape(&plan).length();
    Ok(Filled {
        peer: peer.name.clone(),
        live_bytes: keys * (key_bytes + plan.value_size_bytes) as f64,
        fill_seconds,
        cpu_us_per_key: filled.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / keys,
        written_bytes_per_key: (quiet.written_bytes - before.written_bytes) as f64 / keys,
        peak_bytes: filled.resident_peak_bytes as f64,
        settled,
        after_stop,
        after_kill,
    })
}

fn restart(peer: &Peer, server: Server, signal: i32) -> Result<(Server, Restart), String> {
    let directory = server.end(signal).ok_or("the data directory is gone")?;
    let server = Server::start(peer, directory)?;
    let restart = Restart {
        ready_ms: server.ready_after().as_secs_f64() * 1e3,
        cpu_ms: sample(&server)?.cpu.as_secs_f64() * 1e3,
        moment: moment(&server)?,
    };
    // What follows should not be disturbed by what a start leaves to do in the background.
    std::thread::sleep(limits::SERVER_RESTART_PAUSE);
    Ok((server, restart))
}

/// Rewrites `plan`'s keys on a fresh server and watches its memory.
///
/// # Errors
/// When the server does not start, ends on the way, or cannot be reached.
pub fn rewrite(peer: &Peer, plan: &Plan, parent: &Path) -> Result<Rewritten, String> {
    let directory = ScratchDirectory::create(parent, "rewritten")?;
    let server = Server::start(peer, directory)?;
    let mut plan = plan.clone();
    plan.endpoints = vec![server.endpoint().clone()];
    let mut memory = Memory { process: server.process(), operations: 0.0, points: Vec::new() };
    load(peer, &plan, &server, &mut memory)?;
    let disk_bytes = moment(&server)?.disk_bytes;
    server.stop();
    Ok(Rewritten {
        peer: peer.name.clone(),
        operations: memory.operations,
        disk_bytes,
        points: memory.points,
    })
}

fn load(
    peer: &Peer,
    plan: &Plan,
    server: &Server,
    observer: &mut dyn Observer,
) -> Result<(), String> {
    let failed = |error: String| format!("{}: {error}; its log:\n{}", peer.name, server.log_end());
    let finished = run::run(plan, observer).map_err(|error| failed(error.to_string()))?;
    match finished.measures.error_count() {
        _ if finished.interrupted => Err("stopped; no report was written".to_owned()),
        0 => Ok(()),
        count => Err(failed(format!("{count} requests failed"))),
    }
}

/// Looks at a server's memory whenever an interval ends.
struct Memory {
    process: u32,
    operations: f64,
    points: Vec<Point>,
}

impl Observer for Memory {
    fn interval(&mut self, start: Duration, length: Duration, measures: &Measures) {
        let operations = measures.operations() as f64;
        self.operations += operations;
        // A server that has ended is told by its clients.
        let Ok(sample) = proc::sample(self.process) else { return };
        self.points.push(Point {
            seconds: (start + length).as_secs_f64(),
            resident_bytes: sample.resident_bytes as f64,
            rate: operations / length.as_secs_f64().max(1e-9),
        });
    }
}

impl Observer for () {}

fn sample(server: &Server) -> Result<Sample, String> {
    proc::sample(server.process()).map_err(|error| format!("the server ended: {error}"))
}

fn moment(server: &Server) -> Result<Moment, String> {
    let disk_bytes = server.data().map_or(Ok(0), |path| disk_bytes(&path, 0))?;
    let resident_bytes = sample(server)?.resident_bytes as f64;
    Ok(Moment { resident_bytes, disk_bytes: disk_bytes as f64 })
}

/// Bytes on disk of all files beneath `path`. Files may come and go meanwhile.
fn disk_bytes(path: &Path, depth: u32) -> Result<u64, String> {
    use std::os::unix::fs::MetadataExt;
    const BLOCK: u64 = 512; // the unit of st_blocks, whatever the file system's own is
    const DEPTH_MAX: u32 = 16;
    let failed = |error: std::io::Error| format!("cannot look at {}: {error}", path.display());
    if depth > DEPTH_MAX {
        return Err(format!("{} is nested too deeply", path.display()));
    }
    let mut total = 0;
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(metadata) = entry.metadata() else { continue };
        total += match metadata.is_dir() {
            true => disk_bytes(&entry.path(), depth + 1)?,
            false => metadata.blocks() * BLOCK,
        };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_with_those_of_folders() {
        let directory = ScratchDirectory::create(&std::env::temp_dir(), "test-disk").unwrap();
        std::fs::create_dir(directory.path().join("inner")).unwrap();
        for name in ["one", "inner/two"] {
            let file = std::fs::File::create(directory.path().join(name)).unwrap();
            std::io::Write::write_all(&mut &file, &[1; 8192]).unwrap();
            file.sync_all().unwrap();
        }
        assert!(disk_bytes(directory.path(), 0).unwrap() >= 16_384);
        assert!(disk_bytes(&directory.path().join("none"), 0).is_err());
    }

    #[test]
    fn memory_is_noted_interval_by_interval() {
        let mut memory = Memory { process: std::process::id(), operations: 0.0, points: vec![] };
        let mut measures = Measures::default();
        measures.success(Duration::from_millis(1));
        memory.interval(Duration::ZERO, Duration::from_secs(2), &measures);
        memory.interval(Duration::from_secs(2), Duration::from_secs(1), &measures);
        assert_eq!(memory.operations, 2.0);
        let seen: Vec<_> = memory.points.iter().map(|point| (point.seconds, point.rate)).collect();
        assert_eq!(seen, [(2.0, 0.5), (3.0, 1.0)]);
        assert!(memory.points.iter().all(|point| point.resident_bytes > 0.0));
    }
}
