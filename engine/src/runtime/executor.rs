//! One pinned executor per core, and what runs on all of them.

use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;

use super::signal::Shutdown;
use super::store::Store;

/// What a store needs to know to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything durable lives. Created when it is absent.
    pub data_dir: PathBuf,
    /// Executors to run; 0 for one on each core that this process may use.
    pub cores: usize,
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
    Io(#[from] std::io::Error),
}

/// Opens the data directory, replays the log and runs `door` on every core until shutdown.
///
/// Returns when every `door` future has returned and the log is closed.
pub fn run<D, F>(options: Options, door: D) -> Result<(), StartError>
where
    D: Fn(Core) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let _ = (options, door);
    todo!()
}

/// Runs `future` on this core, beside the caller. Dropping the handle does not cancel it.
pub fn spawn_local<F: Future<Output = ()> + 'static>(future: F) {
    let _ = future;
    todo!()
}

/// Lets other tasks of this core run.
pub async fn yield_now() {
    todo!()
}

const _: fn() = || {
    let _: Option<Rc<()>> = None;
};
