//! What a few nodes do, step by step.

mod cases;
mod cluster;
mod found;
mod paper;
