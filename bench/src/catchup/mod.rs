//! A member that is added to a cluster full of data, under load: how long it takes until it has
//! everything, and what the clients of the others feel. `measure` does it, `report` shows it,
//! `command` is `mainstay-bench catchup` around both.

pub mod command;
pub mod measure;
pub mod report;
