//! The four ways to change an object: JSON patch, JSON merge patch, strategic merge patch and
//! server-side apply, with the bookkeeping of who set which field. All of it is plain data in,
//! plain data out, over JSON values and the schema table.

pub mod apply;
mod depth;
mod go_format;
#[cfg(test)]
mod golden_tests;
pub mod json;
pub mod limits;
pub mod merge;
mod repeated;
pub mod strategic;
#[cfg(test)]
mod test_schema;

pub use go_format::go_value;
pub use repeated::repeated_keys;
