//! Work that takes long and that no core has time for: a thread for each piece of it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use super::affinity::stand_back;
use super::local::AbortOnPanic;

struct Slot<T> {
    result: Option<T>,
    waker: Option<Waker>,
}

/// Runs `work` on a thread of its own, behind everything else that is to be done.
pub(super) async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let slot = Arc::new(Mutex::new(Slot { result: None, waker: None }));
    let theirs = Arc::clone(&slot);
    let thread = std::thread::Builder::new().name("heavy".to_owned()).spawn(move || {
        // Somebody waits for the result without an end.
        let _guard = AbortOnPanic;
        stand_back();
        let result = work();
        let waker = {
            let mut slot = theirs.lock().unwrap_or_else(PoisonError::into_inner);
            slot.result = Some(result);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
    thread.expect("a machine that can't start a thread can't run the store");
    poll_fn(|context| {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}
