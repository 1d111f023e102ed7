//! volboot boots bare machines from block-storage volumes.

#![forbid(unsafe_code)]

pub mod model;
pub mod store;
