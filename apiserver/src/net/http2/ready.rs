//! Which parts of a connection have something to do.
//!
//! Handlers, bodies, the socket's two directions and timers of a connection live in one task. Each
//! has a number and a waker of its own, so that one that is woken does not cost a look at all.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// The numbers that were woken, and whom to wake because of it.
#[derive(Debug, Default)]
pub(super) struct Ready(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    woken: Vec<u32>,
    /// By number: it is in `woken` already.
    listed: Vec<bool>,
    task: Option<Waker>,
    /// The task runs, and looks at `woken` before it stops.
    running: bool,
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task that takes care of all numbers runs.
    pub(super) fn start(&self, task: &Waker) {
        let mut state = self.lock();
        state.running = true;
        if !state.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            state.task = Some(task.clone());
        }
    }

    /// Moves the numbers that were woken to `woken`, which is empty.
    pub(super) fn take(&self, woken: &mut Vec<u32>) {
        let mut state = self.lock();
        mem::swap(&mut state.woken, woken);
        for &number in &*woken {
            state.listed[number as usize] = false;
        }
    }

    /// The task is about to stop until it is woken; `false` when there is something to do.
    pub(super) fn stop(&self) -> bool {
        let mut state = self.lock();
        state.running = !state.woken.is_empty();
        !state.running
    }

    /// Wakes the task for something that has no number.
    pub(super) fn wake_task(&self) {
        self.wake(None);
    }

    fn wake(&self, number: Option<u32>) {
        let mut state = self.lock();
        if let Some(number) = number {
            let at = number as usize;
            if at >= state.listed.len() {
                state.listed.resize(at + 1, false);
            }
            if mem::replace(&mut state.listed[at], true) {
                return;
            }
            state.woken.push(number);
        }
        if !mem::replace(&mut state.running, true)
            && let Some(task) = state.task.clone()
        {
            drop(state);
            task.wake();
        }
    }
}

struct Numbered {
    ready: Arc<Ready>,
    number: u32,
}

impl Wake for Numbered {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.wake(Some(self.number));
    }
}

/// The waker of a number. Numbers are small: there is a table of them.
pub(super) fn waker(ready: &Arc<Ready>, number: u32) -> Waker {
    Waker::from(Arc::new(Numbered { ready: ready.clone(), number }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_task_is_woken_once_and_hears_of_everything() {
        let count = Arc::new(Count::default());
        let wakes = || count.0.load(Ordering::Relaxed);
        let ready = Arc::new(Ready::default());
        let wakers = [waker(&ready, 0), waker(&ready, 7)];
        ready.start(&Waker::from(count.clone()));
        let mut woken = Vec::new();
        wakers[1].wake_by_ref();
        assert!(!ready.stop(), "woken while it ran");
        ready.take(&mut woken);
        assert_eq!((woken.as_slice(), wakes()), (&[7][..], 0));
        woken.clear();
        assert!(ready.stop());
        for _ in 0..3 {
            wakers[0].wake_by_ref();
            wakers[1].wake_by_ref();
        }
        assert_eq!(wakes(), 1);
        ready.start(&Waker::from(count.clone()));
        ready.take(&mut woken);
        assert_eq!(woken, [0, 7]);
        woken.clear();
        assert!(ready.stop());
        ready.wake_task();
        assert_eq!(wakes(), 2);
    }
}
