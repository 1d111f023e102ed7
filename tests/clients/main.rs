//! What other people's programs make of volboot: OpenStack's clients, their library, and Ironic beside it.
//!
//! They are installed by `tests/clients/install`; without them these tests fail and say so.

#[allow(dead_code, reason = "it is more to the suite than to these tests")]
#[path = "../suite/daemon.rs"]
mod daemon;
mod differential;
mod ironic;
mod openstack;
mod python;
mod schemathesis;
mod sdk;
