//! One watcher at work: waits for events until there are some, or until it is interrupted.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures_util::future::{Either, select};
use mainstay_engine::request::WatchBatch;
use mainstay_engine::{StoreError, Watcher};

use crate::etcd::limits;

/// Names one watcher of a session; never used twice, unlike the id that the client sees.
pub(super) type Serial = u64;

/// A watcher that waits for nothing.
pub(super) struct Cursor {
    pub(super) watch_id: i64,
    pub(super) serial: Serial,
    pub(super) watcher: Watcher,
    pub(super) interrupt: Rc<Interrupt>,
}

/// Why a cursor came back.
pub(super) enum Outcome {
    Events(WatchBatch),
    Interrupted,
    Failed(StoreError),
}

impl Cursor {
    /// Waits for events or an interruption, and gives the cursor back.
    pub(super) async fn run(mut self) -> (Cursor, Outcome) {
        let outcome = {
            let next = pin!(self.watcher.next(limits::watch_batch_bytes()));
            // Events first: who is called back with events at hand brings them along.
            match select(next, pin!(self.interrupt.wait())).await {
                Either::Left((Ok(batch), _)) => Outcome::Events(batch),
                Either::Left((Err(error), _)) => Outcome::Failed(error),
                Either::Right(_) => Outcome::Interrupted,
            }
        };
        (self, outcome)
    }
}

/// Calls a waiting cursor back: to ask how far it is, or to end it.
#[derive(Default)]
pub(super) struct Interrupt {
    requested: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Interrupt {
    pub(super) fn request(&self) {
        self.requested.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes a request back that nobody needs to hear any more.
    pub(super) fn clear(&self) {
        self.requested.set(false);
    }

    /// Resolves once for each request.
    async fn wait(&self) {
        poll_fn(|context| {
            if self.requested.take() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
