//! The only room with glommio, io_uring, files, sockets and a clock.
//! `executor` runs doors on pinned cores; `core` keeps one replica going; `disk` holds the log.

mod affinity;
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
mod watcher;

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

/// A random number from the kernel.
pub fn random() -> std::io::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
