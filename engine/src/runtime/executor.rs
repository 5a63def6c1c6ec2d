//! One pinned executor per core, and what runs on all of them.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use glommio::PoolPlacement;

use super::company::Company;
use super::disk::{DataDirectory, LogOptions};
use super::local::AbortOnPanic;
use super::signal::{self, Shutdown};
use super::start::{self, Seat};
use super::store::Store;
use crate::durability::Classes;
use crate::limits::BLOCKING_THREADS;
use crate::snapshot::policy::Pace;

/// Registered with io_uring for each executor. The sockets do not use it and the log brings
/// buffers of its own, so this is glommio's minimum and not its 10 MiB.
const IO_MEMORY_BYTES: usize = 256 << 10;

/// How long a core without work looks for messages of other cores before it sleeps in the kernel.
/// Waking it again costs about as much, so a busy exchange of messages stays awake and an idle one
/// costs nothing. A single core has nobody to look out for.
const SPIN_BEFORE_PARK: Duration = Duration::from_micros(20);

/// How long to wait for an executor to begin before another one is started: twice that at first,
/// then longer each time; and how many there may be.
const BEGIN_PATIENCE: Duration = Duration::from_millis(100);
const BEGIN_ATTEMPTS: usize = 8;

/// What a store needs to know to start.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where everything durable lives. Created when it is absent.
    pub data_dir: PathBuf,
    /// Executors to run; 0 for one on each processor that this process may use, but one.
    pub cores: usize,
    /// What the store does, beyond where it lives.
    pub settings: Settings,
}

/// What a store does, as its operator wants it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes of live keys and values from which on nothing may be added; 0 for no limit.
    pub quota_bytes: u64,
    /// Seconds between two notes of how much time a longer lease has left.
    pub lease_checkpoint_seconds: i64,
    /// What answers to writes wait for, by prefix of the keys.
    pub durability: Classes,
}

impl Default for Settings {
    fn default() -> Settings {
        let lease_checkpoint_seconds = crate::limits::LEASE_CHECKPOINT_SECONDS;
        let durability = Classes::default();
        Settings { quota_bytes: 0, lease_checkpoint_seconds, durability }
    }
}

/// How the disk is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tuning {
    pub log: LogOptions,
    pub snapshots: Pace,
}

/// What a door gets, once on each core.
pub struct Core {
    /// From 0; the same on every call for this core.
    pub number: usize,
    pub cores: usize,
    pub store: Store,
    /// Tells when to stop accepting, and lets a door say that everything should stop.
    pub shutdown: Shutdown,
}

/// Why a store could not start: each text says what is wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("{0}")]
    Disk(#[from] super::disk::DiskError),
    #[error("--cores={asked}: this process may use {available} cores")]
    TooManyCores { asked: usize, available: usize },
    #[error("core {core}: cannot start its executor: {reason}")]
    Executor { core: usize, reason: String },
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("cannot join the cluster: {0}")]
    Join(String),
    #[error(
        "member {0:x} has already been bootstrapped, and its data are not here. Restore them; or remove the \
         member from the cluster and add a new one"
    )]
    Bootstrapped(u64),
    #[error(
        "the member has been permanently removed from the cluster. To have it again, add a member and \
         start it with an empty data directory"
    )]
    Removed,
}

/// A data directory that this process alone may use, and where its cores are going to run.
pub struct Opened {
    directory: DataDirectory,
    cpus: Vec<usize>,
    settings: Settings,
    tuning: Tuning,
    company: Option<Company>,
}

/// Opens the data directory, or fails if another process has it, before anything in it is touched.
pub fn open(options: &Options) -> Result<Opened, StartError> {
    let cpus = usable_cpus(options.cores)?;
    signal::hold_signals()?;
    let directory = start::open(&options.data_dir)?;
    let (settings, tuning) = (options.settings.clone(), Tuning::default());
    Ok(Opened { directory, cpus, settings, tuning, company: None })
}

/// [`open`] and [`Opened::run`].
pub fn run<D, F>(options: &Options, door: D) -> Result<(), StartError>
where
    D: Fn(Core) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    open(options)?.run(door)
}

impl Opened {
    /// Keeps the disk in another way than usual: for tests and measurements.
    pub fn tune(self, tuning: Tuning) -> Opened {
        Opened { tuning, ..self }
    }

    /// Whether the data directory says who this member is: then nobody else has to.
    pub fn has_data(&self) -> Result<bool, StartError> {
        Ok(!self.directory.is_fresh()?)
    }

    /// Whether this member had others when it began.
    pub fn had_company(&self) -> Result<bool, StartError> {
        let identity = self.directory.identity()?;
        Ok(self.directory.has_members() || identity.is_some_and(|known| known.voters.len() != 1))
    }

    /// Lets the member have others. Without, it is alone.
    pub fn with_company(self, company: Company) -> Opened {
        Opened { company: Some(company), ..self }
    }

    /// Replays the log and runs `door` on every core until shutdown.
    ///
    /// Returns when every `door` future has returned and everything that was acknowledged, and all
    /// else that was under way, is in the log.
    pub fn run<D, F>(self, door: D) -> Result<(), StartError>
    where
        D: Fn(Core) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let Opened { directory, cpus, settings, tuning, company } = self;
        let shutdown = Shutdown::default();
        let mut seats = start::replay(directory, cpus.len(), &tuning, company)?;
        let removed = seats.first().map(Seat::removed).unwrap_or_default();
        seats.iter_mut().for_each(|seat| seat.configure(&settings));
        let cores = seats.len();
        let start = |number: usize, cpu: usize, begun: Arc<Begun<Seat>>, attempt: usize| {
            let (door, shutdown) = (door.clone(), shutdown.clone());
            let executor = glommio::LocalExecutorBuilder::new(glommio::Placement::Fixed(cpu))
                .name(&format!("mainstay-{number}"))
                .io_memory(IO_MEMORY_BYTES)
                .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
                .spin_before_park(if cores > 1 { SPIN_BEFORE_PARK } else { Duration::ZERO })
                .spawn(move || async move {
                    // Another one has begun in its place.
                    let Some(seat) = begun.begin(attempt) else { return Ok(()) };
                    // A task that panics unwinds through its executor: the other cores can't go on
                    // without this one.
                    let _guard = AbortOnPanic;
                    let store = start::sit_down(seat, &shutdown).await?;
                    door(Core { number, cores, store: store.clone(), shutdown: shutdown.clone() })
                        .await;
                    start::stand_up(store).await
                })
                .map_err(|error| StartError::Executor {
                    core: number,
                    reason: error.to_string(),
                })?;
            Ok::<_, StartError>(executor)
        };
        let mut attempts = Vec::with_capacity(cores);
        for (number, (seat, cpu)) in seats.into_iter().zip(cpus).enumerate() {
            let begun = Arc::new(Begun::new(seat));
            let first = start(number, cpu, Arc::clone(&begun), 0)?;
            attempts.push((number, cpu, begun, vec![first]));
        }
        let mut executors = Vec::with_capacity(cores);
        for (number, cpu, begun, mut started) in attempts {
            let attempt = loop {
                let patience = BEGIN_PATIENCE * (1 << started.len());
                match begun.wait(patience) {
                    Some(attempt) => break attempt,
                    None if started.len() < BEGIN_ATTEMPTS => {
                        let again = start(number, cpu, Arc::clone(&begun), started.len())?;
                        started.push(again);
                    }
                    None => {
                        let reason = "it does not begin: the machine is too busy".to_owned();
                        return Err(StartError::Executor { core: number, reason });
                    }
                }
            };
            executors.push(started.swap_remove(attempt));
        }
        let mut result = Ok(());
        for (core, executor) in executors.into_iter().enumerate() {
            let ended = match executor.join() {
                Ok(ended) => ended,
                Err(error) => Err(StartError::Executor { core, reason: error.to_string() }),
            };
            result = result.and(ended);
        }
        match removed.get() {
            Some(()) => result.and(Err(StartError::Removed)),
            None => result,
        }
    }
}

/// What the first executor that begins is to have.
///
/// One that is kept from its processor before it has run anything, for so long that glommio's timer
/// for taking turns runs out, takes that for a sign that there is nothing to do, and sleeps for ever:
/// nothing can wake it yet. So another one is started when one does not begin.
struct Begun<T> {
    state: Mutex<(Option<T>, Option<usize>)>,
    changed: Condvar,
}

impl<T> Begun<T> {
    fn new(seat: T) -> Begun<T> {
        Begun { state: Mutex::new((Some(seat), None)), changed: Condvar::new() }
    }

    /// `None` when another attempt was first.
    fn begin(&self, attempt: usize) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let seat = state.0.take()?;
        state.1 = Some(attempt);
        self.changed.notify_all();
        Some(seat)
    }

    /// Which attempt has begun, if one does in time.
    fn wait(&self, patience: Duration) -> Option<usize> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let nobody = |state: &mut (Option<T>, Option<usize>)| state.1.is_none();
        let waited = self.changed.wait_timeout_while(state, patience, nobody);
        waited.unwrap_or_else(PoisonError::into_inner).0.1
    }
}

/// The processors to pin executors to, of those that this process may use.
///
/// By default one is left to the log's threads, the kernel and whoever else works here: an executor
/// can't move to another processor, so one that shares its own waits out somebody's time slice in
/// the middle of a request. The first is left, which mostly has the interrupts, too.
fn usable_cpus(wanted: usize) -> Result<Vec<usize>, StartError> {
    let mut cpus = super::affinity::allowed_cpus()?;
    let available = cpus.len();
    if wanted > available {
        return Err(StartError::TooManyCores { asked: wanted, available });
    }
    let count = if wanted == 0 { (available - 1).max(1) } else { wanted };
    let count = count.min(crate::limits::CORES);
    Ok(cpus.split_off(available - count))
}

/// Runs `future` on this core, beside the caller.
pub fn spawn_local<F: Future<Output = ()> + 'static>(future: F) {
    glommio::spawn_local(future).detach();
}

/// Lets other tasks of this core run.
pub async fn yield_now() {
    glommio::executor().yield_task_queue_now().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_executor_that_begins_gets_the_seat() {
        let begun = Arc::new(Begun::new("seat"));
        assert_eq!(begun.wait(Duration::from_millis(1)), None, "nobody begins");
        assert_eq!(begun.begin(1), Some("seat"));
        assert_eq!(begun.begin(0), None, "the first attempt wakes up late");
        assert_eq!(begun.wait(Duration::ZERO), Some(1));
    }
}
