//! Whose turn it is: a line of those who wait, in the order in which they came.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A line, shared by all cores.
#[derive(Debug)]
pub(super) struct Line {
    /// So many may be at work at a time, and so many may wait.
    at_once: usize,
    waiting: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    working: usize,
    /// The numbers of those who wait, in order: nobody gets one twice.
    line: VecDeque<u64>,
    next: u64,
}

impl Line {
    pub(super) fn new(at_once: usize, waiting: usize) -> Arc<Line> {
        Arc::new(Line { at_once, waiting, state: Mutex::default() })
    }

    /// A place at the end of the line; `None` when it is too long.
    pub(super) fn join(self: &Arc<Line>) -> Option<Waiter> {
        let mut state = self.state();
        if state.line.len() >= self.waiting {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.line.push_back(number);
        drop(state);
        Some(Waiter { line: self.clone(), number })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked, and there is nothing that could be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody in the line; out of it when dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    line: Arc<Line>,
    number: u64,
}

impl Waiter {
    /// Leave to work, if it is this one's turn: fewer are before it than may begin. To be asked once
    /// more only if it was not.
    pub(super) fn turn(&self) -> Option<Turn> {
        let mut state = self.line.state();
        let before = state.line.binary_search(&self.number).ok()?;
        if state.working + before >= self.line.at_once {
            return None;
        }
        state.line.remove(before);
        state.working += 1;
        drop(state);
        Some(Turn(self.line.clone()))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.line.state();
        if let Ok(place) = state.line.binary_search(&self.number) {
            state.line.remove(place);
        }
    }
}

/// Somebody at work; the next one's turn when dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<Line>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.state().working -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served() {
        let line = Line::new(2, 10);
        let waiters: Vec<Waiter> = (0..5).map(|_| line.join().expect("room")).collect();
        let may_begin = |turns: &mut Vec<Option<Turn>>| {
            // The last ones ask first.
            for (waiter, turn) in waiters.iter().zip(turns.iter_mut()).rev() {
                if turn.is_none() {
                    *turn = waiter.turn();
                }
            }
            turns.iter().map(Option::is_some).collect::<Vec<_>>()
        };
        let mut turns: Vec<Option<Turn>> = (0..5).map(|_| None).collect();
        assert_eq!(may_begin(&mut turns), [true, true, false, false, false]);
        drop(turns);
        assert!(waiters[4].turn().is_none() && waiters[1].turn().is_none());
        let (third, fourth) = (waiters[2].turn(), waiters[3].turn());
        assert!(third.is_some() && fourth.is_some() && waiters[4].turn().is_none());
        drop(third);
        assert!(waiters[4].turn().is_some());
    }

    #[test]
    fn lines_are_bounded_and_who_leaves_holds_up_nobody() {
        let line = Line::new(1, 3);
        let mut waiters: Vec<Waiter> = (0..3).map(|_| line.join().expect("room")).collect();
        assert!(line.join().is_none());
        let working = waiters[0].turn();
        assert!(working.is_some() && waiters[1].turn().is_none());
        let last = line.join();
        assert!(last.is_some(), "who works does not wait");
        // The next one hangs up.
        drop(waiters.remove(1));
        drop(working);
        assert!(last.as_ref().is_some_and(|last| last.turn().is_none()));
        assert!(waiters[1].turn().is_some());
        // Whoever has had a turn and goes takes nobody's place.
        drop(waiters);
        assert!(last.is_some_and(|last| last.turn().is_some()));
        assert_eq!(line.state().working, 0);
    }
}
