//! What is told to the operator about what happens.

pub mod errno;
mod event;
pub mod log;
mod metrics;

pub use event::{Answered, Event, Resolved, Transfer, What, Word};
pub use metrics::{Metrics, Reading};
