//! Bars for people who wait. They appear after two seconds, and only on a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const AFTER: Duration = Duration::from_secs(2);

/// How far a command is, in bytes.
pub(crate) struct Progress {
    what: &'static str,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Progress {
        Progress { what, started: Instant::now(), bar: None }
    }

    /// `done` of `total` bytes are behind us.
    pub(crate) fn show(&mut self, done: u64, total: u64) {
        if self.bar.is_none() && self.started.elapsed() >= AFTER {
            let bar = ProgressBar::new(total).with_message(self.what);
            let style = ProgressStyle::with_template(
                "{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
            );
            // The template is the line above: a wrong one would show in every run.
            self.bar = style.ok().map(|style| bar.with_style(style));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// Takes the bar away. Gives the time since the beginning.
    pub(crate) fn end(self) -> Duration {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.started.elapsed()
    }
}

/// Mebibytes per second, for a report's last line.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{mebibytes:.1} MiB in {:.1} s", time.as_secs_f64())
}
