//! Servers with data, one after the other: what a million keys cost in memory and on disk, how
//! long a restart takes with them (after a stop and after a kill), and whether memory stays level
//! while a few keys are rewritten without end. `measure` does it, `report` shows it, `command` is
//! `mainstay-bench data` around both.

pub mod command;
pub mod measure;
pub mod report;
