//! The provisioning host: a virtual machine with the Debian image of `tests/quickstart/install`, and a root shell on its
//! second serial line for commands.
//!
//! Traps:
//! * The end of a command's output is marked by a control character that no command prints, followed by the exit status
//!   ([`READY`]; `PROMPT_COMMAND` in the image).
//! * QEMU's default MAC address is the one of README's machine, so the host has another.
//! * The image is opened as a snapshot: all changes are discarded with the machine.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::lab::process::Process;
use crate::lab::volume::Volume;
use crate::lab::{Lab, network};

const BARE: &str = "-nodefaults -nographic -serial stdio -no-reboot -accel tcg -cpu max -smp 2 -m 1024";
const CABLE: &str = "server";
/// The mark after a command's output, and again after its exit status.
const READY: u8 = 0x1e;
/// The time-out of the start, which takes less than a minute on an idle host.
const START_LIMIT: Duration = Duration::from_secs(480);
/// The time-out of a command. The slowest ones, OpenStack's, take some fifteen seconds.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
/// The size of the volume group's disk.
const SPARE_SIZE: u64 = 96 << 20;

/// The running host; dropping it switches it off.
pub(crate) struct Server {
    process: Process,
    shell: UnixStream,
}

impl Server {
    /// Switches the host on and waits for its shell. `volumes` are its disks `vdb` and `vdc`; `vdd` is empty.
    pub(crate) fn power_on(lab: &Lab, volumes: [&Volume; 2]) -> Result<Self> {
        let image = find_artifact("quickstart")?;
        network::plug(CABLE)?;
        let spare = lab.path().join("spare.img");
        std::fs::File::create_new(&spare)?.set_len(SPARE_SIZE)?;
        let (shell, end) = UnixStream::pair()?;
        fcntl(&end, FcntlArg::F_SETFD(FdFlag::empty()))?;

        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(BARE.split(' '));
        qemu.args([
            "-chardev",
            &format!("socket,id=shell,fd={}", end.as_raw_fd()),
            "-serial",
            "chardev:shell",
        ]);
        qemu.arg("-kernel").arg(image.join("vmlinuz")).arg("-initrd").arg(image.join("initrd"));
        qemu.args(["-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0"]);
        qemu.args(["-netdev", &format!("tap,id=net,ifname={CABLE},script=no,downscript=no")]);
        qemu.args(["-device", "virtio-net-pci,netdev=net,mac=52:54:00:00:00:01"]);
        let root = image.join("root.img");
        for disk in [&root, volumes[0].image(), volumes[1].image(), &spare] {
            qemu.args(["-drive", &format!("if=virtio,format=raw,snapshot=on,file={}", disk.display())]);
        }
        let packages = find_artifact("packages")?;
        qemu.arg("-virtfs").arg(format!(
            "local,path={},mount_tag=packages,security_model=none,readonly=on",
            packages.display()
        ));
        let process = Process::start("the server", &mut qemu, None)?;
        drop(end);
        let mut server = Self { process, shell };
        server.read_response(START_LIMIT).context("the server does not start")?;
        server.run("stty -echo")?;
        Ok(server)
    }

    /// Runs a command; returns its output. The exit status must be 0.
    pub(crate) fn run(&mut self, command: impl AsRef<str>) -> Result<String> {
        let command = command.as_ref();
        self.shell.write_all(format!("{command}\n").as_bytes())?;
        let (output, status) =
            self.read_response(COMMAND_LIMIT).with_context(|| format!("after: {command}"))?;
        if status != "0" {
            bail!("{command}\nfailed with status {status}:\n{output}\n{}", self.journal()?);
        }
        Ok(output)
    }

    /// The last lines of the journal.
    pub(crate) fn journal(&mut self) -> Result<String> {
        self.shell.write_all(b"journalctl --boot --no-pager --output=cat --lines=50\n")?;
        Ok(self.read_response(COMMAND_LIMIT)?.0)
    }

    /// Reads a command's output and its exit status.
    fn read_response(&mut self, within: Duration) -> Result<(String, String)> {
        let deadline = Instant::now() + within;
        let output = self.read_until_ready(deadline)?;
        Ok((output, self.read_until_ready(deadline)?))
    }

    fn read_until_ready(&mut self, deadline: Instant) -> Result<String> {
        let mut output = Vec::new();
        loop {
            let timeout = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.shell.set_read_timeout(Some(timeout))?;
            let mut byte = [0];
            match self.shell.read(&mut byte) {
                Ok(1) if byte[0] == READY => break,
                Ok(1) if Instant::now() < deadline => output.push(byte[0]),
                Ok(0) => bail!("the host is off. Last console output:\n{}", self.process.tail()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => bail!(
                    "time-out. Shell output:\n{}\nConsole:\n{}",
                    String::from_utf8_lossy(&output),
                    self.process.tail()
                ),
            }
        }
        Ok(String::from_utf8_lossy(&output).replace('\r', ""))
    }
}

/// Finds a directory under `target`, created before the test.
fn find_artifact(name: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(name);
    ensure!(path.exists(), "{} does not exist: see tests/quickstart/main.rs", path.display());
    Ok(path)
}
