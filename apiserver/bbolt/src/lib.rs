//! etcd's database files, for coming from etcd and going back to it.
//!
//! [`reader`] and [`writer`] know bbolt's pages: a B+ tree of buckets in one file. [`etcd`] knows
//! what etcd keeps in them. Both stream; neither trusts a byte that it reads.

mod error;
pub mod etcd;
mod page;
pub mod reader;
#[cfg(test)]
mod tests;
pub mod writer;

pub use error::Error;
pub use page::PAGE_BYTES;
