//! Golden cases: systems of several vendors, written down from public material. Each has only the properties that volboot
//! reads.

use serde_json::{Value, json};

use super::system::parse_action_info;
use super::{BootMode, BootSource, ComputerSystem, PowerCommand, SystemPower};

fn parse(value: &Value) -> ComputerSystem {
    ComputerSystem::parse("/redfish/v1/Systems/1".into(), value, None).expect("a system")
}

/// The reset types for on, off, shutdown and restart.
fn select_resets(system: &ComputerSystem) -> [Option<&'static str>; 4] {
    let allowed = system.reset.as_ref().expect("a reset action").allowed.as_deref();
    let commands = [PowerCommand::On, PowerCommand::ForceOff, PowerCommand::Shutdown, PowerCommand::Restart];
    commands.map(|command| {
        let power = if command == PowerCommand::On { SystemPower::Off } else { SystemPower::On };
        command.select(Some(power), allowed).map(|(name, _)| name)
    })
}

/// DMTF's mockup `public-rackmount1` (<https://github.com/DMTF/Redfish-Mockup-Server>).
#[test]
fn dmtf_mockup() {
    let system = parse(&json!({
        "@odata.type": "#ComputerSystem.v1_22_0.ComputerSystem", "Manufacturer": "Contoso", "Model": "3500",
        "PowerState": "On",
        "Boot": {
            "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": "UEFI",
            "BootSourceOverrideTarget@Redfish.AllowableValues": [
                "None", "Pxe", "Cd", "Usb", "Hdd", "BiosSetup", "Utilities", "Diags", "SDCard", "UefiTarget",
            ],
            "UefiTargetBootSourceOverride": "/0x31/0x33/0x01/0x01",
        },
        "Actions": {"#ComputerSystem.Reset": {
            "target": "/redfish/v1/Systems/437XR1138R2/Actions/ComputerSystem.Reset",
            "ResetType@Redfish.AllowableValues": [
                "On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "Nmi", "ForceOn",
                "PushPowerButton",
            ],
        }},
    }));
    assert_eq!(system.power, Some(SystemPower::On));
    assert_eq!(system.model.as_deref(), Some("Contoso 3500"));
    assert_eq!(system.boot.to_string(), "Pxe Once UEFI");
    assert!(system.boot.offers(BootSource::Pxe) && !system.boot.offers(BootSource::UefiHttp));
    assert_eq!(
        select_resets(&system),
        [Some("On"), Some("ForceOff"), Some("GracefulShutdown"), Some("GracefulRestart")]
    );
}

/// Modelled on Dell PowerEdge with iDRAC 9 after bug reports (badfish issue 10), not a capture: no graceful restart.
#[test]
fn dell_idrac() {
    let system = parse(&json!({
        "Manufacturer": "Dell Inc.", "Model": "PowerEdge R640", "PowerState": "Off",
        "Boot": {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None",
                 "BootSourceOverrideMode": "UEFI"},
        "Actions": {"#ComputerSystem.Reset": {
            "target": "/redfish/v1/Systems/System.Embedded.1/Actions/ComputerSystem.Reset",
            "ResetType@Redfish.AllowableValues":
                ["On", "ForceOff", "ForceRestart", "GracefulShutdown", "PushPowerButton", "Nmi"],
        }},
    }));
    assert_eq!(select_resets(&system), [Some("On"), Some("ForceOff"), Some("GracefulShutdown"), None]);
    assert_eq!((system.power, system.boot.mode), (Some(SystemPower::Off), Some(BootMode::Uefi)));
    assert!(system.boot.offers(BootSource::UefiHttp), "without a list, a request tells");
}

/// Modelled on HPE ProLiant Gen10 with iLO 5 after documents, not a capture: no graceful reset, a weak entity tag.
#[test]
fn hpe_ilo5() {
    let system = parse(&json!({
        "@odata.etag": "W/\"0E79655D\"", "PowerState": "On",
        "Boot": {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None",
                 "BootSourceOverrideMode": "UEFI"},
        "Actions": {"#ComputerSystem.Reset": {
            "target": "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset/",
            "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "ForceRestart", "Nmi", "PushPowerButton"],
        }},
    }));
    assert_eq!(select_resets(&system), [Some("On"), Some("ForceOff"), Some("PushPowerButton"), None]);
}

/// Supermicro AS-1015CS-TNR-EU (<https://github.com/bmc-toolbox/bmclib>, fixtures): the override after an accepted request for
/// `Pxe`, `Once`, `UEFI`.
#[test]
fn supermicro() {
    let system = parse(&json!({
        "Manufacturer": "Supermicro", "Model": "AS -1015CS-TNR-EU", "PowerState": "On",
        "Boot": {
            "BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideMode": "Legacy",
            "BootSourceOverrideTarget": "Pxe",
            "BootSourceOverrideTarget@Redfish.AllowableValues": [
                "None", "Pxe", "Floppy", "Cd", "Usb", "Hdd", "BiosSetup", "Floppy", "UsbCd", "Diags", "UefiBootNext",
            ],
            "BootNext": null,
        },
        "Actions": {"Oem": {}, "#ComputerSystem.Reset": {
            "target": "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
            "@Redfish.ActionInfo": "/redfish/v1/Systems/1/ResetActionInfo",
            "ResetType@Redfish.AllowableValues": [
                "On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "Nmi", "ForceOn", "PowerCycle",
            ],
        }},
        "@odata.etag": "\"f38af8c401c8b53eba3df547b6bfac59\"",
    }));
    assert_eq!(system.boot.to_string(), "Pxe Disabled Legacy");
    assert_eq!(system.model.as_deref(), Some("Supermicro AS -1015CS-TNR-EU"));
}

/// Cisco UCS C220 M4 with CIMC 3.0, after a capture that a user published: the action of a draft of Redfish 1.0, and no mode.
#[test]
fn cisco_cimc() {
    let system = parse(&json!({
        "@odata.type": "#Cisco_ComputerSystem", "PowerState": "On",
        "Boot": {
            "BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled": "Disabled",
            "BootSourceOverrideTarget@Redfish.AllowableValues":
                ["None", "Pxe", "Floppy", "Cd", "Hdd", "BiosSetup", "Diags"],
            "BootSourceOverrideEnabled@Redfish.AllowableValues": ["Once", "Continuous", "Disabled"],
        },
        "Actions": {"#System.Reset": {
            "Target": "/redfish/v1/Systems/FCH2131V13Z/Actions/System.Reset",
            "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "GracefulShutdown", "ForceRestart", "Nmi"],
        }},
    }));
    assert_eq!(select_resets(&system), [Some("On"), Some("ForceOff"), Some("GracefulShutdown"), None]);
    assert_eq!((system.boot.mode, system.boot.persistent), (None, None));
    assert_eq!(
        system.reset.expect("an action").target,
        "/redfish/v1/Systems/FCH2131V13Z/Actions/System.Reset"
    );
}

/// OpenBMC (<https://github.com/openbmc/bmcweb/pull/266>, <https://github.com/ibm-openbmc/bmcweb/pull/522>): the reset
/// types are in a resource of their own.
#[test]
fn openbmc() {
    let system = parse(&json!({
        "@odata.type": "#ComputerSystem.v1_16_0.ComputerSystem", "PowerState": "Off",
        "Boot": {
            "BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideMode": "UEFI",
            "BootSourceOverrideMode@Redfish.AllowableValues": ["Legacy", "UEFI"], "BootSourceOverrideTarget": "None",
            "BootSourceOverrideTarget@Redfish.AllowableValues":
                ["None", "Pxe", "Hdd", "Cd", "Diags", "BiosSetup", "Usb"],
        },
        "Actions": {"#ComputerSystem.Reset": {
            "@Redfish.ActionInfo": "/redfish/v1/Systems/system0/ResetActionInfo",
            "target": "/redfish/v1/Systems/system0/Actions/ComputerSystem.Reset",
        }},
    }));
    let action = system.reset.expect("an action");
    assert_eq!(
        (action.allowed, action.info.as_deref()),
        (None, Some("/redfish/v1/Systems/system0/ResetActionInfo"))
    );
    let allowed = parse_action_info(&json!({"Parameters": [{
        "Name": "ResetType", "DataType": "String", "Required": true,
        "AllowableValues": ["On", "ForceOff", "ForceOn", "GracefulRestart", "GracefulShutdown", "PowerCycle", "Nmi"],
    }]}));
    let restart = PowerCommand::Restart.select(Some(SystemPower::On), allowed.as_deref());
    assert_eq!(restart, Some(("GracefulRestart", None)));
}

#[test]
fn states_between_on_and_off_count_as_their_end() {
    for (name, power) in [
        ("On", Some(SystemPower::On)),
        ("PoweringOn", Some(SystemPower::On)),
        ("Paused", Some(SystemPower::On)),
        ("PoweringOff", Some(SystemPower::Off)),
        ("Unknown", None),
    ] {
        assert_eq!(parse(&json!({"PowerState": name, "Boot": {}})).power, power, "{name}");
    }
    assert_eq!(parse(&json!({"PowerState": null, "Boot": {}})).power, None);
    for other in [json!({}), json!({"Members": []}), json!({"PowerState": null})] {
        assert_eq!(ComputerSystem::parse("/".into(), &other, None), None, "{other}");
    }
}
