//! [`Daemon`]: the real volboot binary with a configuration for the lab.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::unistd::Pid;

use super::Lab;
use super::ca::Certificate;
use super::network::{SERVER, bridge};
use super::process::{LineHandler, Process};

/// The API's address, reachable inside the lab only.
pub(crate) const API: &str = "127.0.0.1:6385";

const START_LIMIT: Duration = Duration::from_secs(60);
/// The time-out for an exit that the test causes from outside.
const END_LIMIT: Duration = Duration::from_secs(60);
/// The shutdown's own limits: 10 s for the listeners, 10 s for calls to Cinder, 5 s for the history.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// A running `volboot serve`.
pub(crate) struct Daemon {
    process: Process,
}

/// The path of the store, which survives the process.
pub(crate) fn store_path(lab: &Lab) -> PathBuf {
    lab.path().join("volboot.redb")
}

/// The section of a ProxyDHCP server on the lab's bridge.
pub(crate) fn proxy_section() -> String {
    format!("[dhcp]\nmode = \"proxy\"\ninterfaces = [\"{}\"]\n", bridge())
}

fn images_key(images: &Path) -> String {
    format!("images = [\"{}\"]", images.display())
}

/// The addresses of the TFTP server and the boot listener in the lab's network.
fn lab_addresses() -> [String; 2] {
    [format!("\"{SERVER}:69\""), format!("\"{SERVER}:8080\"")]
}

fn local_api() -> String {
    format!("listen = \"{API}\"")
}

impl Daemon {
    /// Starts the binary with additional `sections` in its configuration, and waits until it is ready.
    pub(crate) fn start(
        lab: &Lab,
        binary: &Path,
        sections: &str,
        line_handler: Option<LineHandler>,
    ) -> Result<Self> {
        Self::start_with(lab, binary, sections, ["", ""], line_handler)
    }

    /// Starts the binary with the iPXE binaries in `images` instead of the distribution's.
    pub(crate) fn start_with_images(lab: &Lab, binary: &Path, images: &Path) -> Result<Self> {
        Self::start_with(lab, binary, "", [&images_key(images), ""], None)
    }

    /// Starts the binary on all addresses of both IP versions, with `http` as additional keys of the boot listener.
    pub(crate) fn start_on_all_addresses(
        lab: &Lab,
        binary: &Path,
        images: Option<&Path>,
        http: &str,
    ) -> Result<Self> {
        let tftp = images.map(images_key).unwrap_or_default();
        let listen = [r#"["0.0.0.0:69", "[::]:69"]"#, r#""[::]:8080""#].map(str::to_owned);
        Self::start_listening(lab, binary, "", listen, [&tftp, http, &local_api()], None)
    }

    /// Starts the binary with an API for all addresses, without authentication.
    pub(crate) fn start_with_open_api(lab: &Lab, binary: &Path, images: &Path) -> Result<Self> {
        let api = "listen = \"0.0.0.0:6385\"\nallow_unauthenticated = true";
        Self::start_listening(lab, binary, "", lab_addresses(), [&images_key(images), "", api], None)
    }

    /// Starts the binary with TLS on the boot listener, and `url` as its external URL.
    pub(crate) fn start_with_tls(
        lab: &Lab,
        binary: &Path,
        images: &Path,
        url: &str,
        Certificate { chain, key }: &Certificate,
    ) -> Result<Self> {
        let (chain, key) = (chain.display(), key.display());
        let http = format!("url = \"{url}\"\ncertificate = \"{chain}\"\nkey = \"{key}\"");
        Self::start_with(lab, binary, "", [&images_key(images), &http], None)
    }

    /// Starts the binary as a ProxyDHCP server on the lab's bridge, with further `keys` of `[dhcp]`.
    pub(crate) fn start_as_proxy(
        lab: &Lab,
        binary: &Path,
        images: Option<&Path>,
        keys: &str,
    ) -> Result<Self> {
        let dhcp = format!("{}{keys}", proxy_section());
        let images = images.map(images_key).unwrap_or_default();
        Self::start_with(lab, binary, &dhcp, [&images, ""], None)
    }

    /// Starts one of several instances on a store in etcd, which `sections` describe. The machines reach it at `address`,
    /// and operators at `api`.
    pub(crate) fn start_instance(
        lab: &Lab,
        binary: &Path,
        name: &str,
        (address, api): (Ipv4Addr, &str),
        sections: &str,
    ) -> Result<Self> {
        let config = lab.path().join(format!("{name}.toml"));
        let text = format!(
            "[store]\nkind = \"etcd\"\npath = \"{}\"\n[tftp]\nlisten = \"{address}:69\"\n\
             [http]\nlisten = \"{address}:8080\"\n[api]\nlisten = \"{api}\"\n{sections}\n",
            lab.path().join(format!("{name}.redb")).display()
        );
        Self::start_with_config(lab, binary, &config, &text, None)
    }

    fn start_with(
        lab: &Lab,
        binary: &Path,
        sections: &str,
        [tftp, http]: [&str; 2],
        line_handler: Option<LineHandler>,
    ) -> Result<Self> {
        let keys = [tftp, http, &local_api()];
        Self::start_listening(lab, binary, sections, lab_addresses(), keys, line_handler)
    }

    /// `listen` of the TFTP server and the boot listener; further keys of both, and all keys of the operator listener.
    fn start_listening(
        lab: &Lab,
        binary: &Path,
        sections: &str,
        [tftp_listen, http_listen]: [String; 2],
        [tftp, http, api]: [&str; 3],
        line_handler: Option<LineHandler>,
    ) -> Result<Self> {
        let config = lab.path().join("volboot.toml");
        let store = store_path(lab);
        let text = format!(
            "[store]\npath = \"{}\"\n\
             [tftp]\nlisten = {tftp_listen}\n{tftp}\n\
             [http]\nlisten = {http_listen}\n{http}\n\
             [api]\n{api}\n\
             {sections}\n",
            store.display()
        );
        Self::start_with_config(lab, binary, &config, &text, line_handler)
    }

    /// Writes the configuration, starts the binary with it, and waits until it is ready.
    fn start_with_config(
        lab: &Lab,
        binary: &Path,
        config: &Path,
        text: &str,
        line_handler: Option<LineHandler>,
    ) -> Result<Self> {
        fs::write(config, text)?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(config).env("RUST_BACKTRACE", "1");
        command.env("RUNTIME_DIRECTORY", lab.path());
        let mut process = Process::start("volboot", &mut command, line_handler)?;
        process.wait_for(&[r#""message":"ready""#], START_LIMIT)?;
        Ok(Self { process })
    }

    /// Waits for `pattern` in the log, after the previous match.
    pub(crate) fn wait_for_log(&mut self, pattern: &str, within: Duration) -> Result<Instant> {
        Ok(self.process.wait_for(&[pattern], within)?.at)
    }

    /// The time of the first log line with `pattern`.
    pub(crate) fn find_log_time(&self, pattern: &str) -> Option<Instant> {
        self.process.find_time(pattern)
    }

    /// The process id, for a kill from outside.
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Waits for the exit, whatever its cause.
    pub(crate) fn wait_for_exit(&mut self) -> Result<()> {
        self.process.wait_for_exit(END_LIMIT)
    }

    /// The last log lines.
    pub(crate) fn tail(&self) -> String {
        self.process.tail()
    }

    /// Suspends the process, or resumes it.
    pub(crate) fn set_suspended(&self, suspended: bool) -> Result<()> {
        self.process.set_suspended(suspended)
    }

    /// Shuts down by SIGTERM, and checks the exit status.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let status = self.process.stop(STOP_LIMIT)?;
        ensure!(status.success(), "volboot exited with {status} after SIGTERM");
        Ok(())
    }
}
