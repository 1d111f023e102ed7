//! What is told to the operator about what happens.

mod log;
mod metrics;

pub use log::init as init_log;
pub use metrics::{Metrics, Reading};
