//! Which processors this process may use.
#![allow(unsafe_code)] // sched_getaffinity has no safe wrapper among the dependencies.

use std::cell::Cell;
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

/// Lets the calling thread run where the process may and not where its parent was pinned, behind
/// others. Only a wish: where the system does not grant it the thread is slower or in the way.
pub(super) fn stand_back() {
    // SAFETY: cpu_set_t is plain bits, for which all zeroes is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: getpid can't fail. The process's first thread, which has its number, is not pinned.
    let process = unsafe { libc::getpid() };
    // SAFETY: the size is that of the set, which outlives the call.
    let status = unsafe { libc::sched_getaffinity(process, mem::size_of_val(&set), &raw mut set) };
    if status == 0 {
        // SAFETY: likewise, and 0 means the calling thread.
        unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) };
    }
    const NICE: i32 = 10;
    // SAFETY: plain numbers; on Linux 0 means the calling thread alone.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// [`stand_back`], at the first call on each thread: for threads that do many pieces of work.
pub(super) fn stand_back_once() {
    thread_local! {
        static DONE: Cell<bool> = const { Cell::new(false) };
    }
    if !DONE.replace(true) {
        stand_back();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_a_processor() {
        assert!(!super::allowed_cpus().expect("a mask").is_empty());
    }

    #[test]
    fn what_blocks_is_not_pinned_where_its_executor_is() {
        let all = super::allowed_cpus().expect("a mask");
        let pinned = glommio::Placement::Fixed(all[0]);
        let threads = glommio::PoolPlacement::Unbound(2);
        let executor = glommio::LocalExecutorBuilder::new(pinned)
            .blocking_thread_pool_placement(threads)
            .spawn(|| async {
                let where_to = crate::runtime::blocking(super::allowed_cpus).await;
                // Two at once: one that takes long holds up no other.
                let (tell, told) = std::sync::mpsc::channel();
                let waits = crate::runtime::blocking(move || told.recv());
                let tells = crate::runtime::blocking(move || tell.send(()));
                let (heard, sent) = futures_util::future::join(waits, tells).await;
                (heard.is_ok() && sent.is_ok()).then_some(where_to)
            })
            .expect("an executor");
        let found = executor.join().expect("no panic").expect("both were done");
        assert_eq!(found.expect("a mask"), all);
    }
}
