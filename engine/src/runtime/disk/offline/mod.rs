//! A data directory without a running store: [`Filling`] makes one from what comes from elsewhere,
//! [`IdleDirectory`] looks into one.

mod filling;
mod looking;
#[cfg(test)]
mod tests;

pub use filling::Filling;
pub use looking::{Batches, Frames, IdleDirectory, Snapshot};
