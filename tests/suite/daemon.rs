//! [`Daemon`]: the real binary on ports of its own, for one test; killed on drop.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// The time-out of every step.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A running `volboot serve`.
pub(crate) struct Daemon {
    process: Child,
    log: Receiver<Value>,
    /// The TFTP server's address; the last one if there are several.
    pub(crate) tftp: SocketAddr,
    /// All addresses of the TFTP server.
    #[allow(dead_code, reason = "most tests have one")]
    pub(crate) tftp_addresses: Vec<SocketAddr>,
    /// The boot listener's address.
    pub(crate) http: SocketAddr,
    /// The operator listener's address.
    pub(crate) api: SocketAddr,
    /// The cluster listener's address, if it is configured.
    #[allow(dead_code, reason = "most tests have none")]
    pub(crate) cluster: Option<SocketAddr>,
    /// The time from start to ready.
    pub(crate) startup_time: Duration,
}

/// Creates a directory with a configuration that listens on loopback, on ports chosen by the kernel.
pub(crate) fn site(extra: &str) -> TempDir {
    let site = tempfile::tempdir().expect("a directory");
    let store = site.path().join("store.redb");
    let config = format!(
        "{extra}\n[store]\npath = \"{}\"\n[tftp]\nlisten = \"127.0.0.1:0\"\nimages = []\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[api]\nlisten = \"127.0.0.1:0\"\n",
        store.display()
    );
    std::fs::write(site.path().join("volboot.toml"), config).expect("the file is written");
    site
}

/// A `volboot` command with these arguments and a clean environment.
pub(crate) fn volboot(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volboot"));
    command.args(arguments).env_remove("VOLBOOT_CONFIG").env_remove("VOLBOOT_LOG").stdin(Stdio::null());
    // The developer's shell may have credentials of a cloud.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OS_")) {
        command.env_remove(name);
    }
    command
}

impl Daemon {
    /// Starts the binary and waits until it is ready.
    pub(crate) fn start(site: &Path) -> Self {
        Self::start_with(site, |_| {})
    }

    /// Starts the binary after changes to the command, such as environment variables.
    pub(crate) fn start_with(site: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let started_at = Instant::now();
        let config = site.join("volboot.toml");
        let mut command = volboot(&["serve", "--config", config.to_str().expect("text")]);
        command.env("RUNTIME_DIRECTORY", site);
        prepare(&mut command);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the process starts");
        let stderr = BufReader::new(process.stderr.take().expect("the output is piped"));
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = lines.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let unset = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut daemon = Self {
            process,
            log,
            tftp: unset,
            tftp_addresses: Vec::new(),
            http: unset,
            api: unset,
            cluster: None,
            startup_time: Duration::ZERO,
        };
        loop {
            let line = daemon.next_line();
            match line["message"].as_str() {
                Some("listening") => {
                    let address = line["address"].as_str().expect("an address").parse().expect("an address");
                    match line["listener"].as_str() {
                        Some("tftp") => {
                            daemon.tftp = address;
                            daemon.tftp_addresses.push(address);
                        }
                        Some("http") => daemon.http = address,
                        Some("api") => daemon.api = address,
                        Some("cluster") => daemon.cluster = Some(address),
                        other => panic!("unknown listener: {other:?}"),
                    }
                }
                Some("ready") => break,
                _ => {}
            }
        }
        daemon.startup_time = started_at.elapsed();
        daemon
    }

    /// Waits for the next log line.
    pub(crate) fn next_line(&mut self) -> Value {
        self.log
            .recv_timeout(LIMIT)
            .unwrap_or_else(|_| panic!("no further log line; exit status: {:?}", self.process.try_wait()))
    }

    /// Waits for the next log line with this message.
    pub(crate) fn wait_for_log(&mut self, message: &str) -> Value {
        loop {
            let line = self.next_line();
            if line["message"] == message {
                return line;
            }
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The memory in use; `kind` is a key of `/proc/PID/status`: `VmRSS:`, `VmHWM:`.
    #[allow(dead_code, reason = "for benchmarks")]
    pub(crate) fn memory(&self, kind: &str) -> String {
        format!("{:.1} MB", self.read_megabytes(kind))
    }

    /// The most memory that was in use so far, in megabytes.
    #[allow(dead_code, reason = "for the suite")]
    pub(crate) fn peak_megabytes(&self) -> f64 {
        self.read_megabytes("VmHWM:")
    }

    fn read_megabytes(&self, kind: &str) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the file exists");
        let line = status.lines().find_map(|line| line.strip_prefix(kind)).expect("the kind is in the file");
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes / 1000.0
    }

    /// The processor time since the start, in user mode and in the kernel; its resolution is 10 ms.
    #[allow(dead_code, reason = "for benchmarks")]
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the file exists");
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks =
            fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Sends SIGTERM, for a graceful shutdown.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Sends SIGHUP, for a reload.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::SIGHUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(self.pid().try_into().expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("the signal is sent");
    }

    /// Shuts down gracefully, and checks the exit code.
    pub(crate) fn stop(&mut self) {
        self.terminate();
        assert_eq!(self.wait(), Some(0));
    }

    /// Sends SIGKILL, and waits for the exit.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("the process is killed");
        self.process.wait().expect("the process exits");
    }

    /// Waits for the exit; returns the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + LIMIT;
        // The log ends with the process, so no polling is necessary.
        while let Ok(_line) = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {}
        assert!(Instant::now() < deadline, "no exit within the time-out");
        self.process.wait().expect("the process exits").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
