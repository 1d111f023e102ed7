//! volboot boots bare machines from block-storage volumes.
//!
//! A machine without a disk is switched on. What happens then is what this crate is made of, and its modules are
//! the stations on the way:
//!
//! 1. The firmware asks the site's DHCP server, which sends it here for a boot file.
//! 2. It reads iPXE from the [`tftp`] door: a binary of the distribution, found by [`images`].
//! 3. iPXE comes to the machines' door, [`http`], for the script that is the same for everybody. It gathers who
//!    this is and asks again.
//! 4. [`boot`], the heart, finds the node in the [`store`], looks at what the node has *now*, and decides: boot
//!    these volumes, wait, the local disk, or no, and why. Where volumes are Cinder's, [`attach`] holds them for the
//!    node, and asks [`cinder`] anew where they are.
//! 5. [`script`] turns that [`model::Answer`] into text; iPXE hooks the volumes over iSCSI and boots.
//! 6. If that fails, the machine reports the step and the error, and asks anew: every try is resolved afresh.
//! 7. The [`timeline`] joins what every door saw into what happened to each machine.
//!
//! People come in by a listener of their own, where the [`api`] speaks OpenStack Ironic's API and the [`web`] page shows
//! every boot.
//!
//! Two rules make it what it is. *Nothing about a volume is frozen*: there is no script on disk, and each boot is
//! answered from what is true when it asks. *No machine is left without a reason*: every refusal and every failure is a line
//! on that machine's console and a line in the log.
//!
//! Modules use those on floors below their own, never above; `tests/suite/layers.rs` holds the table and the test.
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`model`]: nouns with their rules, no I/O |
//! | 1 | [`config`], [`images`], [`listen`], [`neighbours`], [`script`], [`telemetry`], [`tls`] |
//! | 2 | [`cinder`], [`keystone`], [`store`], [`tftp`] |
//! | 3 | [`attach`], [`boot`], [`timeline`] |
//! | 4 | [`api`], [`auth`], [`http`], [`web`] |
//! | 5 | [`app`]: assembly |
//! | 6 | [`cli`] |

pub mod api;
pub mod app;
pub mod attach;
pub mod auth;
pub mod boot;
pub mod cinder;
pub mod cli;
pub mod config;
pub mod http;
pub mod images;
pub mod keystone;
pub mod listen;
pub mod model;
pub mod neighbours;
pub mod script;
pub mod store;
pub mod telemetry;
pub mod tftp;
pub mod timeline;
pub mod tls;
pub mod web;
