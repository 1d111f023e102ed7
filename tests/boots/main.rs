//! Boot tests: real firmware, real iPXE, a real iSCSI target, and volboot.
//!
//! Needs root, for network namespaces; `make test` provides root and the packages. Each test has a network of its own
//! ([`lab`]), so tests may run in parallel: one per core, since each machine keeps a core busy.

#[path = "../lab/mod.rs"]
mod lab;

#[path = "../fakes/bmc/mod.rs"]
mod fake_bmc;

mod bios;
mod bmc;
mod boot_once;
mod cards;
mod connections;
mod dhcp_configs;
mod fallback;
mod flood_clients;
mod floods;
mod ibft;
mod ipv6;
mod login;
mod neighbours;
mod operating_system;
mod page_actions;
mod pages;
mod preflight;
mod proxy_dhcp;
mod proxy_firmware;
mod refusals;
mod retries;
mod routed;
mod site;
mod target_access;
mod tls;
mod transfers;
mod uefi;
mod verdicts;
mod volume_check;
