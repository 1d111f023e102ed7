//! A real Ironic: API and conductor in one process, its records in a file, no other service.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use reqwest::Client;
use tempfile::TempDir;

use crate::python::program;

/// How long it may take to start.
const LIMIT: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(50);

/// A running Ironic; killed when it is dropped.
pub(crate) struct Ironic {
    process: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _home: TempDir,
}

impl Ironic {
    /// Starts it with records of its own, and waits until it serves.
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        // It cannot be told to choose a port by itself.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        // Where it would put what machines boot.
        std::fs::create_dir(home.path().join("httpboot")).expect("is made");
        let config = home.path().join("ironic.conf");
        let text = include_str!("ironic.conf")
            .replace("@HOME@", home.path().to_str().expect("text"))
            .replace("@PORT@", &free.port().to_string());
        std::fs::write(&config, text).expect("is written");
        let schema = program("ironic-dbsync").arg("--config-file").arg(&config).arg("create_schema").output();
        assert!(schema.expect("is installed").status.success());
        // It forks, so it gets a group of its own, to be ended as a whole.
        let mut command = program("ironic");
        command.arg("--config-file").arg(&config).process_group(0);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let ironic = Self { process, address: free, _home: home };
        let deadline = Instant::now() + LIMIT;
        volboot::tls::install_provider();
        let client = Client::new();
        while client.get(format!("http://{free}/v1/drivers/fake-hardware")).send().await.is_err() {
            assert!(Instant::now() < deadline, "Ironic did not start");
            tokio::time::sleep(PAUSE).await;
        }
        ironic
    }
}

impl Drop for Ironic {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.process.id().try_into().expect("a pid")), Signal::SIGKILL);
        let _ = self.process.wait();
    }
}
