//! Lock-free rings between every two cores, and the wake-up of a core that sleeps.
//!
//! A sender pushes and moves on; it makes a system call only when the receiver has gone to sleep,
//! and the receiver says so before it does. A full ring makes the sender keep the message in a queue
//! of its own, in order, until there is room: nothing blocks and nothing is dropped. Those queues
//! are bounded by what may be uncommitted (see [`limits`]).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use futures_util::task::AtomicWaker;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::limits;

/// How one core is woken.
#[derive(Default)]
struct Bell {
    /// The receiver has looked at all its rings, found nothing, and waits for the waker.
    asleep: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    fn ring(&self) {
        // Pairs with the fence in `Mesh::sleep`: either the receiver sees the message that was
        // pushed before this, or this sees that it went to sleep.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

/// One core's ends of all its rings.
pub(super) struct Mesh<T> {
    /// By destination; none to itself.
    senders: Vec<Option<Sender<T>>>,
    /// By origin; none from itself.
    receivers: RefCell<Vec<Option<Consumer<T>>>>,
    own_bell: Arc<Bell>,
}

struct Sender<T> {
    ring: RefCell<Producer<T>>,
    /// What found the ring full, oldest first.
    overflow: RefCell<VecDeque<T>>,
    bell: Arc<Bell>,
}

/// The meshes of `cores` cores, to be moved to their threads.
pub(super) fn mesh<T>(cores: usize) -> Vec<Mesh<T>> {
    assert!((1..=limits::CORES).contains(&cores));
    let bells: Vec<Arc<Bell>> = (0..cores).map(|_| Arc::default()).collect();
    let mut meshes: Vec<Mesh<T>> = (0..cores)
        .map(|core| Mesh {
            senders: Vec::with_capacity(cores),
            receivers: RefCell::new((0..cores).map(|_| None).collect()),
            own_bell: Arc::clone(&bells[core]),
        })
        .collect();
    for from in 0..cores {
        for (to, bell) in bells.iter().enumerate() {
            if from == to {
                meshes[from].senders.push(None);
                continue;
            }
            let (producer, consumer) = RingBuffer::new(limits::RING_SLOTS);
            meshes[from].senders.push(Some(Sender {
                ring: RefCell::new(producer),
                overflow: RefCell::default(),
                bell: Arc::clone(bell),
            }));
            meshes[to].receivers.borrow_mut()[from] = Some(consumer);
        }
    }
    meshes
}

impl<T> Sender<T> {
    /// Whether the message found room in the ring.
    fn push(&self, message: T) -> bool {
        let mut overflow = self.overflow.borrow_mut();
        if !overflow.is_empty() {
            overflow.push_back(message);
            return false;
        }
        if let Err(PushError::Full(message)) = self.ring.borrow_mut().push(message) {
            overflow.push_back(message);
            return false;
        }
        true
    }

    /// Moves what is kept at home into the ring. Whether anything remains.
    fn flush(&self) -> bool {
        let mut overflow = self.overflow.borrow_mut();
        let mut ring = self.ring.borrow_mut();
        while let Some(message) = overflow.pop_front() {
            if let Err(PushError::Full(message)) = ring.push(message) {
                overflow.push_front(message);
                break;
            }
        }
        !overflow.is_empty()
    }
}

impl<T> Mesh<T> {
    /// Sends without waking the receiver: it sees the message when it next looks.
    pub(super) fn send_quietly(&self, to: usize, message: T) {
        let sender = self.senders[to].as_ref().expect("a core has no ring to itself");
        if !sender.push(message) {
            // Whoever sleeps here has to flush it, and the receiver to make room.
            self.own_bell.ring();
            sender.bell.ring();
        }
    }

    /// Makes sure that `to` looks at its rings soon.
    pub(super) fn wake(&self, to: usize) {
        self.senders[to].as_ref().expect("a core has no ring to itself").bell.ring();
    }

    /// Makes this core look at its rings soon.
    pub(super) fn wake_self(&self) {
        self.own_bell.ring();
    }

    /// Whether the ring to `to` is so full that the receiver should look, wanted or not.
    pub(super) fn is_crowded(&self, to: usize) -> bool {
        let sender = self.senders[to].as_ref().expect("a core has no ring to itself");
        sender.ring.borrow().slots() < limits::RING_SLOTS / 2
    }

    /// Retries what found a ring full. Whether anything still waits.
    pub(super) fn flush(&self) -> bool {
        let mut waiting = false;
        for sender in self.senders.iter().flatten() {
            if !sender.overflow.borrow().is_empty() {
                waiting |= sender.flush();
                sender.bell.ring();
            }
        }
        waiting
    }

    /// Takes up to `max` messages from each ring. How many there were.
    pub(super) fn receive(&self, max: usize, mut take: impl FnMut(usize, T)) -> usize {
        let mut count = 0;
        let cores = self.senders.len();
        for from in 0..cores {
            for _ in 0..max {
                // Borrowed anew each time: `take` may send, and so may what it wakes.
                let message = match &mut self.receivers.borrow_mut()[from] {
                    Some(ring) => ring.pop().ok(),
                    None => None,
                };
                let Some(message) = message else { break };
                take(from, message);
                count += 1;
            }
        }
        count
    }

    fn has_work(&self) -> bool {
        let overflows = |sender: &Sender<T>| !sender.overflow.borrow().is_empty();
        self.receivers.borrow().iter().flatten().any(|ring| !ring.is_empty())
            || self.senders.iter().flatten().any(overflows)
    }

    /// Resolves when there may be messages, or some that found no room. At once when there are.
    pub(super) async fn sleep(&self) {
        std::future::poll_fn(|context| {
            self.own_bell.waker.register(context.waker());
            self.own_bell.asleep.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.has_work() {
                self.own_bell.asleep.store(false, Ordering::Relaxed);
                return std::task::Poll::Ready(());
            }
            if self.own_bell.asleep.load(Ordering::Relaxed) {
                std::task::Poll::Pending
            } else {
                std::task::Poll::Ready(())
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_order_even_beyond_a_full_ring() {
        let meshes = mesh::<usize>(2);
        let count = limits::RING_SLOTS * 2 + 10;
        for message in 0..count {
            meshes[0].send_quietly(1, message);
        }
        let mut received = Vec::new();
        loop {
            let waiting = meshes[0].flush();
            meshes[1].receive(usize::MAX, |from, message| {
                assert_eq!(from, 0);
                received.push(message);
            });
            if !waiting {
                break;
            }
        }
        meshes[1].receive(usize::MAX, |_, message| received.push(message));
        assert_eq!(received, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn a_core_with_an_overflow_does_not_sleep() {
        let meshes = mesh::<usize>(2);
        let sleeps = |mesh: &Mesh<usize>| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            std::pin::pin!(mesh.sleep()).as_mut().poll(&mut context).is_pending()
        };
        assert!(sleeps(&meshes[0]));
        for message in 0..=limits::RING_SLOTS {
            meshes[0].send_quietly(1, message);
        }
        assert!(!sleeps(&meshes[0]), "one message found no room");
        meshes[1].receive(usize::MAX, |_, _| ());
        assert!(!meshes[0].flush());
        assert!(sleeps(&meshes[0]));
    }

    #[test]
    fn a_sleeper_is_woken_over_and_over() {
        const ROUNDS: usize = 20_000;
        let mut meshes = mesh::<usize>(2);
        let right = meshes.pop().expect("two");
        let left = meshes.pop().expect("two");
        // Ping-pong: each side sleeps between messages, so a lost wake-up would hang the test.
        let ponger = std::thread::spawn(move || {
            futures_executor_block_on(async {
                let mut next = 0;
                while next < ROUNDS {
                    right.sleep().await;
                    right.receive(usize::MAX, |_, message| {
                        assert_eq!(message, next);
                        next += 1;
                        right.send_quietly(0, message);
                        right.wake(0);
                    });
                }
            });
        });
        futures_executor_block_on(async {
            for round in 0..ROUNDS {
                left.send_quietly(1, round);
                left.wake(1);
                let mut answered = false;
                while !answered {
                    left.sleep().await;
                    left.receive(usize::MAX, |_, message| {
                        assert_eq!(message, round);
                        answered = true;
                    });
                }
            }
        });
        ponger.join().expect("no panic");
    }

    /// The smallest executor there is: park the thread until woken.
    fn futures_executor_block_on<F: Future>(future: F) -> F::Output {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let mut context = std::task::Context::from_waker(&waker);
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut context) {
                std::task::Poll::Ready(output) => return output,
                std::task::Poll::Pending => std::thread::park(),
            }
        }
    }
}
