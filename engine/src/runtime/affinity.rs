//! Which processors this process may use.
#![allow(unsafe_code)] // sched_getaffinity has no safe wrapper among the dependencies.

use std::io;
use std::mem;

/// The processors in this process's affinity mask, ascending.
pub(super) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is plain bits, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the size is that of the set, which outlives the call; 0 means the calling thread.
    let status = unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &raw mut set) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    let limit = libc::CPU_SETSIZE as usize;
    // SAFETY: every index is below CPU_SETSIZE, and the set is initialised.
    Ok((0..limit).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_a_processor() {
        assert!(!super::allowed_cpus().expect("a mask").is_empty());
    }
}
