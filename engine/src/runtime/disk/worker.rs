//! The threads that write. Each takes one frame at a time and blocks in its write, so as many
//! writes are in flight as there are threads; places are given out, and writes acknowledged, in
//! order.

use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::thread::{Builder, JoinHandle};

use super::error::LogFailure;
use super::priority::prefer_this_thread;
use super::state::{Shared, Write};
use crate::runtime::local::AbortOnPanic;

pub(super) fn spawn(
    shared: &Arc<Shared>,
    threads: usize,
    prefer: bool,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    (0..threads)
        .map(|number| {
            let shared = Arc::clone(shared);
            Builder::new().name(format!("log-{number}")).spawn(move || {
                // A write that nobody reports back would be waited for without an end.
                let _guard = AbortOnPanic;
                if prefer {
                    // Whether it may has been tried and is told in `Log::preferred`.
                    let _ = prefer_this_thread();
                }
                run(&shared);
            })
        })
        .collect()
}

fn run(shared: &Shared) {
    while let Some(write) = next_write(shared) {
        let result = write.file.write_durably(write.place.offset, write.buffer.bytes());
        let result = result.map_err(|error| {
            LogFailure::new(&write.file.path, write.place.offset, "a durable write", &error)
        });
        shared.complete(write, result);
    }
    // The others must see the end, too.
    shared.work.notify_all();
}

/// Waits for something to write; `None` when there will be nothing more.
fn next_write(shared: &Shared) -> Option<Write> {
    let mut state = shared.lock();
    loop {
        if let Some(write) = state.next_write() {
            if !state.waiting.is_empty() {
                shared.work.notify_one();
            }
            let wakers = std::mem::take(&mut state.placed_wakers);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
            return Some(write);
        }
        if state.failure.is_some() || (state.stopping && state.waiting.is_empty()) {
            return None;
        }
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}
