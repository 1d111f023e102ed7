//! volboot with third-party programs: OpenStack's client and SDK, Ironic for comparison, and Schemathesis.
//!
//! `tests/clients/install` installs these programs; without them the tests fail with a message.

#[allow(dead_code, reason = "it is more to the suite than to these tests")]
#[path = "../suite/daemon.rs"]
mod daemon;
mod differential;
mod ironic;
mod openstack;
mod python;
mod schemathesis;
mod sdk;
