//! Controllers that are part of this server, so that a cluster without a controller manager still
//! does what its clients wait for.

pub mod namespace;
