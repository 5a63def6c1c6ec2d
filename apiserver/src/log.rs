//! Lines on standard error, by severity.

use std::fmt::Arguments;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::cli::LogLevel;

static LEAST: AtomicU8 = AtomicU8::new(LogLevel::Info as u8);

/// From now on, what is less severe than `level` is not written.
pub fn set_level(level: LogLevel) {
    LEAST.store(level as u8, Ordering::Relaxed);
}

/// Writes one line.
pub fn write(level: LogLevel, text: Arguments<'_>) {
    if level as u8 <= LEAST.load(Ordering::Relaxed) {
        // Losing a line when standard error is closed is better than ending the process.
        let _lost = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("mainstay: {}: {text}\n", word(level)),
        );
    }
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warning",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    }
}
