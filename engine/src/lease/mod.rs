//! Leases: keys that live as long as someone cares for them.
//! The table (core 0) knows each lease's time; every shard knows which leases there are and which
//! of its keys are attached. Expiry is found in slices.

mod attachments;
mod expiry;
mod table;
#[cfg(test)]
mod tests;

pub use attachments::Attachments;
pub use table::{LeaseTable, Renewal, Time};
