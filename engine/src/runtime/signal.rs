//! SIGINT and SIGTERM, and the wish to stop that they cause.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// The signals that mean "stop, cleanly".
const STOP_SIGNALS: [libc::c_int; 2] = [libc::SIGINT, libc::SIGTERM];

/// A handle on the wish to stop, shared by all cores.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<State>);

#[derive(Debug, Default)]
struct State {
    requested: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// Everybody who waits: each connection and each stream that lives until the end.
#[derive(Debug, Default)]
struct Waiting {
    next_id: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// One who waits; forgotten when dropped, so that there are as many as there are waiters.
struct Waiter<'a> {
    state: &'a State,
    id: u64,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.state.lock().wakers.remove(&self.id);
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shutdown {
    /// Resolves once somebody (a signal, a door that can't go on) wants everything to stop.
    pub async fn requested(&self) {
        let id = {
            let mut waiting = self.0.lock();
            waiting.next_id += 1;
            waiting.next_id
        };
        let waiter = Waiter { state: &self.0, id };
        poll_fn(|context| {
            let mut waiting = waiter.state.lock();
            if self.is_requested() {
                return Poll::Ready(());
            }
            waiting.wakers.insert(waiter.id, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Asks all cores to stop.
    pub fn request(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        let wakers = std::mem::take(&mut self.0.lock().wakers);
        for waker in wakers.into_values() {
            waker.wake();
        }
    }
}

/// Keeps the stop signals for [`watch_signals`]. To be called before any thread is made: threads
/// inherit the mask.
pub(super) fn hold_signals() -> io::Result<()> {
    glommio::signal::block(&STOP_SIGNALS).map_err(io::Error::from)
}

/// Turns the first stop signal into a wish to stop; the second one ends the process at once.
pub(super) async fn watch_signals(shutdown: Shutdown) -> io::Result<()> {
    let signals = glommio::signal::Signals::new(&STOP_SIGNALS).map_err(io::Error::from)?;
    let first = signals.recv().await.map_err(io::Error::from)?;
    eprintln!("received signal {first}: stopping (a second one stops at once)");
    shutdown.request();
    let second = signals.recv().await.map_err(io::Error::from)?;
    std::process::exit(128 + second);
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    #[test]
    fn who_does_not_wait_any_more_is_forgotten() {
        let shutdown = Shutdown::default();
        let waiting = || shutdown.0.lock().wakers.len();
        let mut context = Context::from_waker(Waker::noop());
        let mut stays = pin!(shutdown.requested());
        assert!(stays.as_mut().poll(&mut context).is_pending());
        for _ in 0..3 {
            let mut goes = Box::pin(shutdown.requested());
            assert!(goes.as_mut().poll(&mut context).is_pending());
            assert!(goes.as_mut().poll(&mut context).is_pending());
            assert_eq!(waiting(), 2);
        }
        assert_eq!(waiting(), 1);
        shutdown.request();
        assert!(stays.as_mut().poll(&mut context).is_ready());
        assert!(shutdown.requested().now_or_never().is_some());
        assert_eq!(waiting(), 0);
    }
}
