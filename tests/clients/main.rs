//! volboot with third-party programs: OpenStack's client, SDK and API tests, Ansible, Ironic for comparison, and
//! Schemathesis.
//!
//! `tests/clients/install` installs these programs; without them the tests fail with a message.

mod allocations;
mod ansible;
#[allow(dead_code, reason = "it is more to the suite than to these tests")]
#[path = "../suite/daemon.rs"]
mod daemon;
mod differential;
#[allow(dead_code, reason = "it is more to the quick starts than to these tests")]
#[path = "../lab/documents.rs"]
mod documents;
mod functional;
mod guide;
mod horizon;
mod ironic;
mod keystone;
mod openstack;
mod python;
mod role;
mod schemathesis;
mod sdk;
mod tempest;
mod terraform;
