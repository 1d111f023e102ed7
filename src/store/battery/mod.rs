//! The battery: tests of the contract, for every store, with two handles at a time.
//!
//! The two handles may be one, two in one process, or in two processes. `tests/cluster` includes this file too.

mod claims;
mod records;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use volboot::store::Store;

/// Two handles on one empty store.
pub(crate) type Pair = (Arc<dyn Store>, Arc<dyn Store>);
/// A test of the battery.
pub(crate) type BatteryTest = fn(Arc<dyn Store>, Arc<dyn Store>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! tests {
    ($($file:ident::$test:ident),* $(,)?) => {
        /// All tests, with their names.
        pub(crate) const TESTS: &[(&str, BatteryTest)] =
            &[$((stringify!($test), |one, other| Box::pin($file::$test(one, other)))),*];
    };
}

tests! {
    records::reads_records_as_written,
    records::lists_in_key_order_and_pages_without_gaps,
    records::applies_a_batch_atomically,
    records::reports_a_conflict_to_the_slower_of_two_writers,
    records::a_condition_covers_a_prefix,
    records::feeds_every_write_in_order,
    records::wakes_waiters_on_a_change,
    records::loses_no_update_of_many_writers,
    records::reserves_no_node_twice,
    records::a_snapshot_shows_one_revision,
    records::names_its_place_and_size,
    records::fails_without_hanging_after_close,
    claims::a_claim_excludes_others_until_its_release,
    claims::a_write_without_its_claim_is_refused,
    claims::a_dropped_claim_is_given_back,
    claims::a_closed_session_ends_its_claims,
    claims::an_instance_is_listed_until_its_session_ends,
    claims::last_known_records_are_those_last_read,
}
