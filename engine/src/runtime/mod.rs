//! The only room with glommio, io_uring, files, sockets and a clock.

pub mod disk;
pub mod executor;
pub mod net;
pub mod signal;
pub mod store;
pub mod timer;

pub use executor::{Core, Options, StartError, run, spawn_local, yield_now};
