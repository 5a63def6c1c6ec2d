//! Work that takes long and that no core has time for: a thread for each piece of it.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

use super::affinity::stand_back;
use super::local::AbortOnPanic;

struct Slot<T> {
    result: Option<thread::Result<T>>,
    waker: Option<Waker>,
}

/// Runs `work` on a thread of its own, behind everything else that is to be done.
pub(super) async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let guarded = move || {
        // What the store computes must not be half done.
        let _guard = AbortOnPanic;
        work()
    };
    let result = run_blocking(guarded).await;
    result.expect("a machine that can't start a thread can't run the store")
}

/// Runs a door's `work` on a thread that is pinned to no core and gives way to all of them; the caller
/// bounds how many there are. The work goes on when the future is dropped. A panic is passed on.
///
/// # Errors
/// When the kernel gives no thread.
pub async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let slot = Arc::new(Mutex::new(Slot { result: None, waker: None }));
    let theirs = Arc::clone(&slot);
    thread::Builder::new().name("heavy".to_owned()).spawn(move || {
        stand_back();
        let result = catch_unwind(AssertUnwindSafe(work));
        let waker = {
            let mut slot = theirs.lock().unwrap_or_else(PoisonError::into_inner);
            slot.result = Some(result);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    })?;
    let result = poll_fn(|context| {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await;
    Ok(result.unwrap_or_else(|panic| resume_unwind(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_elsewhere_and_its_result_comes_back() {
        let caller = thread::current().id();
        let executor = glommio::LocalExecutorBuilder::default();
        let worker = executor
            .make()
            .expect("an executor")
            .run(async { run_blocking(|| thread::current().id()).await.expect("a thread") });
        assert_ne!(worker, caller);
    }
}
