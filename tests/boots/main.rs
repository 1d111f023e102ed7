//! Machines that really boot: real firmware, real iPXE, a real iSCSI target, and volboot between them.
//!
//! Needs root, for network namespaces; `make test` sees to that and to the packages. Each test has a network
//! of its own ([`lab`]), so they may run side by side; two at a time suit two cores, as every machine keeps
//! one busy.

#[path = "../lab/mod.rs"]
mod lab;

mod bios;
mod login;
mod neighbours;
mod pages;
mod refusals;
mod retries;
mod site;
mod snippets;
mod strangers;
mod tls;
mod transfers;
mod uefi;
mod verdicts;
