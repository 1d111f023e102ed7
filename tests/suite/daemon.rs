//! The real binary with ports of its own, for one test; killed when the test drops it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything here may take before it has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A running `volboot serve`.
pub(crate) struct Daemon {
    process: Child,
    log: Receiver<Value>,
    /// Where the doors are; of several for TFTP, the last.
    pub(crate) tftp: SocketAddr,
    /// All doors for TFTP.
    #[allow(dead_code, reason = "mostly there is one")]
    pub(crate) all_tftp: Vec<SocketAddr>,
    /// The machines' door.
    pub(crate) http: SocketAddr,
    /// The people's door.
    pub(crate) api: SocketAddr,
    /// From its start until it was ready.
    pub(crate) took: Duration,
}

/// A directory with a configuration that listens on loopback, on ports the kernel chooses.
pub(crate) fn site(extra: &str) -> TempDir {
    let site = tempfile::tempdir().expect("a directory");
    let store = site.path().join("store.redb");
    let config = format!(
        "{extra}\n[store]\npath = \"{}\"\n[tftp]\nlisten = \"127.0.0.1:0\"\nimages = []\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[api]\nlisten = \"127.0.0.1:0\"\n",
        store.display()
    );
    std::fs::write(site.path().join("volboot.toml"), config).expect("is written");
    site
}

/// `volboot` with these arguments, its log collected.
pub(crate) fn volboot(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volboot"));
    command.args(arguments).env_remove("VOLBOOT_CONFIG").env_remove("VOLBOOT_LOG").stdin(Stdio::null());
    // Whoever runs the tests may use a cloud.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OS_")) {
        command.env_remove(name);
    }
    command
}

impl Daemon {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(site: &Path) -> Self {
        Self::start_with(site, |_| {})
    }

    /// The same, with an environment of its own.
    pub(crate) fn start_with(site: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let began = Instant::now();
        let config = site.join("volboot.toml");
        let mut command = volboot(&["serve", "--config", config.to_str().expect("text")]);
        prepare(&mut command);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("starts");
        let stderr = BufReader::new(process.stderr.take().expect("is piped"));
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = lines.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut daemon = Self {
            process,
            log,
            tftp: nowhere,
            all_tftp: Vec::new(),
            http: nowhere,
            api: nowhere,
            took: Duration::ZERO,
        };
        loop {
            let line = daemon.next_line();
            match line["message"].as_str() {
                Some("listening") => {
                    let address = line["address"].as_str().expect("an address").parse().expect("an address");
                    match line["door"].as_str() {
                        Some("tftp") => {
                            daemon.tftp = address;
                            daemon.all_tftp.push(address);
                        }
                        Some("http") => daemon.http = address,
                        Some("api") => daemon.api = address,
                        other => panic!("an unknown door: {other:?}"),
                    }
                }
                Some("ready") => break,
                _ => {}
            }
        }
        daemon.took = began.elapsed();
        daemon
    }

    /// The next line of its log.
    pub(crate) fn next_line(&mut self) -> Value {
        self.log
            .recv_timeout(LIMIT)
            .unwrap_or_else(|_| panic!("no more log; it ended with {:?}", self.process.try_wait()))
    }

    /// The next line of its log with this message.
    pub(crate) fn line(&mut self, message: &str) -> Value {
        loop {
            let line = self.next_line();
            if line["message"] == message {
                return line;
            }
        }
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How much memory it takes, by the kernel's name for the kind: `VmRSS:`, `VmHWM:`.
    #[allow(dead_code, reason = "benchmarks ask")]
    pub(crate) fn memory(&self, kind: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("is there");
        let line = status.lines().find_map(|line| line.strip_prefix(kind)).expect("is told");
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        format!("{:.1} MB", kilobytes / 1000.0)
    }

    /// Asks it to stop, as a service manager does.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Asks it to read its configuration again, as a service manager does.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::SIGHUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(self.pid().try_into().expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("is sent");
    }

    /// Stops it in order.
    pub(crate) fn stop(&mut self) {
        self.terminate();
        assert_eq!(self.wait(), Some(0));
    }

    /// Stops it at once, wherever it is.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("is killed");
        self.process.wait().expect("ends");
    }

    /// Waits for its end and gives its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + LIMIT;
        // The log ends when the process does, so waiting for that is no polling.
        while let Ok(_line) = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {}
        assert!(Instant::now() < deadline, "it did not end in time");
        self.process.wait().expect("ends").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
