//! Power and boot device through a scripted BMC: the client with its quirks, and each fault of a BMC as one line.

mod client;
mod faults;
mod nodes;
mod provision;

use std::sync::Arc;

use tokio::sync::Semaphore;
use volboot::redfish::{AuthType, Bmc, BmcAccess, CertificateTrust};

use crate::fake_bmc::{FakeBmc, PASSWORD, USER};
use crate::operator::POWER_LIMITS;

/// The settings for a scripted BMC.
fn access(bmc: &FakeBmc) -> BmcAccess {
    BmcAccess {
        address: bmc.url(),
        root: "/redfish/v1".into(),
        system: None,
        username: Some(USER.into()),
        password: PASSWORD.to_owned().into(),
        trust: CertificateTrust::System,
        auth: AuthType::Auto,
    }
}

/// A client with these settings.
async fn connect(access: BmcAccess) -> Bmc {
    volboot::tls::install_provider();
    Bmc::new(access, POWER_LIMITS.calls, Arc::new(Semaphore::new(8))).await.expect("a client")
}
