//! What is told to the operator about what happens.

mod log;

pub use log::init as init_log;
