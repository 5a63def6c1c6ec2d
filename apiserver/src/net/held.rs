//! Counts the bytes that clients make a core hold, so that many of them together stay bounded.

use std::cell::Cell;
use std::thread::LocalKey;

thread_local! {
    /// Of requests that are still being received.
    static RECEIVED: Cell<usize> = const { Cell::new(0) };
    /// Of answers that their clients don't take.
    static PENDING: Cell<usize> = const { Cell::new(0) };
}

/// Somebody's part of what this core holds. Given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    total: &'static LocalKey<Cell<usize>>,
    bytes: usize,
}

impl Held {
    /// For a request that is being received.
    pub fn received() -> Held {
        Held { total: &RECEIVED, bytes: 0 }
    }

    /// For a connection's answers that wait to be sent.
    pub fn pending() -> Held {
        Held { total: &PENDING, bytes: 0 }
    }

    /// From now on it is so much.
    pub fn set(&mut self, bytes: usize) {
        // What is added once was counted before: the total is never below a part of it.
        self.total.set(self.total.get() - self.bytes + bytes);
        self.bytes = bytes;
    }

    /// This part.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everybody's on this core.
    pub fn total(&self) -> usize {
        self.total.get()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_are_given_back() {
        let (mut one, mut other) = (Held::received(), Held::received());
        let mut apart = Held::pending();
        one.set(3);
        other.set(4);
        one.set(1);
        apart.set(9);
        assert_eq!((one.bytes(), one.total(), apart.total()), (1, 5, 9));
        drop(one);
        assert_eq!(other.total(), 4);
        drop(other);
        assert_eq!(Held::received().total(), 0);
    }
}
