//! The servers under test, each as a separate process, and their resource usage as reported by the operating system.
//!
//! A server that is not installed is skipped with a message. dnsmasq and tftpd-hpa need root. dnsmasq listens only on
//! port 69, so each server has its own loopback address.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime;
use tokio_util::sync::CancellationToken;
use volboot::tftp::{FileSource, ReadRequest, Server as TftpServer, ServerConfig};

use crate::baseline;

/// A running server.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
    cgroup: Option<Cgroup>,
}

/// A control group for one server. Only a control group counts the processor time of children without a `wait`, and
/// tftpd-hpa forks a child per transfer.
struct Cgroup {
    path: PathBuf,
    /// The file with the processor time, the prefix of its line, and nanoseconds per unit.
    file: &'static str,
    prefix: &'static str,
    unit: u64,
}

impl Cgroup {
    fn create(name: &str, pid: u32) -> Option<Self> {
        let versions = [
            ("/sys/fs/cgroup/cpuacct", "cpuacct.usage", "", 1),
            ("/sys/fs/cgroup", "cpu.stat", "usage_usec", 1000),
        ];
        versions.into_iter().find_map(|(root, file, prefix, unit)| {
            let path = Path::new(root).join(format!("tftp-bench-{}-{name}", std::process::id()));
            fs::create_dir(&path).ok()?;
            let cgroup = Self { path, file, prefix, unit };
            fs::write(cgroup.path.join("cgroup.procs"), pid.to_string()).ok()?;
            cgroup.cpu_time().map(|_| cgroup)
        })
    }

    fn cpu_time(&self) -> Option<Duration> {
        let text = fs::read_to_string(self.path.join(self.file)).ok()?;
        let number = text.lines().find_map(|line| line.strip_prefix(self.prefix))?;
        Some(Duration::from_nanos(number.trim().parse::<u64>().ok()? * self.unit))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// Servers that this program itself runs, in the role `serve`.
const BUILT_IN: [&str; 4] = ["volboot", "async-tftp", "baseline", SOCKETS];
/// The baseline with a socket for each transfer.
pub(crate) const SOCKETS: &str = "baseline-sockets";

impl Server {
    /// Starts all available servers, each with `directory/file`.
    pub(crate) fn start_all(directory: &Path) -> Vec<Self> {
        ["volboot", "dnsmasq", "tftpd-hpa", "async-tftp", "baseline", SOCKETS]
            .into_iter()
            .enumerate()
            .filter_map(|(index, name)| {
                let address = SocketAddr::from(([127, 0, 69, index as u8 + 1], 69));
                let server = Self::start(name, address, directory);
                server.inspect_err(|error| println!("cannot start {name}, skipped: {error}")).ok()
            })
            .collect()
    }

    pub(crate) fn start(name: &'static str, address: SocketAddr, directory: &Path) -> std::io::Result<Self> {
        let mut command;
        let ip = address.ip().to_string();
        match name {
            built_in if BUILT_IN.contains(&built_in) => {
                command = Command::new(std::env::current_exe()?);
                command.args(["serve", built_in, &address.to_string()]).arg(directory);
            }
            "dnsmasq" => {
                command = Command::new("dnsmasq");
                command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--enable-tftp"]);
                command.args(["--bind-interfaces", "--user=root", "--tftp-max=3000", "--pid-file="]);
                command
                    .arg(format!("--listen-address={ip}"))
                    .arg(format!("--tftp-root={}", directory.display()));
                command.args(["--quiet-tftp", "--log-facility=/dev/null"]);
            }
            _ => {
                command = Command::new("in.tftpd");
                command.args([
                    "--foreground",
                    "--secure",
                    "--user",
                    "root",
                    "--address",
                    &address.to_string(),
                ]);
                command.arg(directory);
            }
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let cgroup = Cgroup::create(name, child.id());
        if cgroup.is_none() && name == "tftpd-hpa" {
            println!("cannot create a control group: the time of {name} excludes its children");
        }
        Ok(Self { name, address, child, cgroup })
    }

    /// User and system time since the start.
    pub(crate) fn cpu(&self) -> Duration {
        if let Some(cpu_time) = self.cgroup.as_ref().and_then(Cgroup::cpu_time) {
            return cpu_time;
        }
        let stat = fs::read_to_string(self.proc_path("stat")).expect("a running server");
        let (_, fields) = stat.rsplit_once(')').expect("a command name");
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(4).map(|field| field.parse().unwrap_or(0)).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let statm = fs::read_to_string(self.proc_path("statm")).expect("a running server");
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    }

    /// Number of open descriptors, threads and child processes.
    pub(crate) fn resource_count(&self) -> usize {
        let count = |directory: &str| fs::read_dir(self.proc_path(directory)).map_or(0, Iterator::count);
        let children = fs::read_to_string(self.proc_path(&format!("task/{}/children", self.child.id())));
        count("fd") + count("task") + children.map_or(0, |children| children.split_whitespace().count())
    }

    fn proc_path(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a built-in server.
pub(crate) fn serve(name: &str, address: SocketAddr, directory: &Path) {
    let file = Bytes::from(fs::read(directory.join("file")).expect("the file to serve"));
    if name == "baseline" {
        return baseline::serve(address, &file);
    }
    if name == SOCKETS {
        return baseline::serve_with_sockets(address, &file);
    }
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if name == "async-tftp" {
            let server = async_tftp::server::TftpServerBuilder::with_dir_ro(directory).expect("a directory");
            let server = server.bind(address).window_size_limit(16).build().await.expect("a free port");
            return server.serve().await.expect("the server runs");
        }
        let mut config = ServerConfig::new([address]);
        config.limits.transfers_per_client = config.limits.transfers;
        let server = TftpServer::bind(&config).expect("a free port");
        let (events, mut receiver) = tokio::sync::mpsc::channel(1024);
        tokio::spawn(async move { while receiver.recv().await.is_some() {} });
        let files = Arc::new(SingleFile(file));
        let result = server.serve(files, events, CancellationToken::new(), Duration::ZERO);
        result.await.expect("the server runs");
    });
}

/// A file source with a single file.
struct SingleFile(Bytes);

impl FileSource for SingleFile {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        (request.name == b"file").then(|| self.0.clone())
    }
}
