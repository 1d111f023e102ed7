//! volboot boots bare machines from block-storage volumes.
//!
//! The boot session (*journey*) of a machine without a disk passes through the modules of this crate:
//!
//! 1. The firmware sends a DHCP request. The site's DHCP server gives the address, and names a boot file on volboot. Or
//!    the ProxyDHCP server beside it names the file: [`dhcp`].
//! 2. The firmware reads iPXE from the [`tftp`] server: a binary of the distribution, found by [`images`].
//! 3. iPXE fetches `/boot.ipxe` from the boot listener, [`http`]. The script is the same for every machine. It collects
//!    the machine's addresses and sends a *boot request*.
//! 4. [`boot`] identifies the node in the [`store`], reads its records, and decides: boot from volumes, wait, use the
//!    local disk, or refuse with a reason. For Cinder volumes, [`attach`] manages the node's *attachments* and gets
//!    their current connections from [`cinder`].
//! 5. [`script`] renders the [`model::BootAnswer`] as a *boot script*. iPXE logs in to the iSCSI targets and boots.
//! 6. After a failure, the machine reports the step and the error, and sends the next boot request. Each request is
//!    resolved again.
//! 7. [`power`] switches the machines of nodes with a BMC, which speaks [`redfish`].
//! 8. The [`timeline`] groups the events of all listeners by machine, and derives a *verdict* on each boot.
//!
//! Operators use a listener of their own: the [`api`] implements OpenStack Ironic's API, and the [`web`] page shows
//! every boot.
//!
//! Two principles shape the design. *Boot data is never precomputed*: no script is stored, and each boot
//! request is resolved from the current records. *Every failure has a visible reason*: each refusal and each error is a line on the
//! machine's console and a line in the log.
//!
//! A module uses only modules on floors below its own, and those on its own floor that the table in
//! `tests/suite/layers.rs` names. That file holds the test.
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`model`]: domain types with their validation, no I/O |
//! | 1 | [`config`], [`images`], [`listen`], [`neighbours`], [`script`], [`telemetry`], [`tls`] |
//! | 2 | [`cinder`], [`dhcp`], [`inspect`], [`iscsi`], [`keystone`], [`preflight`], [`redfish`], [`store`], [`tftp`] |
//! | 3 | [`attach`], [`boot`], [`check`], [`power`], [`timeline`] |
//! | 4 | [`auth`], [`cluster`]: the exchange with other instances, [`operator`]: the operations of operators |
//! | 5 | [`api`], [`http`], [`web`] |
//! | 6 | [`app`]: assembly |
//! | 7 | [`cli`] |
//!
//! # Glossary
//!
//! | term | meaning | type |
//! |---|---|---|
//! | node | the operator's record of a machine | [`model::Node`] |
//! | machine | hardware that was seen on the network, with or without a node | [`timeline::Machine`] |
//! | requester | the machine that sends a request; in a preview, the one that would | [`operator::Requester`] |
//! | boot request | a machine's request for its boot script | [`model::BootRequest`] |
//! | boot answer | the decision on a boot request | [`model::BootAnswer`] |
//! | outcome | the word for a boot answer, or for a transfer, in events | [`model::BootOutcome`], [`model::TransferOutcome`] |
//! | boot script | the iPXE script that carries a boot answer | [`script::Script`] |
//! | boot session, *journey* | all requests of a machine from its first file to the end of the boot; its id is in the URL | [`script::Journey`] |
//! | try, attempt | one boot request of a boot session and the boot that follows | |
//! | hook | iPXE's connection to a volume (`sanhook`) | [`model::Hook`] |
//! | report | a step, failed or completed, that a machine sends to `/boot/<mac>/event` | [`model::BootStep`], [`telemetry::EventKind::BootReport`] |
//! | verdict | one line on the result of the last boot | [`timeline::Verdict`] |
//! | boot loop, loop detector | boot sessions that restart without a hooked volume, and their detection | [`timeline::LoopDetector`] |
//! | neighbour check | the requester's place in the network, and its MAC address in the kernel's neighbour table, compared with the node's ports | [`model::NeighbourCheck`] |
//! | routed requester | a requester behind a router, whom the neighbour table does not show | [`model::NeighbourCheck::Routed`] |
//! | sighting | a node's card in the neighbour table, now or at an earlier request | [`model::CardSighting`] |
//! | presence | whether a machine still answers on an attached network, asked before a boot without `up` counts as failed | [`neighbours::Presence`] |
//! | recorded power state | Ironic's `power_state`: what the BMC said last, or what provision verbs and clients set | [`model::Node::recorded_power_state`] |
//! | inferred power state | on: the node's machine sent a boot request; shown, and decides nothing | [`model::NodePower`] |
//! | one-time boot | what a machine boots at its next boot session only, in place of the node's volumes | [`model::BootOnce`] |
//! | preflight | the check which portals of a volume answer, before the boot script names them | [`preflight::Preflight`] |
//! | BMC | the controller of a machine's power and boot device, with Redfish | [`redfish::Bmc`] |
//! | boot override | the boot source that a BMC imposes on the next boot, or on all | [`redfish::BootOverride`] |
//! | quirk | a deviation of BMCs in the field, with its source | [`redfish::Quirk`] |
//! | reservation | the host of the conductor that works on a node (Ironic's lock) | [`model::Node::reservation`] |
//! | round | the slow reading of all power states | `power::round` |
//! | connector | an initiator name or address of a node (Ironic's volume connector) | [`model::VolumeConnector`] |
//! | target | a volume of a node (Ironic's volume target) | [`model::VolumeTarget`] |
//! | connection | portals, target name, LUN and credentials of a volume | [`model::Connection`] |
//! | allocation | a client's request for an available node, and the node's reservation (Ironic's allocation) | [`model::Allocation`] |
//! | conductor | a service that manages nodes, in Ironic's terms: each volboot process is one | [`model::Conductor`] |
//! | instance, cluster | one of several volboot processes on a shared store, and all of them | [`model::InstanceName`], [`cluster::Membership`] |
//! | announcement | the facts that an instance tells the others through the store | [`model::Announcement`] |
//! | outbox | the numbered events of an instance, for the others | [`timeline::OutboxPage`] |
//! | joined event | an event of another instance in the timeline of this one | [`timeline::PeerBatch`] |
//! | attachment | Cinder's reservation of a volume for a node, and our record of it | [`model::Attachment`] |
//! | export | the PUT by which the backend exports a volume to an initiator | [`cinder::Cinder::export`] |
//! | borrowed attachment | Nova's attachment for the node's instance, which volboot exports through and never deletes | [`model::Ownership::Borrowed`] |
//! | adopted attachment | the attachment of an Ironic that the node comes from | [`model::Ownership::Adopted`] |
//! | pending export | an export whose response was not received | [`model::Attachment::pending_export`] |
//! | orphan | an attachment in Cinder that an interrupted create left behind | `attach::creation` |
//! | resolution | attaching and exporting the volumes of a node for one boot request | [`attach::Resolution`] |
//! | single flight | one resolution, shared by repeated boot requests of a machine | `attach::single_flight` |
//! | last known connection | the connection that Cinder returned at an earlier boot | [`model::ConnectionSource::LastKnown`] |
//! | existing connection | the connection of Nova's attachment as it is, after Cinder forbade the export | [`model::ConnectionSource::Existing`] |
//! | confirmed connection | a recorded connection whose attachment Cinder shows, while the store is read-only | [`model::ConnectionSource::Confirmed`] |
//! | read-only store | a store whose disk refuses writes; reads go on | [`store::StoreAccess`] |
//! | circuit breaker | stops requests to Cinder or to a failing backend; a successful probe closes the circuit | `attach::breaker` |
//! | reconciler | background task that completes interrupted attachments and detachments | `attach::reconciler` |
//! | volume check | portals, login, logical unit and content of a node's volumes, as the machine would meet them | [`check::VolumeChecks`] |
//! | inspection | the content of a volume, parsed in a process without secrets and network | [`inspect::Contents`] |
//! | ProxyDHCP server | names the boot file beside a DHCP server that gives the address (PXE 2.1, §2.2) | [`dhcp::ProxyDhcp`] |
//! | boot server | in PXE, the server at port 4011, which UEFI asks for the name of the boot file | [`dhcp::RequestKind::BootServer`] |
//! | listener | a socket with its protocol: ProxyDHCP server, TFTP server, boot listener, operator listener | [`listen::Listener`], [`tftp::Server`] |
//! | transfer | one TFTP read from request to end | [`tftp::TransferEvent`] |
//! | window | DATA blocks sent before an acknowledgement is required (RFC 7440) | [`tftp::NegotiatedOptions`] |
//! | revision | the version of a record; a conditional write names the revision it read | [`store::Batch`] |
//! | change feed | the writes after a revision, in order | [`store::ChangeSet`] |
//! | instance | one volboot process of several on a shared store | [`store::Instance`] |
//! | session | the lease of a process in a shared store; announcements and claims end with it | [`store::Cluster`] |
//! | claim | mutual exclusion of tasks and instances for one piece of work, such as a volume or a machine's power | [`store::Claim`] |
//! | fencing | a write under a claim is refused after the claim's end | [`store::Condition::Held`] |
//! | fresh, stale | whether reads show the present of a shared store, or its last known records | [`store::Freshness`] |
//! | mirror | the last known records of a shared store, in a local file | `store::mirror` |
//! | barrier | a quorum read after which the mirror shows all acknowledged writes | `store::etcd` |
//! | battery | the tests that every store must pass | `store::battery` |
//! | microversion | the minor version of Ironic's API that a client requests | `api::version` |

// The battery of stores names the crate as `tests/cluster` does.
#[cfg(test)]
extern crate self as volboot;

pub mod api;
pub mod app;
pub mod attach;
pub mod auth;
pub mod boot;
pub mod check;
pub mod cinder;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod dhcp;
#[cfg(test)]
mod history_checker;
pub mod http;
pub mod images;
pub mod inspect;
pub mod iscsi;
pub mod keystone;
pub mod listen;
pub mod model;
pub mod neighbours;
pub mod operator;
pub mod power;
pub mod preflight;
pub mod redfish;
pub mod script;
pub mod store;
pub mod telemetry;
pub mod tftp;
pub mod timeline;
pub mod tls;
pub mod web;
