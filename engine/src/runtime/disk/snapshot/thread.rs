//! The thread that writes snapshots: encoding and blocking writes stay off the cores.

use std::future::poll_fn;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread::{Builder, JoinHandle};

use crate::runtime::affinity::stand_back;
use crate::runtime::local::AbortOnPanic;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// A thread of low priority with something that it alone works on. Dropping it waits for its end.
pub(crate) struct SnapshotThread<T> {
    jobs: Option<Sender<Job<T>>>,
    thread: Option<JoinHandle<()>>,
}

/// Where a job leaves what came of it.
struct Slot<R> {
    result: Option<R>,
    waker: Option<Waker>,
}

impl<T: Send + 'static> SnapshotThread<T> {
    pub(crate) fn spawn(mut work: T) -> io::Result<SnapshotThread<T>> {
        let (jobs, received) = channel::<Job<T>>();
        let thread = Builder::new().name("snapshot".to_owned()).spawn(move || {
            let _guard = AbortOnPanic;
            // Whoever serves requests comes first.
            stand_back();
            while let Ok(job) = received.recv() {
                job(&mut work);
            }
        })?;
        Ok(SnapshotThread { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does something on the thread, behind what was asked before, and gives what came of it.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> R {
        let slot = Arc::new(Mutex::new(Slot { result: None, waker: None }));
        let done = Arc::clone(&slot);
        let job: Job<T> = Box::new(move |state| {
            let result = work(state);
            let mut slot = done.lock().unwrap_or_else(PoisonError::into_inner);
            slot.result = Some(result);
            let waker = slot.waker.take();
            drop(slot);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        let jobs = self.jobs.as_ref().expect("taken when it is dropped");
        assert!(jobs.send(job).is_ok(), "the thread ends when this is dropped");
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
}

impl<T> Drop for SnapshotThread<T> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process.
            let _ = thread.join();
        }
    }
}
