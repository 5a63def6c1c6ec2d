//! The `mainstay-bench etcd` command: runs a plan with a progress bar, prints the summary, writes
//! the files that were asked for.

use super::recorder::Measures;
use super::run::{self, End, Observer, Plan};
use crate::cli::EtcdOptions;
use crate::proc;
use crate::result::figures::{Asked, Figures};
use crate::result::hdr_log::HdrLog;
use crate::result::percentiles::distribution;
use crate::result::summary::{grouped, summary};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// Runs the command.
///
/// # Errors
/// When options are wrong, the server cannot be reached, or a file cannot be written.
pub fn run(options: &EtcdOptions) -> Result<ExitCode, String> {
    let plan = options.plan()?;
    let log = match &options.hdr_log {
        Some(path) => Some(HdrLog::new(BufWriter::new(create(path)?))),
        None => None,
    };
    let mut watcher =
        Watcher { plan: &plan, bar: bar(&plan, options.quiet), log, cpu: Cpu::default() };
    let finished = run::run(&plan, &mut watcher).map_err(|error| error.to_string())?;
    watcher.bar.finish_and_clear();
    let figures = Figures::of(&plan, &finished, watcher.cpu.spent());
    print!("{}", summary(&figures));
    if let (Some(mut log), Some(path)) = (watcher.log.take(), &options.hdr_log) {
        log.finish().map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(path) = &options.percentiles {
        std::fs::write(path, distribution(&finished.measures.latencies))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if let Some(path) = &options.json {
        serde_json::to_writer_pretty(BufWriter::new(create(path)?), &figures)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let failed = figures.error_count() > 0 && !options.allow_errors;
    let empty = figures.operations == 0;
    Ok(if failed || empty || figures.interrupted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn create(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The loader's own processor time within the measuring window.
#[derive(Default)]
pub struct Cpu {
    begin: Duration,
    end: Duration,
}

impl Cpu {
    /// The window begins.
    pub fn begin(&mut self) {
        self.begin = proc::own_cpu_time();
    }

    /// The window ends.
    pub fn end(&mut self) {
        self.end = proc::own_cpu_time();
    }

    /// Time spent between both.
    #[must_use]
    pub fn spent(&self) -> Duration {
        self.end.saturating_sub(self.begin)
    }
}

struct Watcher<'a> {
    plan: &'a Plan,
    bar: ProgressBar,
    log: Option<HdrLog<BufWriter<File>>>,
    cpu: Cpu,
}

impl Observer for Watcher<'_> {
    fn begin(&mut self) {
        self.cpu.begin();
        if let Some(log) = &mut self.log {
            let asked = serde_json::to_string(&Asked::of(self.plan)).unwrap_or_default();
            log.begin(&format!("mainstay-bench, nanoseconds, {asked}"), SystemTime::now());
        }
    }

    fn interval(&mut self, start: Duration, length: Duration, measures: &Measures) {
        let rate = measures.operations() as f64 / length.as_secs_f64().max(1e-9);
        let errors = match measures.error_count() {
            0 => String::new(),
            count => format!(", {count} errors"),
        };
        self.bar.set_message(format!("{} a second{errors}", grouped(rate, 0)));
        if let Some(log) = &mut self.log {
            log.interval(start, length, measures);
        }
    }

    fn progress(&mut self, elapsed: Duration, operations: u64) {
        self.bar.set_position(match self.plan.end {
            End::After(_) => elapsed.as_millis() as u64,
            End::Total(_) => operations,
        });
    }

    fn end(&mut self) {
        self.cpu.end();
    }
}

/// Shown on a terminal only, and only for runs long enough to wonder about.
fn bar(plan: &Plan, quiet: bool) -> ProgressBar {
    let (length, long) = match plan.end {
        End::After(duration) => (duration.as_millis() as u64, duration > Duration::from_secs(2)),
        End::Total(total) => (total, true),
    };
    if quiet || !long || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{elapsed:>4} [{bar:40}] {percent:>3}% {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
