//! Work that goes on when nobody waits for it any more.
//!
//! The future of a request is dropped when its client hangs up. A write of several steps that ends
//! in the middle leaves what it took, an address or a port, taken for good.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures_util::FutureExt as _;

/// Where the work leaves its result for who waits.
struct Slot<T> {
    result: Option<std::thread::Result<T>>,
    waiter: Option<Waker>,
}

/// Parts work from the waiting for it: the first future does the work and is to be spawned, the
/// second gives the result and may be dropped. A panic of the work is one of who waits.
pub fn part<F>(work: F) -> (impl Future<Output = ()>, impl Future<Output = F::Output>)
where
    F: Future,
{
    let slot = Rc::new(RefCell::new(Slot { result: None, waiter: None }));
    let filled = slot.clone();
    let working = async move {
        let result = AssertUnwindSafe(work).catch_unwind().await;
        let mut slot = filled.borrow_mut();
        slot.result = Some(result);
        if let Some(waiter) = slot.waiter.take() {
            waiter.wake();
        }
    };
    let waiting = async move {
        let result = poll_fn(|context| {
            let mut slot = slot.borrow_mut();
            match slot.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    slot.waiter = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        });
        result.await.unwrap_or_else(|panic| resume_unwind(panic))
    };
    (working, waiting)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;

    use super::*;

    #[test]
    fn who_waits_gets_the_result() {
        let (working, waiting) = part(async { 7 });
        let mut waiting = pin!(waiting);
        assert_eq!(waiting.as_mut().now_or_never(), None);
        working.now_or_never().unwrap();
        assert_eq!(waiting.now_or_never(), Some(7));
    }

    #[test]
    fn work_is_done_when_nobody_waits() {
        let done = Cell::new(false);
        let (working, waiting) = part(async { done.set(true) });
        drop(waiting);
        working.now_or_never().unwrap();
        assert!(done.get());
    }

    #[test]
    fn a_panic_is_one_of_who_waits() {
        let (working, waiting) = part(async { assert!(std::hint::black_box(false), "a mistake") });
        working.now_or_never().unwrap();
        assert!(AssertUnwindSafe(waiting).catch_unwind().now_or_never().unwrap().is_err());
    }
}
