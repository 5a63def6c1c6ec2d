//! The only room with glommio, io_uring, files, sockets and a clock.
//! `executor` runs doors on pinned cores; `core` keeps one replica going; `disk` holds the log.

mod affinity;
mod company;
mod core;
pub mod disk;
pub mod executor;
mod journal;
mod local;
mod mesh;
pub mod net;
mod pacing;
pub mod peers;
mod restore;
pub mod signal;
mod snapshots;
mod start;
pub mod store;
mod thread;
pub mod timer;
mod transfers;
mod watcher;

pub use company::Company;
pub use executor::{
    Core, Opened, Options, Settings, StartError, Tuning, open, run, spawn_local, yield_now,
};
pub use thread::run_blocking;

/// Does work that would hold a core for too long on one of the executor's few blocking threads,
/// which give way to all cores.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let behind = move || {
        affinity::stand_back_once();
        work()
    };
    glommio::executor().spawn_blocking(behind).await
}

/// Runs a future of its own on a core that is nobody's, and waits for it: for what has to be known
/// before a store's cores run.
///
/// # Errors
/// There is no such core to be had, or the future panicked.
pub fn run_alone<T, F>(make: impl FnOnce() -> F + Send + 'static) -> std::io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let failed = |error: glommio::GlommioError<()>| std::io::Error::other(error.to_string());
    let executor = glommio::LocalExecutorBuilder::default()
        .name("mainstay-alone")
        .spawn(move || async move { make().await })
        .map_err(failed)?;
    executor.join().map_err(failed)
}

/// A random number from the kernel.
pub fn random() -> std::io::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
