//! A real Ironic: API and conductor in one process, with an SQLite database and no other services.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use reqwest::Client;
use tempfile::TempDir;

use crate::python::python_program;

/// The time limit of the start.
const LIMIT: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(50);

/// A running Ironic; killed when it is dropped.
pub(crate) struct Ironic {
    process: Child,
    /// The API's address.
    pub(crate) address: SocketAddr,
    _home: TempDir,
}

impl Ironic {
    /// Starts Ironic with an empty database and waits until the API responds.
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        // Ironic cannot listen on a port of the kernel's choice.
        let address =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        // Ironic's directory for boot files.
        std::fs::create_dir(home.path().join("httpboot")).expect("the directory is writable");
        let config = home.path().join("ironic.conf");
        let text = include_str!("ironic.conf")
            .replace("@HOME@", home.path().to_str().expect("text"))
            .replace("@PORT@", &address.port().to_string());
        std::fs::write(&config, text).expect("the file is writable");
        let dbsync =
            python_program("ironic-dbsync").arg("--config-file").arg(&config).arg("create_schema").output();
        assert!(dbsync.expect("the program is installed").status.success());
        // Ironic forks: its own process group allows killing all processes.
        let mut command = python_program("ironic");
        command.arg("--config-file").arg(&config).process_group(0);
        let process =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        let ironic = Self { process, address, _home: home };
        let deadline = Instant::now() + LIMIT;
        volboot::tls::install_provider();
        let client = Client::new();
        while client.get(format!("http://{address}/v1/drivers/fake-hardware")).send().await.is_err() {
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
