//! One measurement of one server: start it, let it idle, load it, stop it.

use super::comparison::Run;
use super::fleet::Fleet;
use super::peer::Peer;
use crate::load::command::Cpu;
use crate::load::run::{self, Observer, Plan};
use crate::proc::{self, Sample};
use crate::result::figures::Figures;
use std::path::Path;
use std::time::{Duration, Instant};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The server.
    pub peer: &'a Peer,
    /// The load; its endpoint is filled in.
    pub plan: Plan,
    /// Which repetition.
    pub round: usize,
    /// How long the server idles before the load.
    pub idle: Duration,
    /// How many members the server has; their figures are added up.
    pub members: usize,
    /// Where its data directory is made.
    pub parent: &'a Path,
}

/// Runs the measurement on a fresh server.
///
/// # Errors
/// When the server does not start, ends on the way, or cannot be reached.
pub fn measure(request: &Request<'_>) -> Result<Run, String> {
    let mut plan = request.plan.clone();
    let label = format!("{}-{}-{}", plan.kind.name(), plan.clients, request.round);
    let fleet = Fleet::start(request.peer, request.parent, &label, request.members)?;
    plan.endpoints = fleet.endpoints()?;

    let (idle_cpu_percent, idle) = idle(&fleet, request.idle)?;
    let mut sampler = Sampler::new(fleet.processes());
    let finished = run::run(&plan, &mut sampler).map_err(|error| {
        format!("{}: {error}; its log:\n{}", request.peer.name, fleet.log_end())
    })?;
    let (begin, end) = sampler.samples(&request.peer.name, &fleet)?;
    let ready_after = fleet.ready_after();
    fleet.stop();

    let window_seconds = finished.window.as_secs_f64().max(1e-9);
    let server_cpu = end.cpu.saturating_sub(begin.cpu);
    let known = server_cpu + sampler.cpu.spent();
    let other = sampler.machine_busy().saturating_sub(known);
    let operations = finished.window_operations.max(1) as f64;
    Ok(Run {
        peer: request.peer.name.clone(),
        workload: plan.kind.name().to_owned(),
        clients: plan.clients,
        round: request.round,
        start_ms: ready_after.as_secs_f64() * 1e3,
        idle_resident_bytes: idle.resident_bytes as f64,
        idle_cpu_percent,
        resident_bytes: end.resident_bytes as f64,
        resident_peak_bytes: end.resident_peak_bytes as f64,
        cpu_us_per_operation: server_cpu.as_secs_f64() * 1e6 / operations,
        cpu_cores: server_cpu.as_secs_f64() / window_seconds,
        other_cores: other.as_secs_f64() / window_seconds,
        written_bytes_per_operation: (end.written_bytes - begin.written_bytes) as f64 / operations,
        figures: Figures::of(&plan, &finished, sampler.cpu.spent()),
    })
}

/// Leaves the server alone for a while; returns its processor time in percent of one core, and
/// a sample from the end.
fn idle(fleet: &Fleet, time: Duration) -> Result<(f64, Sample), String> {
    let look = || {
        proc::sample_all(&fleet.processes()).map_err(|error| format!("the server ended: {error}"))
    };
    let (before, started) = (look()?, Instant::now());
    std::thread::sleep(time);
    let after = look()?;
    let share = (after.cpu - before.cpu).as_secs_f64() / started.elapsed().as_secs_f64().max(1e-9);
    Ok((share * 100.0, after))
}

/// Looks at the server and at the loader when the measuring window begins and ends.
struct Sampler {
    processes: Vec<u32>,
    begin: Option<Sample>,
    end: Option<Sample>,
    machine: [Duration; 2],
    cpu: Cpu,
}

impl Sampler {
    fn new(processes: Vec<u32>) -> Self {
        let machine = [Duration::ZERO; 2];
        Self { processes, begin: None, end: None, machine, cpu: Cpu::default() }
    }

    /// How long the cores of the machine were busy in the window, with whatever.
    fn machine_busy(&self) -> Duration {
        self.machine[1].saturating_sub(self.machine[0])
    }

    fn samples(&self, name: &str, fleet: &Fleet) -> Result<(Sample, Sample), String> {
        self.begin
            .zip(self.end)
            .ok_or_else(|| format!("{name} ended under load; its log:\n{}", fleet.log_end()))
    }
}

impl Observer for Sampler {
    fn begin(&mut self) {
        self.processes.iter().for_each(|process| proc::reset_resident_peak(*process));
        self.begin = proc::sample_all(&self.processes).ok();
        self.cpu.begin();
        self.machine[0] = proc::machine_busy_time().unwrap_or_default();
    }

    fn end(&mut self) {
        self.machine[1] = proc::machine_busy_time().unwrap_or_default();
        self.cpu.end();
        self.end = proc::sample_all(&self.processes).ok();
    }
}
