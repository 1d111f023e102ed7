//! volboot boots bare machines from block-storage volumes.

pub mod config;
pub mod model;
pub mod script;
pub mod store;
pub mod telemetry;
pub mod tftp;
