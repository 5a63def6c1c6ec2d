//! What the kernel says about this process.

use std::fs;

/// Figures under the names that Prometheus clients use for them; a figure that can't be read is
/// left out.
pub(super) fn figures() -> Vec<(&'static str, &'static str, f64)> {
    let mut figures = Vec::new();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(seconds) = cpu_seconds(&stat) {
        figures.push(("process_cpu_seconds_total", "counter", seconds));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, field) in
        [("process_resident_memory_bytes", "VmRSS:"), ("process_virtual_memory_bytes", "VmSize:")]
    {
        if let Some(kibibytes) = status_field(&status, field) {
            figures.push((name, "gauge", kibibytes * 1024.0));
        }
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        figures.push(("process_open_fds", "gauge", entries.count() as f64));
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(limit) = open_files_limit(&limits) {
        figures.push(("process_max_fds", "gauge", limit));
    }
    figures
}

/// User and system time, from the line of `/proc/self/stat`. The kernel counts in ticks of 10 ms
/// there, on every architecture that we run on.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name in parentheses may hold anything; fields are counted from behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

fn status_field(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn open_files_limit(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_understood() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(status_field("VmSize:\t 10 kB\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
        let limits = "Max open files            1024                 4096                 files";
        assert_eq!(open_files_limit(limits), Some(1024.0));
        assert_eq!((cpu_seconds(""), status_field("", "VmRSS:")), (None, None));
        assert!(
            figures().iter().any(|(name, _, value)| {
                *name == "process_resident_memory_bytes" && *value > 0.0
            })
        );
    }
}
