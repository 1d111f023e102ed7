//! volboot with third-party programs: OpenStack's client, SDK and API tests, Ansible, Horizon's panel, the requests of the
//! Terraform provider, Ironic for comparison, Schemathesis, and sushy-tools' emulator of BMCs.
//!
//! `tests/clients/install` installs these programs; without them the tests fail with a message.

mod allocations;
mod ansible;
mod bmc;
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
