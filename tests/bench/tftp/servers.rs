//! The servers under test, each a process of its own, and what the operating system says they used.
//!
//! Rivals that are not installed are left out and named. dnsmasq and tftpd-hpa want root; dnsmasq also insists on port
//! 69, so each server has a loopback address of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime;
use tokio_util::sync::CancellationToken;
use volboot::tftp::{Config, Files, Listener, ReadRequest};

use crate::bare;

/// A running server.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
    account: Option<Account>,
}

/// A control group of the server's own: the only place where Linux adds up the time of children nobody waited for, and
/// tftpd-hpa has one for each transfer.
struct Account {
    group: PathBuf,
    /// The file with the time, the word before the number, and nanoseconds in one.
    file: &'static str,
    word: &'static str,
    unit: u64,
}

impl Account {
    fn open(name: &str, pid: u32) -> Option<Self> {
        let kinds = [
            ("/sys/fs/cgroup/cpuacct", "cpuacct.usage", "", 1),
            ("/sys/fs/cgroup", "cpu.stat", "usage_usec", 1000),
        ];
        kinds.into_iter().find_map(|(root, file, word, unit)| {
            let group = Path::new(root).join(format!("tftp-bench-{}-{name}", std::process::id()));
            fs::create_dir(&group).ok()?;
            let account = Self { group, file, word, unit };
            fs::write(account.group.join("cgroup.procs"), pid.to_string()).ok()?;
            account.used().map(|_| account)
        })
    }

    fn used(&self) -> Option<Duration> {
        let text = fs::read_to_string(self.group.join(self.file)).ok()?;
        let number = text.lines().find_map(|line| line.strip_prefix(self.word))?;
        Some(Duration::from_nanos(number.trim().parse::<u64>().ok()? * self.unit))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.group);
    }
}

/// Servers that are this program in another role.
const OWN: [&str; 3] = ["volboot", "async-tftp", "bare"];

impl Server {
    /// All that can be had here, serving `directory/file`.
    pub(crate) fn start_all(directory: &Path) -> Vec<Self> {
        ["volboot", "dnsmasq", "tftpd-hpa", "async-tftp", "bare"]
            .into_iter()
            .enumerate()
            .filter_map(|(index, name)| {
                let address = SocketAddr::from(([127, 0, 69, index as u8 + 1], 69));
                let started = Self::start(name, address, directory);
                started.inspect_err(|error| println!("{name} is left out: {error}")).ok()
            })
            .collect()
    }

    pub(crate) fn start(name: &'static str, address: SocketAddr, directory: &Path) -> std::io::Result<Self> {
        let mut command;
        let ip = address.ip().to_string();
        match name {
            own if OWN.contains(&own) => {
                command = Command::new(std::env::current_exe()?);
                command.args(["serve", own, &address.to_string()]).arg(directory);
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
        let account = Account::open(name, child.id());
        if account.is_none() && name == "tftpd-hpa" {
            println!("No control group can be had: the time of {name} lacks that of its children.");
        }
        Ok(Self { name, address, child, account })
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Duration {
        if let Some(used) = self.account.as_ref().and_then(Account::used) {
            return used;
        }
        let stat = fs::read_to_string(self.proc("stat")).expect("the server runs");
        let (_, fields) = stat.rsplit_once(')').expect("a command name");
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(4).map(|field| field.parse().unwrap_or(0)).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let statm = fs::read_to_string(self.proc("statm")).expect("the server runs");
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    }

    /// Open descriptors, threads and child processes.
    pub(crate) fn things(&self) -> usize {
        let count = |directory: &str| fs::read_dir(self.proc(directory)).map_or(0, Iterator::count);
        let children = fs::read_to_string(self.proc(&format!("task/{}/children", self.child.id())));
        count("fd") + count("task") + children.map_or(0, |children| children.split_whitespace().count())
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program in the role of a server.
pub(crate) fn serve(name: &str, address: SocketAddr, directory: &Path) {
    let file = Bytes::from(fs::read(directory.join("file")).expect("the file to serve"));
    if name == "bare" {
        return bare::serve(address, &file);
    }
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if name == "async-tftp" {
            let server = async_tftp::server::TftpServerBuilder::with_dir_ro(directory).expect("a directory");
            let server = server.bind(address).window_size_limit(16).build().await.expect("a free port");
            return server.serve().await.expect("a server that serves");
        }
        let mut config = Config::new([address]);
        config.limits.transfers_per_client = config.limits.transfers;
        let listener = Listener::bind(&config).expect("a free port");
        let (events, mut told) = tokio::sync::mpsc::channel(1024);
        tokio::spawn(async move { while told.recv().await.is_some() {} });
        let served = listener.serve(Arc::new(One(file)), events, CancellationToken::new(), Duration::ZERO);
        served.await.expect("a server that serves");
    });
}

struct One(Bytes);

impl Files for One {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        (request.name == b"file").then(|| self.0.clone())
    }
}
