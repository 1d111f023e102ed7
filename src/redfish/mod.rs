//! Redfish client (DMTF DSP0266) for the power and the boot override of one computer system behind a BMC.
//!
//! | file | content |
//! |---|---|
//! | `access` | address and credentials of a BMC |
//! | `http_client` | TLS trust, time limits, redirects to the same host only, bounded bodies |
//! | `login` | the authorization of requests |
//! | `session` | login: session or HTTP basic authentication |
//! | `bmc` | [`Bmc`]: authorized requests, with the retries that `quirks` allows |
//! | `system` | [`ComputerSystem`]: the properties that are read, whatever else the BMC sends |
//! | `reset` | the reset action, with a fallback where a reset type is missing |
//! | `boot_override` | the boot source override: request, confirmation |
//! | `quirks` | deviations of BMCs in the field, one row each with its source |
//! | `message` | messages of a BMC, cut |
//! | `error` | [`RedfishError`]: one line that names the BMC's fault |
//!
//! Every request has a time limit, and every text of a BMC is cut where it enters. Paths that a BMC names stay on its own host.
//! Left out on purpose: tasks, events, virtual media, firmware.

mod access;
mod bmc;
mod boot_override;
mod error;
mod http_client;
mod login;
mod message;
mod quirks;
mod reset;
mod session;
mod system;
#[cfg(test)]
mod tests;

pub use access::{AuthType, BmcAccess, CertificateTrust};
pub use bmc::Bmc;
pub use boot_override::{BootMode, BootSource, OverrideRequest};
pub use error::{BmcFault, RedfishError};
pub use http_client::CallLimits;
pub use quirks::{QUIRKS, Quirk};
pub use reset::PowerCommand;
pub use system::{BootOverride, ComputerSystem, SystemPower};
