//! volboot boots bare machines from block-storage volumes.

pub mod boot;
pub mod config;
pub mod http;
pub mod images;
pub mod listen;
pub mod model;
pub mod script;
pub mod store;
pub mod telemetry;
pub mod tftp;
