//! Integration tests without root: the real binary through its interfaces, and checks of the source tree.

#![recursion_limit = "256"] // a whole node is a large json!

mod api;
mod attach;
mod backup;
mod boot_command;
mod boot_listener;
mod boot_once;
mod boot_window;
mod circles;
mod cli;
mod crash;
mod daemon;
mod damage;
mod descriptors;
mod documents;
mod fallback;
mod firmware;
mod full_disk;
mod language;
mod large_bodies;
mod layers;
mod lifecycle;
mod malformed_http;
mod metrics;
mod operator;
mod pages;
mod power;
mod reload;
mod schema;
mod service;
mod source_files;
mod switched;
mod tftp;
mod tftp_attacks;
mod tls;
mod up;

#[path = "../fakes/bmc/mod.rs"]
mod fake_bmc;
#[path = "../fakes/cinder/mod.rs"]
mod fake_cinder;
