//! Sees to it that a request's body keeps coming.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use mainstay_engine::runtime::timer;

use super::limits;

/// How fast a body comes. Costs nothing while all of it is there.
pub(super) struct Pace {
    sleep: fn(Duration) -> LocalBoxFuture<'static, ()>,
    /// Runs since something was waited for.
    window: Option<LocalBoxFuture<'static, ()>>,
    /// Came within the window.
    bytes: usize,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { sleep: |duration| Box::pin(timer::sleep(duration)), window: None, bytes: 0 }
    }
}

impl Pace {
    /// So much came.
    pub(super) fn came(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Nothing is there: whether too little came in the last while. Wakes when that is to be asked
    /// again.
    pub(super) fn is_too_slow(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            let sleep = self.sleep;
            let window = self.window.get_or_insert_with(|| {
                self.bytes = 0;
                sleep(limits::BODY_PACE)
            });
            match window.poll_unpin(context) {
                Poll::Pending => return false,
                Poll::Ready(()) if self.bytes < limits::BODY_PACE_BYTES => return true,
                Poll::Ready(()) => self.window = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Windows that are still to pass at once.
        static PASSED: Cell<u32> = const { Cell::new(0) };
    }

    fn sleep(duration: Duration) -> LocalBoxFuture<'static, ()> {
        assert_eq!(duration, limits::BODY_PACE);
        Box::pin(std::future::poll_fn(|_| match PASSED.get() {
            0 => Poll::Pending,
            left => {
                PASSED.set(left - 1);
                Poll::Ready(())
            }
        }))
    }

    #[test]
    fn who_brings_too_little_in_a_window_is_too_slow() {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let enough = limits::BODY_PACE_BYTES;
        for (came, expected) in [
            (&[enough][..], false),
            (&[enough, enough], false),
            (&[enough, enough - 1], true),
            (&[0], true),
        ] {
            let mut pace = Pace { sleep, ..Pace::default() };
            let mut too_slow = pace.is_too_slow(&mut context);
            for &bytes in came {
                assert!(!too_slow);
                pace.came(bytes);
                PASSED.set(1);
                too_slow = pace.is_too_slow(&mut context);
            }
            assert_eq!(too_slow, expected, "{came:?}");
        }
    }
}
