//! [`Bmc`]: sushy-tools, an emulator of BMCs, in front of the lab's libvirt.
//!
//! Traps:
//! * The Python environment of the clients has no binding for libvirt: the one on PyPI is built from source, and needs
//!   libvirt's headers. Debian's binding is for the same Python, so the emulator gets its two files, and no other package of
//!   the distribution.
//! * libvirt's overrides are always for all boots (`Continuous`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Lab;
use super::hypervisor::{Domain, Hypervisor};
use super::process::Process;

const START_LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 8000;
const PACKAGES: &str = "/usr/lib/python3/dist-packages";

/// A running emulator, on loopback; it ends with its value.
pub(crate) struct Bmc {
    _process: Process,
}

/// The Python environment with OpenStack's programs, from `tests/clients/install`.
pub(crate) fn client_program(name: &str) -> Result<Command> {
    let environment =
        Path::new(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target/tmp")).with_file_name("clients");
    let program = environment.join("bin").join(name);
    ensure!(program.exists(), "no {}: run `make clients`", program.display());
    Ok(Command::new(program))
}

impl Bmc {
    /// Starts the emulator in front of a hypervisor.
    pub(crate) fn start(lab: &Lab, hypervisor: &Hypervisor) -> Result<Self> {
        let binding = link_binding(lab)?;
        let (config, passwords) = (lab.path().join("emulator.conf"), lab.path().join("emulator.passwords"));
        fs::write(&passwords, format!("admin:{}\n", bcrypt::hash("secret", 4)?))?;
        let settings = format!(
            "SUSHY_EMULATOR_LIBVIRT_URI = '{}'\nSUSHY_EMULATOR_STATE_DIR = '{}'\nSUSHY_EMULATOR_AUTH_FILE = '{}'\n",
            hypervisor.uri(),
            lab.path().display(),
            passwords.display(),
        );
        fs::write(&config, settings)?;
        let mut command = client_program("sushy-emulator")?;
        command.args(["--interface", "127.0.0.1", "--port", &PORT.to_string(), "--config"]).arg(&config);
        command.env("PYTHONPATH", binding);
        let mut process = Process::start("sushy-emulator", &mut command, None)?;
        process.wait_for(&["Running on "], START_LIMIT)?;
        Ok(Self { _process: process })
    }

    /// The `driver_info` of a node whose machine is this domain.
    pub(crate) fn driver_info(domain: &Domain) -> Value {
        json!({
            "redfish_address": format!("http://127.0.0.1:{PORT}"),
            "redfish_system_id": format!("/redfish/v1/Systems/{}", domain.uuid),
            "redfish_username": "admin", "redfish_password": "secret",
        })
    }
}

/// Creates a folder with Debian's Python binding for libvirt, and nothing else.
fn link_binding(lab: &Lab) -> Result<PathBuf> {
    let folder = lab.path().join("binding");
    fs::create_dir(&folder)?;
    let mut count = 0;
    for entry in fs::read_dir(PACKAGES)? {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?;
        if name == "libvirt.py" || name.as_encoded_bytes().starts_with(b"libvirtmod.") {
            symlink(&path, folder.join(name))?;
            count += 1;
        }
    }
    ensure!(count == 2, "no binding for libvirt in {PACKAGES} (package python3-libvirt)");
    Ok(folder)
}
