//! From bytes to what is asked: the path's meaning, the query's parameters and options,
//! selectors, and the representation that the client wants back.
//! Plain data in, plain data out; every refusal has the text clients know.

pub mod field_selector;
pub mod label_selector;
pub mod negotiation;
pub mod options;
pub mod path;
pub mod query;
