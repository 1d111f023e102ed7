//! volboot boots bare machines from block-storage volumes.

#![forbid(unsafe_code)]

pub mod api;
pub mod model;
pub mod store;
