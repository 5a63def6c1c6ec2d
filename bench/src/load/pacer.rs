//! When requests are sent. In an open loop the n-th request has an intended time that does not
//! depend on how fast the server answers; latency is measured from that time, so a stall is
//! charged to every request that should have been sent during it (coordinated omission).

use crate::sys;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// Evenly spaced intended send times, shared out among threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Requests per second of all threads together.
    pub rate: f64,
    /// This thread's number.
    pub thread: u64,
    /// How many threads there are.
    pub threads: u64,
}

impl Schedule {
    /// The intended time of this thread's `slot`-th request after the start.
    #[must_use]
    pub fn intended(&self, slot: u64) -> Duration {
        let position = (slot * self.threads + self.thread) as f64;
        Duration::from_secs_f64(position / self.rate)
    }

    /// How many requests all threads should have sent within `elapsed`.
    #[must_use]
    pub fn due(rate: f64, elapsed: Duration) -> u64 {
        (rate * elapsed.as_secs_f64()).ceil() as u64
    }
}

/// Hands out the slots of a schedule to the clients of one thread and wakes them in time.
/// Any idle client takes the next slot; when all are busy, slots fall behind and are sent late.
pub struct Pacer {
    schedule: Schedule,
    start: Instant,
    next_slot: Cell<u64>,
    timer: AsyncFd<OwnedFd>,
    waiting: RefCell<VecDeque<(Instant, oneshot::Sender<()>)>>,
}

impl Pacer {
    /// Starts the schedule at `start`.
    ///
    /// # Errors
    /// The system's reason when no timer can be made.
    pub fn new(schedule: Schedule, start: Instant) -> io::Result<Self> {
        let timer = sys::timer_create()?;
        Ok(Self {
            schedule,
            start,
            next_slot: Cell::new(0),
            timer,
            waiting: RefCell::new(VecDeque::new()),
        })
    }

    /// Takes the next slot and waits for its time; returns the intended time. `None` when the
    /// slot lies at or behind `deadline`.
    pub async fn next(&self, deadline: Option<Instant>) -> Option<Instant> {
        let slot = self.next_slot.get();
        let intended = self.start + self.schedule.intended(slot);
        if deadline.is_some_and(|deadline| intended >= deadline) {
            return None;
        }
        self.next_slot.set(slot + 1);
        if intended <= Instant::now() {
            // Behind schedule: let the connections work before sending on.
            tokio::task::yield_now().await;
            return Some(intended);
        }
        let (wake, woken) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.push_back((intended, wake));
            waiting.len() == 1
        };
        if first && self.arm(intended).is_err() {
            return None;
        }
        woken.await.ok().map(|()| intended)
    }

    /// Wakes clients until the task is dropped.
    ///
    /// # Errors
    /// The system's reason when the timer fails.
    pub async fn drive(&self) -> io::Result<()> {
        loop {
            let mut guard = self.timer.readable().await?;
            let expired = guard.try_io(|timer| sys::timer_drain(timer.get_ref()));
            match expired {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => continue,
            }
            let now = Instant::now();
            let mut waiting = self.waiting.borrow_mut();
            while waiting.front().is_some_and(|(intended, _)| *intended <= now) {
                if let Some((_, wake)) = waiting.pop_front() {
                    let _ = wake.send(()); // a client that has gone needs no waking
                }
            }
            if let Some((intended, _)) = waiting.front() {
                self.arm(*intended)?;
            }
        }
    }

    fn arm(&self, at: Instant) -> io::Result<()> {
        sys::timer_arm(self.timer.get_ref(), at.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_one_even_schedule() {
        let mut times: Vec<u128> = (0..3)
            .flat_map(|thread| {
                let schedule = Schedule { rate: 1000.0, thread, threads: 3 };
                (0..4).map(move |slot| schedule.intended(slot).as_micros())
            })
            .collect();
        times.sort_unstable();
        assert_eq!(times, (0..12).map(|n| n * 1000).collect::<Vec<_>>());
        assert_eq!(Schedule::due(1000.0, Duration::from_millis(12)), 12);
    }

    #[test]
    fn a_late_client_is_given_the_time_it_should_have_sent_at() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let schedule = Schedule { rate: 1000.0, thread: 0, threads: 1 };
            // As if a server had stalled for 50 ms.
            let start = Instant::now().checked_sub(Duration::from_millis(50)).unwrap();
            let pacer = Pacer::new(schedule, start).unwrap();
            for slot in 0..40 {
                let intended = pacer.next(None).await.unwrap();
                assert_eq!(intended, start + Duration::from_millis(slot));
            }
            let deadline = Some(start + Duration::from_millis(40));
            assert_eq!(pacer.next(deadline).await, None, "the 41st slot is at the deadline");
        });
    }

    #[test]
    fn clients_are_woken_at_their_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let start = Instant::now() + Duration::from_millis(5);
            let pacer =
                Pacer::new(Schedule { rate: 2000.0, thread: 0, threads: 1 }, start).unwrap();
            let clients = async {
                for _ in 0..20 {
                    let intended = pacer.next(None).await.unwrap();
                    assert!(Instant::now() >= intended, "never sent early");
                }
            };
            tokio::select! {
                result = pacer.drive() => panic!("the timer ended: {result:?}"),
                () = clients => {}
            }
            assert!(start.elapsed() >= Duration::from_micros(9_500));
        });
    }
}
