//! Waiting within one core: no atomics, no system calls.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A flag that one task waits for and others of the same core raise.
#[derive(Default)]
pub(super) struct Flag {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Flag {
    pub(super) fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Takes the flag down. Gives whether it was up.
    pub(super) fn lower(&self) -> bool {
        self.raised.replace(false)
    }

    /// Resolves when the flag is up, and takes it down.
    pub(super) async fn lowered(&self) {
        poll_fn(|context| {
            if self.raised.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Ends the process if it is dropped while the thread panics: a state machine that stopped in the
/// middle of a step must not be used again, whoever catches the panic.
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the store's state is no longer certain: stopping at once");
            std::process::abort();
        }
    }
}
