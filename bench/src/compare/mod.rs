//! Servers side by side: who takes part (`peer`), a running one (`server`) or a cluster of them
//! (`fleet`), one measurement of it (`measure`), all of them as data (`comparison`, `statistics`),
//! and the page that shows them (`chart`, `scale`, `page`; `sheet` is what all pages share).
//! `command` is the `mainstay-bench compare` command around it.

pub mod chart;
pub mod command;
pub mod comparison;
pub mod facts;
pub mod fleet;
pub mod measure;
pub mod page;
pub mod peer;
pub mod scale;
pub mod server;
pub mod sheet;
pub mod statistics;
