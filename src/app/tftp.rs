//! The TFTP listener: serves iPXE binaries and the first boot script.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::boot_url::BootUrl;
use super::error::{RunError, StartError};
use super::transfers::{canonicalize_file, describe_refusal, record_transfers};
use crate::config::{TftpConfig, TransferPorts};
use crate::images::{BootFile, Images};
use crate::model::IpxeFeature;
use crate::script::{self, Journey};
use crate::tftp::{
    BindError, Counters, FileSource, Ports, ReadRequest, Server, ServerConfig, TransferLimits,
};
use crate::timeline::{ReloadMemory, Timeline};

/// Length of the queue of transfer events.
const EVENT_QUEUE: usize = 1024;
/// The time-out for recording the events of the last transfers.
const EVENT_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The bound TFTP server.
pub(super) struct TftpListener(Server);

impl TftpListener {
    /// Name of the listener, and of its passed sockets.
    pub(super) const NAME: &str = "tftp";

    /// Adopts the `passed` sockets; without any, binds the configured addresses.
    pub(super) fn open(config: &TftpConfig, passed: Vec<UdpSocket>) -> Result<Self, StartError> {
        let config = server_config(config);
        let server = if passed.is_empty() { Server::bind(&config) } else { Server::adopt(passed, &config) };
        let bind_error =
            |BindError { address, source }| StartError::Bind { listener: Self::NAME, address, source };
        Ok(Self(server.map_err(bind_error)?))
    }

    /// The bound addresses.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.local_addrs()
    }

    /// Counters of dropped events and requests.
    pub(super) fn counters(&self) -> Arc<Counters> {
        self.0.counters()
    }

    /// Serves `files` until `stop`, then drains running transfers for at most `grace` and records their events.
    pub(super) async fn serve(
        self,
        files: impl FileSource,
        timeline: Timeline,
        stop: CancellationToken,
        grace: Duration,
    ) -> Result<(), RunError> {
        let (events, transfers) = mpsc::channel(EVENT_QUEUE);
        let recorder = tokio::spawn(record_transfers(transfers, timeline));
        let result = self.0.serve(Arc::new(files), events, stop, grace).await;
        if timeout(EVENT_DRAIN_TIMEOUT, recorder).await.is_err() {
            tracing::warn!("TFTP transfers missing from the timeline: recording timed out");
        }
        result.map_err(RunError::Tftp)
    }
}

/// Converts `[tftp]` into the configuration of the TFTP server.
fn server_config(config: &TftpConfig) -> ServerConfig {
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
    ServerConfig { ports, limits, ..ServerConfig::new(config.listen.iter().copied()) }
}

/// File source of the TFTP server.
pub(super) struct MachineFiles {
    images: Images,
    boot_url: BootUrl,
    /// The networks whose clients may read files.
    allow: Vec<IpNet>,
    /// Knows what a machine has read before.
    reloads: Arc<ReloadMemory>,
}

impl MachineFiles {
    /// `boot_listener` is the bound address of the boot listener.
    pub(super) fn new(
        images: Images,
        url: Option<String>,
        boot_listener: SocketAddr,
        allow: Vec<IpNet>,
        timeline: &Timeline,
    ) -> Self {
        let boot_url = BootUrl::new(url, boot_listener);
        Self { images, boot_url, allow, reloads: timeline.reload_memory() }
    }

    /// A binary for an iPXE that lacks a feature. The machine reads it once. If its request is the same after that, the
    /// binary lacks the feature as well, and would be loaded for ever: it gets a script that ends the boot, as every
    /// iPXE recognizes a script by its content.
    ///
    /// This logs nothing: the request may be one of many, and is not admitted yet. Its end is logged.
    fn read_complete_ipxe(
        &self,
        file: &str,
        image: &str,
        lacking: IpxeFeature,
        client: SocketAddr,
    ) -> Option<Bytes> {
        let content = self.images.get(image)?;
        if !self.reloads.refuse(client, file, Timestamp::now()) {
            return Some(content);
        }
        Some(script::build_refusal(&describe_refusal(file, lacking)).ok()?.into_text().into())
    }
}

impl FileSource for MachineFiles {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        match BootFile::from_path(request.name)? {
            BootFile::BootScript | BootFile::Autoexec => {
                let script =
                    script::build_gather(&self.boot_url.build(request.local_ip)?, Journey::new()).ok()?;
                Some(script.into_text().into())
            }
            BootFile::Image(image) => {
                let file = canonicalize_file(&String::from_utf8_lossy(request.name));
                match IpxeFeature::lacking(&file) {
                    Some(lacking) => self.read_complete_ipxe(&file, image, lacking, request.client),
                    None => self.images.get(image),
                }
            }
        }
    }

    fn allows(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.allow.iter().any(|network| network.contains(&client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn files(url: Option<&str>, boot_listener: &str) -> MachineFiles {
        let timeline = Timeline::open_blocking(None, Metrics::new());
        let boot_listener = boot_listener.parse().expect("an address");
        let allow = vec!["192.0.2.0/24".parse().expect("a network")];
        MachineFiles::new(Images::default(), url.map(str::to_owned), boot_listener, allow, &timeline)
    }

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
        let unspecified = files(None, "0.0.0.0:8080");
        for name in ["boot.ipxe", "autoexec.ipxe", "x86_64/AUTOEXEC.IPXE", "a/b/boot.ipxe", "boot.ipxe.0"] {
            let script = read(&unspecified, name).expect("a script");
            assert!(script.contains(" http://192.0.2.1:8080/boot/${netX/mac:hexhyp}?"), "{script}");
        }
        let bound = files(None, "[2001:db8::1]:80");
        assert!(read(&bound, "boot.ipxe").expect("a script").contains(" http://[2001:db8::1]:80/boot/"));
        let configured = files(Some("https://boot.example.org/pxe"), "0.0.0.0:8080");
        assert!(
            read(&configured, "boot.ipxe").expect("a script").contains(" https://boot.example.org/pxe/boot/")
        );
    }

    #[test]
    fn folders_and_a_boot_layer_do_not_hide_a_binary() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("undionly.kpxe"), "iPXE").expect("writes");
        let images = Images::find_blocking(&[directory.path().into()]);
        let files = MachineFiles { images, ..files(None, "0.0.0.0:8080") };
        for name in ["undionly.kpxe", "tftpboot/undionly.kpxe", "ipxe/UNDIONLY.KPXE", "pxe/undionly.kpxe.0"] {
            assert_eq!(read(&files, name).as_deref(), Some("iPXE"), "{name}");
        }
        assert_eq!(read(&files, "snponly.efi"), None, "the host lacks it");
    }

    #[test]
    fn networks_limit_the_clients() {
        let files = files(None, "0.0.0.0:8080");
        let allows = |client: &str| files.allows(client.parse().expect("an address"));
        assert!(allows("192.0.2.7") && allows("::ffff:192.0.2.7"));
        assert!(!allows("198.51.100.7") && !allows("2001:db8::7"));
    }

    #[test]
    fn other_names_are_not_found() {
        let files = files(None, "0.0.0.0:8080");
        for name in ["etc/passwd", "boot.ipxe/x", "undionly.kpxe", "without-http/undionly.kpxe", ""] {
            assert_eq!(read(&files, name), None, "{name}");
        }
    }
}
