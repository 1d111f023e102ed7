//! Files that the TFTP server serves: iPXE binaries and the first boot script.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::config::{TftpConfig, TransferPorts};
use crate::images::Images;
use crate::script::{self, Journey};
use crate::tftp::{self, FileSource, Ports, ReadRequest, TransferLimits};

/// Names of the generated script. DHCP may name the first. Newer iPXE requests the second by itself, in the directory
/// of its own binary and in the parent directories.
const SCRIPT_NAMES: [&str; 2] = ["boot.ipxe", "autoexec.ipxe"];

/// Converts `[tftp]` into the configuration of the TFTP server.
pub(super) fn server_config(config: &TftpConfig) -> tftp::ServerConfig {
    let ports = match &config.ports {
        TransferPorts::Ephemeral => Ports::Ephemeral,
        TransferPorts::Single => Ports::Single,
        TransferPorts::Range(range) => Ports::Range(range.clone()),
    };
    let limits = TransferLimits {
        block_size: config.block_size as u16,
        window_size: config.window as u16,
        transfers: config.transfers as usize,
        transfers_per_client: config.transfers_per_client as usize,
        ..TransferLimits::default()
    };
    tftp::ServerConfig { ports, limits, ..tftp::ServerConfig::new(config.listen.iter().copied()) }
}

/// File source of the TFTP server.
pub(super) struct MachineFiles {
    images: Images,
    /// Base URL from the configuration.
    url: Option<String>,
    /// Bound address of the boot listener.
    boot_listener: SocketAddr,
}

impl MachineFiles {
    /// `boot_listener` is the bound address of the boot listener.
    pub(super) fn new(images: Images, url: Option<String>, boot_listener: SocketAddr) -> Self {
        Self { images, url, boot_listener }
    }

    /// Base URL of the boot listener, for a machine that used the server's address `local_ip`.
    fn base_url(&self, local_ip: Option<IpAddr>) -> Option<String> {
        if let Some(url) = &self.url {
            return Some(format!("{url}/"));
        }
        let bound_ip = Some(self.boot_listener.ip()).filter(|ip| !ip.is_unspecified());
        Some(format!("http://{}/", SocketAddr::new(bound_ip.or(local_ip)?, self.boot_listener.port())))
    }
}

impl FileSource for MachineFiles {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        let name = str::from_utf8(request.name).ok()?;
        let file_name = name.rsplit('/').next()?;
        if SCRIPT_NAMES.iter().any(|script| file_name.eq_ignore_ascii_case(script)) {
            let script = script::build_gather(&self.base_url(request.local_ip)?, Journey::new()).ok()?;
            return Some(script.into_text().into());
        }
        self.images.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &MachineFiles, name: &str) -> Option<String> {
        let request = ReadRequest {
            name: name.as_bytes(),
            client: "192.0.2.7:1024".parse().expect("an address"),
            local_ip: "192.0.2.1".parse().ok(),
        };
        files.read(request).map(|content| String::from_utf8(content.to_vec()).expect("text"))
    }

    #[test]
    fn the_script_contains_the_address_that_the_machine_used() {
        let unspecified =
            MachineFiles::new(Images::default(), None, "0.0.0.0:8080".parse().expect("an address"));
        for name in ["boot.ipxe", "autoexec.ipxe", "x86_64/AUTOEXEC.IPXE", "a/b/boot.ipxe"] {
            let script = read(&unspecified, name).expect("a script");
            assert!(script.contains(" http://192.0.2.1:8080/boot/${netX/mac:hexhyp}?"), "{script}");
        }
        let bound =
            MachineFiles::new(Images::default(), None, "[2001:db8::1]:80".parse().expect("an address"));
        assert!(read(&bound, "boot.ipxe").expect("a script").contains(" http://[2001:db8::1]:80/boot/"));
        let url = Some("https://boot.example.org/pxe".to_owned());
        let configured =
            MachineFiles::new(Images::default(), url, "0.0.0.0:8080".parse().expect("an address"));
        assert!(
            read(&configured, "boot.ipxe").expect("a script").contains(" https://boot.example.org/pxe/boot/")
        );
    }

    #[test]
    fn other_names_are_not_found() {
        let files = MachineFiles::new(Images::default(), None, "0.0.0.0:8080".parse().expect("an address"));
        for name in ["etc/passwd", "boot.ipxe/x", "undionly.kpxe", ""] {
            assert_eq!(read(&files, name), None, "{name}");
        }
    }
}
