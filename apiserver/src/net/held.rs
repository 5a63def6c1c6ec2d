//! Counts the bytes that clients make this process hold, so that many of them together stay bounded.
//!
//! Each part belongs to somebody who gives it back by dropping it. A core adds its parts up without
//! asking anybody, and draws from what the process may hold in larger pieces.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::LocalKey;

use super::limits;

/// Bytes that all cores together have drawn.
static DRAWN: AtomicUsize = AtomicUsize::new(0);
/// Bytes that they may draw before clients are shed.
static BUDGET: AtomicUsize = AtomicUsize::new(limits::HELD_BYTES);

thread_local! {
    /// Of requests that are still being received.
    static RECEIVED: Cell<usize> = const { Cell::new(0) };
    /// Of connections: what waits to be sent, what was not read yet, and what they are made of.
    static CONNECTIONS: Cell<usize> = const { Cell::new(0) };
    /// What this core has drawn for both.
    static DRAWN_HERE: Drawn = const { Drawn(Cell::new(0)) };
}

/// Given back when its core ends.
struct Drawn(Cell<usize>);

impl Drop for Drawn {
    fn drop(&mut self) {
        DRAWN.fetch_sub(self.0.get(), Ordering::Relaxed);
    }
}

/// How much of what the process may hold is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    Low,
    /// More than half: hold less for each client.
    High,
    /// All of it: refuse what would add to it.
    Over,
}

/// Sets how much the process may hold, in bytes. To be called before anything is served.
pub fn set_budget(bytes: usize) {
    BUDGET.store(bytes, Ordering::Relaxed);
}

/// How much of it is in use, on all cores.
pub fn pressure() -> Pressure {
    let (drawn, budget) = (DRAWN.load(Ordering::Relaxed), BUDGET.load(Ordering::Relaxed));
    if drawn >= budget {
        Pressure::Over
    } else if drawn > budget / 2 {
        Pressure::High
    } else {
        Pressure::Low
    }
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

    /// For all that a connection holds.
    pub fn connection() -> Held {
        Held { total: &CONNECTIONS, bytes: 0 }
    }

    /// From now on it is so much.
    pub fn set(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        // What is added once was counted before: the total is never below a part of it.
        self.total.set(self.total.get() - self.bytes + bytes);
        self.bytes = bytes;
        draw(RECEIVED.get() + CONNECTIONS.get());
    }

    /// This part.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everybody's of this kind on this core.
    pub fn total(&self) -> usize {
        self.total.get()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Draws for a core that holds so much, or gives back what it has too much of.
fn draw(bytes: usize) {
    let piece = limits::HELD_PIECE_BYTES;
    DRAWN_HERE.with(|Drawn(drawn)| {
        let before = drawn.get();
        if bytes > before {
            let more = (bytes - before).next_multiple_of(piece);
            DRAWN.fetch_add(more, Ordering::Relaxed);
            drawn.set(before + more);
        } else if before - bytes >= 2 * piece {
            // One piece stays, so that who holds about as much as a piece does not draw each time.
            let less = (before - bytes) / piece * piece - piece;
            DRAWN.fetch_sub(less, Ordering::Relaxed);
            drawn.set(before - less);
        }
    });
}

/// A quarter of the memory that this process may use: the rest is for keys and values.
pub fn default_budget() -> usize {
    let limit =
        |path: &str| -> Option<usize> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_of(&text));
    // Of the control group, inside a container of either version.
    let group = limit("/sys/fs/cgroup/memory.max");
    let older = limit("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    let memory = [machine, group, older].into_iter().flatten().min();
    memory.map_or(limits::HELD_BYTES, |memory| (memory / 4).max(limits::HELD_BYTES_MIN))
}

/// The size of the machine's memory, of the kernel's table.
fn memory_of(table: &str) -> Option<usize> {
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_are_given_back() {
        let (mut one, mut other) = (Held::received(), Held::received());
        let mut apart = Held::connection();
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

    #[test]
    fn a_core_draws_in_pieces() {
        let piece = limits::HELD_PIECE_BYTES;
        let drawn = || DRAWN_HERE.with(|drawn| drawn.0.get());
        let mut held = Held::connection();
        for (bytes, expected) in [
            (1, piece),
            (piece, piece),
            (piece + 1, 2 * piece),
            (5 * piece, 5 * piece),
            (4 * piece, 5 * piece),
            (3 * piece, 4 * piece),
            (0, piece),
            (2, piece),
        ] {
            held.set(bytes);
            assert_eq!(drawn(), expected, "{bytes}");
        }
    }

    #[test]
    fn the_machines_memory_is_read() {
        for (table, expected) in [
            ("MemTotal:       16318416 kB\nMemFree: 1 kB\n", Some(16_318_416 * 1024)),
            ("MemFree: 1 kB\n", None),
            ("MemTotal: much kB\n", None),
        ] {
            assert_eq!(memory_of(table), expected);
        }
        assert!(default_budget() >= limits::HELD_BYTES_MIN);
    }
}
