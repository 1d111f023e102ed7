//! What runs without any privilege: the binary as a whole, seen from outside, and the shape of the house.

#![recursion_limit = "256"] // a whole node is a large json!

mod api;
mod attach;
mod crash;
mod daemon;
mod documents;
mod faults;
mod firmware;
mod layers;
mod life;
mod metrics;
mod pages;
mod people;
mod reload;
mod schema;
mod service;
mod tftp;
mod tls;

#[path = "../fakes/cinder.rs"]
mod fake_cinder;
