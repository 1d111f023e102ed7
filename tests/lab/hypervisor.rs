//! [`Hypervisor`]: libvirt, private to the lab, with one machine ([`Domain`]) that is switched on and off from outside.
//!
//! Traps:
//! * libvirtd of root is always the *system* daemon, with fixed paths. It therefore gets a mount namespace of its own, with
//!   empty file systems at these paths, and beside that a PID namespace: QEMU leaves its parent, and ends with the namespace.
//! * The first process of a PID namespace inherits QEMU, and has to reap it: a shell does, libvirtd does not. Otherwise each
//!   power-off takes 40 s, and the next power-on hangs.
//! * Without the user `libvirt-qemu`, which the package of the systemd units creates, libvirtd's QEMU driver does not start,
//!   whatever `qemu.conf` says. The namespace has a copy of the accounts with this user.
//! * A domain of type `qemu` is emulated (TCG): under KVM the iPXE of 2019 hangs on some hosts.
//! * `useserial` lets SeaBIOS show its text screen on the serial line, as `-nographic` does.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Lab;
use super::network::bridge;
use super::process::{Match, Process};
use super::volume::Volume;

const START_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The script that starts libvirtd in its namespaces; `$1` is the lab's directory.
const START: &str = r#"set -e
for path in /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    mkdir -p "$path"
    mount -t tmpfs libvirt "$path"
done
for file in passwd group; do cp "/etc/$file" "$1/$file"; done
echo libvirt-qemu:x:64055:64055::/nonexistent:/bin/false >> "$1/passwd"
echo libvirt-qemu:x:64055: >> "$1/group"
for file in passwd group; do mount --bind "$1/$file" "/etc/$file"; done
cat > /etc/libvirt/qemu.conf <<'END'
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
dynamic_ownership = 0
END
cat > "$1/libvirtd.conf" <<END
unix_sock_dir = "$1"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:stderr"
host_uuid_source = "machine-id"
END
libvirtd -f "$1/libvirtd.conf" -p "$1/libvirtd.pid"
exit $?
"#;

/// A running libvirtd.
pub(crate) struct Hypervisor {
    process: Process,
    directory: PathBuf,
}

/// A machine of the hypervisor, switched off at first.
pub(crate) struct Domain {
    console: Process,
    /// Its UUID.
    pub(crate) uuid: &'static str,
}

impl Hypervisor {
    /// Starts libvirtd, and waits until it accepts connections.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let directory = lab.path().to_owned();
        let mut command = Command::new("sh");
        command.args(["-c", START, "sh"]).arg(&directory);
        let process = Process::start_with_children("libvirtd", &command)?;
        let hypervisor = Self { process, directory };
        let deadline = Instant::now() + START_LIMIT;
        while let Err(error) = hypervisor.run(&["list"]) {
            if Instant::now() > deadline {
                bail!("{error}; libvirtd (package libvirt-daemon): {}", hypervisor.process.tail());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(hypervisor)
    }

    /// The URI for clients.
    pub(crate) fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}/libvirt-sock", self.directory.display())
    }

    /// Defines a BIOS machine with a network card on the lab's bridge, and a local disk from which it boots first.
    pub(crate) fn define(&self, mac: &str, disk: &Volume) -> Result<Domain> {
        let uuid = "27946b59-9e44-4fa7-8e91-f3527a1ef094";
        let console = self.directory.join("domain.console");
        let file = self.directory.join("domain.xml");
        let (bridge, disk, log) = (bridge(), disk.image().display(), console.display());
        let xml = format!(
            "<domain type='qemu'><name>node-1</name><uuid>{uuid}</uuid><memory unit='MiB'>256</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64'>hvm</type><bios useserial='yes'/><boot dev='hd'/></os><features><acpi/></features>\
             <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>\
             <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/>\
             <target dev='vda' bus='virtio'/></disk>\
             <interface type='bridge'><mac address='{mac}'/><source bridge='{bridge}'/><model type='virtio'/></interface>\
             <serial type='file'><source path='{log}' append='on'/></serial><memballoon model='none'/></devices></domain>"
        );
        fs::write(&file, xml)?;
        fs::write(&console, "")?;
        self.run(&["define", &file.display().to_string()])?;
        let mut tail = Command::new("tail");
        tail.args(["--follow", "--lines=+1"]).arg(&console);
        Ok(Domain { console: Process::start("the domain's console", &mut tail, None)?, uuid })
    }

    /// The domain's state, as `virsh domstate` names it.
    pub(crate) fn read_state(&self, domain: &Domain) -> Result<String> {
        Ok(self.run(&["domstate", domain.uuid])?.trim().to_owned())
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut virsh = Command::new("virsh");
        let output = virsh.args(["--connect", &self.uri()]).args(arguments).output();
        let output = output.context("cannot run `virsh` (package libvirt-clients)")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`virsh {}` failed: {}", arguments.join(" "), stderr.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Domain {
    /// Waits for one of `patterns` on the console, after the previous match.
    pub(crate) fn wait_for(&mut self, patterns: &[&str], within: Duration) -> Result<Match> {
        self.console.wait_for(patterns, within)
    }

    /// Whether a text has been on the console.
    pub(crate) fn has_shown(&self, text: &str) -> bool {
        self.console.find_time(text).is_some()
    }
}
