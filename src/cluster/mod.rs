//! The instances on one store: who they are, how they differ, and the exchange of their events.
//!
//! Each instance announces itself in the store ([`mod@exchange`]). It serves its events to the others at a listener of
//! their own ([`mod@server`]), and follows each other instance ([`mod@follower`]); the timeline joins the events. Events do
//! not go through the store: a boot causes a dozen, and no decision waits for them.
//!
//! Requests and responses are authenticated by a secret that the instances share through the store ([`mod@secret`],
//! [`mod@proof`]). The secret is never sent. The server's challenge makes each request unique, so no clocks are compared,
//! and a recorded request proves nothing. Without TLS, an eavesdropper can read events, which hold no secrets, and cannot
//! forge them.

mod challenge;
mod client;
mod clock_offset;
mod exchange;
mod follower;
mod membership;
mod peer_state;
mod proof;
mod secret;
mod server;
mod status;
#[cfg(test)]
mod tests;

pub use client::{PeerClientError, build_client};
pub use exchange::run;
pub use membership::Membership;
pub use server::router;
pub use status::{InstanceStatus, MissingEvents};
