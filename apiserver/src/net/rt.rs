//! What hyper needs of a runtime, given by this core's executor: I/O and timers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::io::{AsyncRead, AsyncWrite};
use mainstay_engine::runtime::{spawn_local, timer};

use super::limits;

/// The buffer into which all connections of a core read, one after the other.
pub(super) type ReadBuffer = Rc<RefCell<Box<[u8]>>>;

pub(super) fn read_buffer() -> ReadBuffer {
    Rc::new(RefCell::new(vec![0; limits::READ_BYTES].into_boxed_slice()))
}

/// A stream as hyper wants it: first the bytes that were read to find out what it speaks.
pub(super) struct HyperStream<S> {
    stream: S,
    prefix: Bytes,
    buffer: ReadBuffer,
    timer: CoreTimer,
    /// Runs while the client takes nothing of what it is sent.
    stalled: Option<Pin<Box<dyn hyper::rt::Sleep>>>,
}

impl<S> HyperStream<S> {
    pub(super) fn new(
        stream: S,
        prefix: Bytes,
        buffer: ReadBuffer,
        timer: CoreTimer,
    ) -> HyperStream<S> {
        HyperStream { stream, prefix, buffer, timer, stalled: None }
    }
}

impl<S: AsyncRead + Unpin> hyper::rt::Read for HyperStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.prefix.is_empty() {
            let length = this.prefix.len().min(into.remaining());
            into.put_slice(&this.prefix[..length]);
            this.prefix.advance(length);
            return Poll::Ready(Ok(()));
        }
        // The cursor's memory is not initialized; reading by way of the core's own buffer costs a
        // copy of what is in the cache anyway, and no unsafe code.
        let mut buffer = this.buffer.borrow_mut();
        let length = buffer.len().min(into.remaining());
        match Pin::new(&mut this.stream).poll_read(context, &mut buffer[..length]) {
            Poll::Ready(Ok(read)) => {
                into.put_slice(&buffer[..read]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for HyperStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        if written.is_ready() {
            this.stalled = None;
            return written;
        }
        let stalled = this.stalled.get_or_insert_with(|| {
            let checks = limits::CHECK_INTERVAL * limits::STALLED_CHECKS;
            hyper::rt::Timer::sleep(&this.timer, checks)
        });
        let text = "the client takes nothing of what it is sent";
        stalled.as_mut().poll(context).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

/// Timers of one core, coarse and cheap: hyper wants `Sleep` futures that are `Send`, which this
/// core's own timers are not, so deadlines wait in a map and one task wakes those that passed.
#[derive(Clone, Default)]
pub(super) struct CoreTimer(Arc<Mutex<Deadlines>>);

#[derive(Default)]
struct Deadlines {
    next_id: u64,
    waiting: BTreeMap<(Instant, u64), Waker>,
    ticking: bool,
}

impl CoreTimer {
    fn lock(&self) -> MutexGuard<'_, Deadlines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes what is due, until nothing waits any more.
    async fn tick(self) {
        loop {
            timer::sleep(limits::TIMER_TICK).await;
            for waker in self.due(Instant::now()) {
                waker.wake();
            }
            let mut deadlines = self.lock();
            if deadlines.waiting.is_empty() {
                deadlines.ticking = false;
                return;
            }
        }
    }

    fn due(&self, now: Instant) -> Vec<Waker> {
        let mut deadlines = self.lock();
        let later = deadlines.waiting.split_off(&(now, u64::MAX));
        std::mem::replace(&mut deadlines.waiting, later).into_values().collect()
    }
}

impl hyper::rt::Timer for CoreTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(CoreSleep { timer: self.clone(), deadline, id: None })
    }
}

struct CoreSleep {
    timer: CoreTimer,
    deadline: Instant,
    /// Present while a waker waits in the map.
    id: Option<u64>,
}

impl hyper::rt::Sleep for CoreSleep {}

impl Future for CoreSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.deadline {
            return Poll::Ready(());
        }
        let mut deadlines = self.timer.lock();
        let id = self.id.unwrap_or(deadlines.next_id);
        deadlines.next_id = deadlines.next_id.max(id + 1);
        deadlines.waiting.insert((self.deadline, id), context.waker().clone());
        let start = !std::mem::replace(&mut deadlines.ticking, true);
        drop(deadlines);
        self.id = Some(id);
        if start {
            spawn_local(self.timer.clone().tick());
        }
        Poll::Pending
    }
}

impl Drop for CoreSleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.timer.lock().waiting.remove(&(self.deadline, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Timer;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_timer_wakes_what_is_due_and_forgets_what_was_dropped() {
        let timer = CoreTimer::default();
        timer.lock().ticking = true; // no executor here: the test turns the clock
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut context = Context::from_waker(&waker);
        let start = Instant::now();
        let mut sleeps: Vec<_> = [10, 20, 30]
            .map(|seconds| timer.sleep_until(start + Duration::from_secs(seconds)))
            .into_iter()
            .collect();
        for sleep in &mut sleeps {
            assert!(sleep.as_mut().poll(&mut context).is_pending());
            assert!(sleep.as_mut().poll(&mut context).is_pending(), "polled twice, waits once");
        }
        assert_eq!(timer.lock().waiting.len(), 3);
        sleeps.remove(1);
        assert_eq!(timer.lock().waiting.len(), 2);
        for waker in timer.due(start + Duration::from_secs(25)) {
            waker.wake();
        }
        assert_eq!((count.0.load(Ordering::Relaxed), timer.lock().waiting.len()), (1, 1));
        assert!(timer.sleep_until(start).as_mut().poll(&mut context).is_ready());
    }
}
