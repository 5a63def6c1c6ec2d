//! What Linux tells about a process in `/proc`: processor time, memory, bytes written.

use crate::sys;
use std::io;
use std::time::Duration;

/// A process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// User and system time of all threads, the ended ones included.
    pub cpu: Duration,
    /// Resident memory now.
    pub resident_bytes: u64,
    /// Largest resident memory since the start (or the last reset).
    pub resident_peak_bytes: u64,
    /// Bytes that the process caused to be sent to storage.
    pub written_bytes: u64,
}

/// Looks at process `pid`.
///
/// # Errors
/// When the process has ended or is not ours to look at.
pub fn sample(pid: u32) -> io::Result<Sample> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
    let (stat, status, io) = (read("stat")?, read("status")?, read("io")?);
    parse(&stat, &status, &io, sys::clock_ticks_per_second())
        .ok_or_else(|| io::Error::other(format!("/proc/{pid} has an unknown form")))
}

/// Looks at several processes and adds them up.
///
/// # Errors
/// As [`sample`].
pub fn sample_all(pids: &[u32]) -> io::Result<Sample> {
    let mut sum = Sample::default();
    for pid in pids {
        let one = sample(*pid)?;
        sum.cpu += one.cpu;
        sum.resident_bytes += one.resident_bytes;
        sum.resident_peak_bytes += one.resident_peak_bytes;
        sum.written_bytes += one.written_bytes;
    }
    Ok(sum)
}

/// Starts the peak of resident memory anew. Where the kernel refuses, the peak is the one since
/// the process began, which is still true, only less precise.
pub fn reset_resident_peak(pid: u32) {
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The processor time of this process so far.
#[must_use]
pub fn own_cpu_time() -> Duration {
    sample(std::process::id()).map(|sample| sample.cpu).unwrap_or_default()
}

/// Time that all cores of the machine have been busy since it started, time stolen by a
/// hypervisor included: what was not available for anything else.
///
/// # Errors
/// When `/proc/stat` cannot be read.
pub fn machine_busy_time() -> io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    parse_machine(&stat, sys::clock_ticks_per_second())
        .ok_or_else(|| io::Error::other("/proc/stat has an unknown form"))
}

fn parse_machine(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    const IDLE_AND_WAITING: [usize; 2] = [3, 4];
    const STOLEN: usize = 7; // what follows (guests) is counted in the first two already
    let counts = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut ticks = 0u64;
    for (position, count) in counts.split_whitespace().take(STOLEN + 1).enumerate() {
        if !IDLE_AND_WAITING.contains(&position) {
            ticks += count.parse::<u64>().ok()?;
        }
    }
    Some(Duration::from_nanos(ticks * 1_000_000_000 / ticks_per_second))
}

fn parse(stat: &str, status: &str, io: &str, ticks_per_second: u64) -> Option<Sample> {
    // The command name may hold spaces and brackets: fields count from the last bracket.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let labelled = |text: &str, label: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(label))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Sample {
        cpu: Duration::from_nanos(ticks * 1_000_000_000 / ticks_per_second),
        resident_bytes: labelled(status, "VmRSS:")? * 1024,
        resident_peak_bytes: labelled(status, "VmHWM:")? * 1024,
        written_bytes: labelled(io, "write_bytes:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read() {
        let stat = "12 (a b) c) S 1 12 12 0 -1 4194560 100 0 1 0 250 50 0 0 20 0 3 0 5 6 7";
        let status = "Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n";
        let io = "rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n";
        let expected = Sample {
            cpu: Duration::from_secs(3),
            resident_bytes: 1 << 20,
            resident_peak_bytes: 2 << 20,
            written_bytes: 4096,
        };
        assert_eq!(parse(stat, status, io, 100), Some(expected));
        assert_eq!(parse("12 (x", status, io, 100), None);
        assert_eq!(parse(stat, "", io, 100), None);
    }

    #[test]
    fn a_machine_is_busy_when_it_neither_idles_nor_waits() {
        let stat = "cpu  100 20 30 5000 600 4 5 6 70 80\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(parse_machine(stat, 100), Some(Duration::from_millis(1650)));
        for bad in ["", "cpu0 1 2 3", "cpu  1 x 3"] {
            assert_eq!(parse_machine(bad, 100), None, "{bad:?}");
        }
        assert!(machine_busy_time().unwrap() > Duration::ZERO);
    }

    #[test]
    fn this_process_can_be_sampled() {
        let sample = sample(std::process::id()).unwrap();
        assert!(sample.resident_bytes > 0 && sample.resident_peak_bytes >= sample.resident_bytes);
        let own = std::process::id();
        let twice = sample_all(&[own, own]).unwrap();
        assert!(twice.resident_bytes > sample.resident_bytes, "{twice:?} {sample:?}");
    }
}
