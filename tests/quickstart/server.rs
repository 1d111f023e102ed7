//! The provisioning host: a virtual machine with the Debian that `tests/quickstart/install` has made, and a root shell on
//! its second serial line, where commands are typed.
//!
//! Traps it copes with:
//! * What a command prints ends where the shell is ready again, which it says by a character that nothing else prints,
//!   with the command's status ([`READY`]; `PROMPT_COMMAND` in the image).
//! * QEMU gives every card the same address unless told, the one that README's machine has.
//! * The image is not written to: what changes is gone with the machine.

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
/// What is between a command's output and its status, and after it.
const READY: u8 = 0x1e;
/// It starts in less than a minute on an idle host.
const START_LIMIT: Duration = Duration::from_secs(480);
/// The slowest command is one of OpenStack's, at some fifteen seconds.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
/// The volume group's disk.
const SPARE: u64 = 96 << 20;

/// The host, switched on until it is dropped.
pub(crate) struct Server {
    process: Process,
    shell: UnixStream,
}

impl Server {
    /// Switches it on, with `volumes` as its disks `vdb` and `vdc` and an empty one as `vdd`, and waits for its shell.
    pub(crate) fn power_on(lab: &Lab, volumes: [&Volume; 2]) -> Result<Self> {
        let image = made("quickstart")?;
        network::plug(CABLE)?;
        let spare = lab.path().join("spare.img");
        std::fs::File::create_new(&spare)?.set_len(SPARE)?;
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
        let packages = made("packages")?;
        qemu.arg("-virtfs").arg(format!(
            "local,path={},mount_tag=packages,security_model=none,readonly=on",
            packages.display()
        ));
        let process = Process::start("the server", &mut qemu, None)?;
        drop(end);
        let mut server = Self { process, shell };
        server.answer(START_LIMIT).context("the server does not start")?;
        server.types("stty -echo")?;
        Ok(server)
    }

    /// Types a command and returns what it prints; its status must be 0.
    pub(crate) fn types(&mut self, command: impl AsRef<str>) -> Result<String> {
        let command = command.as_ref();
        self.shell.write_all(format!("{command}\n").as_bytes())?;
        let (output, status) = self.answer(COMMAND_LIMIT).with_context(|| format!("after: {command}"))?;
        if status != "0" {
            bail!("{command}\nended with {status}:\n{output}\n{}", self.journal()?);
        }
        Ok(output)
    }

    /// What its services said at last.
    pub(crate) fn journal(&mut self) -> Result<String> {
        self.shell.write_all(b"journalctl --boot --no-pager --output=cat --lines=50\n")?;
        Ok(self.answer(COMMAND_LIMIT)?.0)
    }

    /// What the shell prints until it is ready, and the status it tells then.
    fn answer(&mut self, within: Duration) -> Result<(String, String)> {
        let deadline = Instant::now() + within;
        let output = self.until_ready(deadline)?;
        Ok((output, self.until_ready(deadline)?))
    }

    fn until_ready(&mut self, deadline: Instant) -> Result<String> {
        let mut said = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.shell.set_read_timeout(Some(left))?;
            let mut byte = [0];
            match self.shell.read(&mut byte) {
                Ok(1) if byte[0] == READY => break,
                Ok(1) if Instant::now() < deadline => said.push(byte[0]),
                Ok(0) => bail!("it is off. It said at last:\n{}", self.process.tail()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => bail!(
                    "not in time. The shell has said:\n{}\nand the console:\n{}",
                    String::from_utf8_lossy(&said),
                    self.process.tail()
                ),
            }
        }
        Ok(String::from_utf8_lossy(&said).replace('\r', ""))
    }
}

/// Something under `target` that has to be there already.
fn made(name: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(name);
    ensure!(path.exists(), "there is no {}: see the head of tests/quickstart/main.rs", path.display());
    Ok(path)
}
