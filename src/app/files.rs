//! What firmware and iPXE can read over TFTP: the binaries, and the script that leads to the machines' door.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::config::{TftpConfig, TransferPorts};
use crate::images::Images;
use crate::script::{self, Journey};
use crate::tftp::{self, Files, Limits, Ports, ReadRequest};

/// The names of the generated script: what DHCP may name, and what newer iPXE asks for by itself in the directory
/// it came from and in those above.
const SCRIPTS: [&str; 2] = ["boot.ipxe", "autoexec.ipxe"];

/// The TFTP door as the operator wants it.
pub(super) fn door(config: &TftpConfig) -> tftp::Config {
    let ports = match &config.ports {
        TransferPorts::Ephemeral => Ports::Ephemeral,
        TransferPorts::Single => Ports::Single,
        TransferPorts::Range(range) => Ports::Range(range.clone()),
    };
    let limits = Limits {
        block_size: config.block_size as u16,
        window: config.window as u16,
        transfers: config.transfers as usize,
        transfers_per_client: config.transfers_per_client as usize,
        ..Limits::default()
    };
    tftp::Config { ports, limits, ..tftp::Config::new(config.listen.iter().copied()) }
}

/// The files behind the TFTP door.
pub(super) struct MachineFiles {
    images: Images,
    /// What machines are told, if the operator said it.
    url: Option<String>,
    http: SocketAddr,
}

impl MachineFiles {
    /// `http`: where the machines' door is bound.
    pub(super) fn new(images: Images, url: Option<String>, http: SocketAddr) -> Self {
        Self { images, url, http }
    }

    /// Where the machines' door is, for a machine that reached us at `local`.
    fn base(&self, local: Option<IpAddr>) -> Option<String> {
        if let Some(url) = &self.url {
            return Some(format!("{url}/"));
        }
        let bound = Some(self.http.ip()).filter(|ip| !ip.is_unspecified());
        Some(format!("http://{}/", SocketAddr::new(bound.or(local)?, self.http.port())))
    }
}

impl Files for MachineFiles {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        let name = str::from_utf8(request.name).ok()?;
        let last = name.rsplit('/').next()?;
        if SCRIPTS.iter().any(|script| last.eq_ignore_ascii_case(script)) {
            let script = script::gather(&self.base(request.local)?, Journey::new()).ok()?;
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
            local: "192.0.2.1".parse().ok(),
        };
        files.read(request).map(|content| String::from_utf8(content.to_vec()).expect("text"))
    }

    #[test]
    fn the_script_names_the_address_at_which_the_machine_reached_us() {
        let any = MachineFiles::new(Images::default(), None, "0.0.0.0:8080".parse().expect("an address"));
        for name in ["boot.ipxe", "autoexec.ipxe", "x86_64/AUTOEXEC.IPXE", "a/b/boot.ipxe"] {
            let script = read(&any, name).expect("is served");
            assert!(script.contains(" http://192.0.2.1:8080/boot/${netX/mac:hexhyp}?"), "{script}");
        }
        let one = MachineFiles::new(Images::default(), None, "[2001:db8::1]:80".parse().expect("an address"));
        assert!(read(&one, "boot.ipxe").expect("is served").contains(" http://[2001:db8::1]:80/boot/"));
        let url = Some("https://boot.example.org/pxe".to_owned());
        let told = MachineFiles::new(Images::default(), url, "0.0.0.0:8080".parse().expect("an address"));
        assert!(read(&told, "boot.ipxe").expect("is served").contains(" https://boot.example.org/pxe/boot/"));
    }

    #[test]
    fn nothing_else_is_served() {
        let files = MachineFiles::new(Images::default(), None, "0.0.0.0:8080".parse().expect("an address"));
        for name in ["etc/passwd", "boot.ipxe/x", "undionly.kpxe", ""] {
            assert_eq!(read(&files, name), None, "{name}");
        }
    }
}
