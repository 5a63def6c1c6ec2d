//! SIGINT and SIGTERM, and the wish to stop that they cause.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// The signals that mean "stop, cleanly".
const STOP_SIGNALS: [libc::c_int; 2] = [libc::SIGINT, libc::SIGTERM];

/// A handle on the wish to stop, shared by all cores.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<State>);

#[derive(Debug, Default)]
struct State {
    requested: AtomicBool,
    /// Everybody who waits. Grows with the waiters (a few per door and core) and is emptied once.
    waiting: Mutex<Vec<Waker>>,
}

impl Shutdown {
    /// Resolves once somebody (a signal, a door that can't go on) wants everything to stop.
    pub async fn requested(&self) {
        poll_fn(|context| {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if self.is_requested() {
                return Poll::Ready(());
            }
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
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
        let waiting =
            std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for waker in waiting {
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
