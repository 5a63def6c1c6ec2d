//! How long nobody can write after the leader of a cluster was killed. `prober` tries a write every
//! few milliseconds, `measure` kills, `report` shows, `command` is `mainstay-bench failover` around
//! them.

pub mod command;
pub mod measure;
pub mod prober;
pub mod report;
