//! What a run yields: figures as data (`figures`), the latency curve (`curve`), words for people
//! (`summary`), and two forms for HdrHistogram's tools: intervals (`hdr_log`), text (`percentiles`).

pub mod curve;
pub mod figures;
pub mod hdr_log;
pub mod percentiles;
pub mod summary;
