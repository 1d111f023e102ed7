//! The TFTP listener: serves iPXE binaries and the first boot script, and records its transfers in log and timeline.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::error::{RunError, StartError};
use crate::config::{TftpConfig, TransferPorts};
use crate::images::{BootFile, Images};
use crate::model::{IpxeFeature, TransferOutcome, excerpt};
use crate::neighbours::Neighbours;
use crate::script::{self, Journey};
use crate::telemetry::{Event, EventKind, TftpTransfer};
use crate::tftp::{
    self, BindError, Counters, FileSource, Ports, ReadRequest, Server, ServerConfig, TransferEnd,
    TransferEvent, TransferLimits,
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
        server.map(Self).map_err(bind_error)
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

/// Records each transfer when it ends.
async fn record_transfers(mut transfers: mpsc::Receiver<TransferEvent>, timeline: Timeline) {
    let (neighbours, reloads) = (Neighbours::default(), timeline.reload_memory());
    while let Some(event) = transfers.recv().await {
        let duration_ms = event.duration.as_millis() as u64;
        let (client, size) = (event.client, event.size);
        let name = excerpt(&event.name);
        let (outcome, retransmissions) = (TransferOutcome::from(&event.outcome), event.retransmissions);
        let (block_size, window_size, blocks) =
            (event.options.block_size, event.options.window_size, event.blocks);
        tracing::info!(
            %client, name, outcome = outcome.as_str(), size, block_size, window_size, blocks, retransmissions,
            duration_ms,
            "TFTP transfer ended"
        );
        let client_message = match event.outcome {
            TransferEnd::Aborted { message, .. } => Some(message),
            TransferEnd::Complete
            | TransferEnd::Unconfirmed
            | TransferEnd::Probe
            | TransferEnd::Replaced
            | TransferEnd::TimedOut
            | TransferEnd::Stopped
            | TransferEnd::NotFound
            | TransferEnd::Busy
            | TransferEnd::Refused => None,
        };
        let file = canonicalize_file(&event.name);
        let is_refused = reloads.is_refused(client, &file);
        let lacking = IpxeFeature::lacking(&file).filter(|_| outcome.is_whole_file());
        if let Some(lacking) = lacking {
            log_incomplete_ipxe(client, &file, lacking, is_refused);
        }
        let refusal = lacking.filter(|_| is_refused).map(|lacking| describe_refusal(&file, lacking));
        let transfer = TftpTransfer {
            file,
            outcome,
            size,
            block_size,
            window_size,
            blocks,
            retransmissions,
            duration_ms,
            client_message,
            refusal,
        };
        let mac = match event.local_ip {
            Some(local_ip) => neighbours.check(client, local_ip).await.mac(),
            None => None,
        };
        timeline.record(Event::new(
            Timestamp::now(),
            mac,
            Some(client.ip()),
            EventKind::TftpTransfer(transfer),
        ));
    }
}

/// The canonical form of a name as text, which the memory of loads and the timeline compare. In such text, a byte that
/// is no UTF-8 has become U+FFFD; firmware sends 0xFF after the name.
fn canonicalize_file(name: &str) -> String {
    let bytes = name.replace('\u{fffd}', "\0");
    let canonical = tftp::canonicalize_name(bytes.as_bytes());
    excerpt(&canonical.map_or_else(|| name.into(), |name| String::from_utf8_lossy(&name).into_owned()))
}

/// The reason for a machine that lacks the feature again after it has read this file.
fn describe_refusal(file: &str, lacking: IpxeFeature) -> String {
    let image = file.rsplit('/').next().unwrap_or(file);
    lacking.describe_lack(image)
}

fn log_incomplete_ipxe(client: SocketAddr, file: &str, lacking: IpxeFeature, is_refused: bool) {
    if is_refused {
        let reason = describe_refusal(file, lacking);
        tracing::warn!(%client, name = file, reason, "boot ended: iPXE lacks {lacking}");
    } else {
        tracing::info!(%client, name = file, "iPXE lacks {lacking}: sent a complete one");
    }
}

impl From<&TransferEnd> for TransferOutcome {
    fn from(end: &TransferEnd) -> Self {
        match end {
            TransferEnd::Complete => Self::Complete,
            TransferEnd::Unconfirmed => Self::Unconfirmed,
            TransferEnd::Probe => Self::Probe,
            TransferEnd::Aborted { .. } => Self::Aborted,
            TransferEnd::Replaced => Self::Replaced,
            TransferEnd::TimedOut => Self::TimedOut,
            TransferEnd::Stopped => Self::Stopped,
            TransferEnd::NotFound => Self::NotFound,
            TransferEnd::Busy => Self::Busy,
            TransferEnd::Refused => Self::Refused,
        }
    }
}

/// File source of the TFTP server.
pub(super) struct MachineFiles {
    images: Images,
    /// Base URL from the configuration.
    url: Option<String>,
    /// Bound address of the boot listener.
    boot_listener: SocketAddr,
    /// Knows what a machine has read before.
    reloads: Arc<ReloadMemory>,
}

impl MachineFiles {
    /// `boot_listener` is the bound address of the boot listener.
    pub(super) fn new(
        images: Images,
        url: Option<String>,
        boot_listener: SocketAddr,
        timeline: &Timeline,
    ) -> Self {
        Self { images, url, boot_listener, reloads: timeline.reload_memory() }
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
        match BootFile::from_path(request.name)? {
            BootFile::BootScript | BootFile::Autoexec => {
                let script = script::build_gather(&self.base_url(request.local_ip)?, Journey::new()).ok()?;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn files(url: Option<&str>, boot_listener: &str) -> MachineFiles {
        let timeline = Timeline::open_blocking(None, Metrics::new());
        let boot_listener = boot_listener.parse().expect("an address");
        MachineFiles::new(Images::default(), url.map(str::to_owned), boot_listener, &timeline)
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
    fn names_are_compared_in_canonical_form() {
        let file = "without-http/undionly.kpxe";
        for raw in [
            &b"\\without-http\\undionly.kpxe"[..],
            b"/without-http//undionly.kpxe",
            b"without-http/./undionly.kpxe\xff\x03\x06",
            b"without-http/undionly.kpxe\x80\x99",
        ] {
            let recorded = canonicalize_file(&String::from_utf8_lossy(raw));
            let requested = tftp::canonicalize_name(raw).expect("a name");
            assert_eq!(recorded, file);
            assert_eq!(canonicalize_file(&String::from_utf8_lossy(&requested)), file);
        }
        assert_eq!(canonicalize_file("../x"), "../x");
    }

    #[test]
    fn other_names_are_not_found() {
        let files = files(None, "0.0.0.0:8080");
        for name in ["etc/passwd", "boot.ipxe/x", "undionly.kpxe", "without-http/undionly.kpxe", ""] {
            assert_eq!(read(&files, name), None, "{name}");
        }
    }
}
