//! The few system calls that std does not wrap: a precise timer, and children that end with us.
#![allow(unsafe_code)] // libc calls; each with its reason

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// A non-blocking monotonic `timerfd`. tokio's own timer has a grain of a millisecond, which
/// would be the larger part of a latency measured from an intended send time. Must be called
/// within a tokio runtime.
pub fn timer_create() -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: no pointers are passed; the result is checked before it is used.
    let fd = unsafe {
        libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just created and nobody else owns it.
    let timer = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an OwnedFd always gives the same descriptor, open until it is dropped.
    Ok(unsafe { AsyncFd::register(timer) }?)
}

/// Arms the timer once, `delay` from now (at least a nanosecond: zero would disarm it).
pub fn timer_arm(timer: &OwnedFd, delay: Duration) -> io::Result<()> {
    let delay = delay.max(Duration::from_nanos(1));
    let spec = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec {
            tv_sec: libc::time_t::try_from(delay.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(delay.subsec_nanos()),
        },
    };
    // SAFETY: `spec` lives through the call and the old value is not asked for.
    let result = unsafe {
        libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes the expirations of a timer that is readable, so that it is not any more.
pub fn timer_drain(timer: &OwnedFd) -> io::Result<()> {
    let mut expirations = 0u64;
    // SAFETY: the buffer is a u64 of our own, and its size is the length that is passed.
    let read =
        unsafe { libc::read(timer.as_raw_fd(), (&raw mut expirations).cast(), size_of::<u64>()) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the command a process group of its own that the kernel kills when we die first.
pub fn end_with_parent(command: &mut Command) {
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe and the closure touches no memory of the parent.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Sends a signal to a whole process group; a group that has ended already is no error.
pub fn signal_group(group: u32, signal: i32) {
    let Ok(group) = libc::pid_t::try_from(group) else { return };
    assert!(group > 1, "a process group of one's own child, never 0 (ours) or 1");
    // SAFETY: plain integers; the worst outcome is an error code, which means it is gone.
    unsafe { libc::killpg(group, signal) };
}

/// Clock ticks per second in which `/proc/PID/stat` counts processor time.
#[must_use]
pub fn clock_ticks_per_second() -> u64 {
    // SAFETY: no pointers are passed.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100)
}
