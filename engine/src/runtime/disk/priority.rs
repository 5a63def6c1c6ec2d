//! The log's threads go before all others of the machine.
//!
//! They use little of a processor, but every answer waits for them: on a busy machine a thread
//! that wakes up to send its flush otherwise waits out another's time slice, 4 ms where the disk
//! needs 0.1 ms. (Kernel workers, on which io_uring relies for synced writes, can't be preferred.)
#![allow(unsafe_code)] // one system call that has no safe wrapper in our dependencies

use std::io;
use std::thread;

/// Tries it on a thread of its own.
pub(super) fn may_be_preferred() -> bool {
    thread::spawn(|| prefer_this_thread().is_ok()).join().unwrap_or(false)
}

/// Gives the calling thread the lowest real-time priority. Needs root, CAP_SYS_NICE or a limit
/// `RTPRIO` of 1.
pub(super) fn prefer_this_thread() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 names the calling thread and `priority` is a valid structure during the call,
    // which keeps nothing of it.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
