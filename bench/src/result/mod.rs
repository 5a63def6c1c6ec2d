//! What a run yields: figures as data (`figures`), the latency curve (`curve`), words for people
//! (`summary`) and the interval log for HdrHistogram's tools (`hdr_log`).

pub mod curve;
pub mod figures;
pub mod hdr_log;
pub mod summary;
