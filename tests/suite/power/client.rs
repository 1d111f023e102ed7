//! The Redfish client: sessions, repetitions, fallbacks.

use volboot::redfish::{
    AuthType, BmcAccess, BootMode, BootSource, OverrideRequest, PowerCommand, SystemPower,
};

use super::{access, connect};
use crate::fake_bmc::{BmcCall, BmcTrouble, FakeBmc, SYSTEM};

const PXE: OverrideRequest =
    OverrideRequest { source: BootSource::Pxe, persistent: true, mode: Some(BootMode::Uefi) };

fn count(bmc: &FakeBmc, start: &str) -> usize {
    bmc.script(|state| state.calls.iter().filter(|call| call.starts_with(start)).count())
}

#[tokio::test]
async fn one_session_serves_many_calls_and_is_renewed() {
    let bmc = FakeBmc::start();
    let client = connect(access(&bmc)).await;
    for _ in 0..3 {
        let system = client.read_system().await.expect("a system");
        assert_eq!((system.path.as_str(), system.power), (SYSTEM, Some(SystemPower::Off)));
    }
    assert_eq!(count(&bmc, "POST /redfish/v1/SessionService/Sessions"), 1);
    assert_eq!(count(&bmc, "GET /redfish/v1/Systems"), 4, "the list once, the system three times");
    // The BMC restarts and forgets its sessions.
    bmc.script(|state| state.sessions.clear());
    client.read_system().await.expect("a renewed session");
    assert_eq!(count(&bmc, "POST /redfish/v1/SessionService/Sessions"), 2);
    client.log_out().await;
    assert!(bmc.script(|state| state.sessions.is_empty()));
}

#[tokio::test]
async fn the_kind_of_login_is_configurable() {
    let bmc = FakeBmc::start();
    bmc.script(|state| state.has_sessions = false);
    connect(access(&bmc)).await.read_system().await.expect("auto falls back to basic");
    let sessions = connect(BmcAccess { auth: AuthType::Session, ..access(&bmc) }).await;
    let error = sessions.read_system().await.expect_err("has no sessions").to_string();
    assert_eq!(
        error,
        format!(
            "BMC {} refused the login of user root: 404: This is Base.1.8.ResourceMissingAtURI.",
            bmc.url()
        )
    );
    let before = count(&bmc, "POST");
    connect(BmcAccess { auth: AuthType::Basic, ..access(&bmc) }).await.read_system().await.expect("a system");
    assert_eq!(count(&bmc, "POST"), before, "no session is tried");
    // All sessions of the BMC are taken.
    bmc.script(|state| state.has_sessions = true);
    bmc.fail(BmcCall::Login, 1, BmcTrouble::Status(503, "IDRAC.2.1.RAC0218"));
    connect(access(&bmc)).await.read_system().await.expect("basic authentication");
}

#[tokio::test]
async fn transient_failures_are_repeated() {
    let bmc = FakeBmc::start();
    let client = connect(access(&bmc)).await;
    bmc.fail(BmcCall::Read, 2, BmcTrouble::Status(503, "Base.1.8.ServiceTemporarilyUnavailable"));
    let system = client.read_system_for_reset().await.expect("a third attempt");
    bmc.take_commands();
    // 409 and 503 shortly after a power off.
    for (status, id) in [(409, "Base.1.8.ActionParameterValueConflict"), (503, "SYS518")] {
        bmc.script(|state| state.is_on = false);
        bmc.fail(BmcCall::Reset, 3, BmcTrouble::Status(status, id));
        client.reset(&system, PowerCommand::On).await.expect("a fourth attempt");
        assert_eq!(bmc.take_commands().len(), 4, "{status}");
        assert!(bmc.is_on());
    }
    // A refusal in the requested state is a success.
    bmc.fail(BmcCall::Reset, 1, BmcTrouble::Status(400, "Base.1.8.ResourceInStandby"));
    client.reset(&system, PowerCommand::On).await.expect("is on already");
}

#[tokio::test]
async fn the_power_button_stands_in_for_a_missing_reset_type() {
    let bmc = FakeBmc::start();
    bmc.script(|state| state.resets = vec!["ForceOff", "PushPowerButton"]);
    let client = connect(access(&bmc)).await;
    let off = client.read_system_for_reset().await.expect("a system");
    client.reset(&off, PowerCommand::On).await.expect("pushes the button");
    let on = client.read_system_for_reset().await.expect("a system");
    assert_eq!(on.power, Some(SystemPower::On));
    client.reset(&on, PowerCommand::Shutdown).await.expect("pushes the button");
    let command = format!("POST {SYSTEM}/Actions/ComputerSystem.Reset PushPowerButton");
    assert_eq!(bmc.take_commands(), [command.clone(), command]);
    let error = client.reset(&on, PowerCommand::Restart).await.expect_err("is not offered").to_string();
    let expected =
        format!("BMC {} cannot restart the system: it offers ForceOff, PushPowerButton", bmc.url());
    assert_eq!(error, expected);
}

#[tokio::test]
async fn a_boot_override_is_confirmed_and_requested_again() {
    let bmc = FakeBmc::start();
    let client = connect(access(&bmc)).await;
    let system = client.read_system().await.expect("a system");
    bmc.script(|state| (state.forgets, state.requires_etag) = (1, true));
    let boot = client.set_boot_override(&system, PXE).await.expect("is set by the second request");
    assert_eq!(boot.to_string(), "Pxe Continuous UEFI");
    let patch = format!("PATCH {SYSTEM} Pxe Continuous UEFI");
    assert_eq!(bmc.take_commands(), [patch.clone(), patch]);
    // An entity tag that is out of date: the last attempt is without one.
    bmc.script(|state| state.requires_etag = false);
    client
        .set_boot_override(&system, OverrideRequest { source: BootSource::Hdd, ..PXE })
        .await
        .expect("is set");
    assert_eq!(bmc.boot("BootSourceOverrideTarget"), "Hdd");
    // A BMC without overrides for all boots.
    bmc.script(|state| state.refuses_continuous = true);
    let boot = client.set_boot_override(&system, PXE).await.expect("is set for the next boot");
    assert_eq!(boot.persistent, Some(false));
}

#[tokio::test]
async fn a_system_is_found_if_there_is_one() {
    let bmc = FakeBmc::start();
    bmc.script(|state| state.system_count = 2);
    let error = connect(access(&bmc)).await.read_system().await.expect_err("is unclear").to_string();
    assert_eq!(
        error,
        format!(
            "BMC {} has 2 systems, so redfish_system_id has to name one: /redfish/v1/Systems/1, /redfish/v1/Systems/2",
            bmc.url()
        )
    );
    let named = BmcAccess { system: Some(SYSTEM.into()), ..access(&bmc) };
    connect(named).await.read_system().await.expect("the named system");
    bmc.script(|state| state.system_count = 0);
    let error = connect(access(&bmc)).await.read_system().await.expect_err("has none").to_string();
    assert_eq!(error, format!("BMC {} has no system", bmc.url()));
}
