//! A history checker: several instances on one store, a Cinder that obeys the rules of the real one, and random faults
//! from a seed. Each run is checked by its history alone: the requests of operators, the boot scripts of machines, and
//! Cinder's log.
//!
//! | file | content |
//! |---|---|
//! | `history`, `checker`, `ending` | the events; the rules during a run, and at its end |
//! | `cinder`, `network` | Cinder, and the way to it |
//! | `store`, `link`, `instance` | one instance: its store, its delays and outages, its life |
//! | `machine`, `sessions`, `operations`, `faults` | who acts: machines, operators, and fate |
//! | `site`, `run` | all of them, and one run |
//!
//! A run lasts minutes by its own clock, and milliseconds by the host's. A seed gives the same run again, as far as the
//! iteration order of maps and of concurrently ready tasks permits.
//!
//! `VOLBOOT_HISTORY_RUNS=5000 cargo test --locked --lib history_checker -- --nocapture` is the long form, and
//! `VOLBOOT_HISTORY_SEED=7` runs one seed and prints its history. `VOLBOOT_HISTORY_FIRST` is the first seed of several, and
//! `VOLBOOT_HISTORY_FOLDER` a folder for the histories of failed runs.

mod checker;
mod cinder;
mod ending;
mod faults;
mod history;
mod instance;
mod link;
mod machine;
mod network;
mod operations;
mod random;
mod run;
mod sessions;
mod site;
mod store;
mod tests;
