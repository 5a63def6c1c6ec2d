//! Servers side by side: who takes part (`peer`), a running one (`server`), one measurement of
//! it (`measure`), all of them as data (`comparison`, `statistics`), and the page that shows them
//! (`chart`, `scale`, `page`). `command` is the `mainstay-bench compare` command around it.

pub mod chart;
pub mod command;
pub mod comparison;
pub mod facts;
pub mod measure;
pub mod page;
pub mod peer;
pub mod scale;
pub mod server;
pub mod statistics;
