//! [`Host`]: a host in namespaces of its own, with a root shell.
//!
//! Traps:
//! * The processes of a host end with its first process, `unshare --kill-child`.
//! * `/usr/share/volboot` does not exist on the test's host, so `/usr/share` is an overlay.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// The mark after a command's output, followed by the exit status.
const MARK: &str = "\u{1e}";
const STARTED: Duration = Duration::from_secs(20);

/// What `systemctl` is on a host: it starts the programs of the units, with their files.
const SYSTEMCTL: &str = r#"#!/bin/bash
# systemctl start|stop|restart|enable --now UNIT...
verb=$1; shift; [[ $1 != --now ]] || shift
for unit in "$@"; do
    pid=/run/$unit.pid
    if [[ $verb != start && -e $pid ]]; then
        kill "$(cat $pid)" 2> /dev/null && while kill -0 "$(cat $pid)" 2> /dev/null; do sleep 0.05; done
    fi
    [[ $verb != stop ]] || continue
    case $unit in
        volboot) run=(volboot serve) ;;
        keepalived) run=(keepalived --dont-fork --log-console --pid=/run/k.pid --vrrp_pid=/run/v.pid) ;;
        etcd) run=(etcd --logger=zap) ;;
    esac
    (
        [[ $unit != etcd ]] || { set -a; . /etc/default/etcd; ETCD_DATA_DIR=/var/lib/etcd/default; }
        exec setsid "${run[@]}" < /dev/null >> /run/$unit.log 2>&1
    ) &
    echo $! > $pid
done
"#;

/// The network of the hosts and the machine, in the namespace of the test's thread.
pub(crate) struct Network(TempDir);

impl Network {
    /// Moves this thread into a namespace with a bridge, whose own port is the machine's.
    pub(crate) fn create(mac: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("root creates a network namespace");
        run("ip link set lo up");
        run("ip link add br0 type bridge");
        run(&format!("ip link set br0 address {mac}"));
        run("ip address add 10.0.0.100/24 dev br0");
        run("ip link set br0 up");
        Self(tempfile::tempdir_in("/dev/shm").expect("a directory in memory"))
    }
}

/// A running host.
pub(crate) struct Host {
    address: String,
    process: Child,
    shell: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Host {
    /// Starts a host with the address 10.0.0.`last`.
    pub(crate) fn start(network: &Network, name: &str, last: u8) -> Self {
        let directory = network.0.path().join(name);
        let programs = directory.join("bin");
        std::fs::create_dir_all(&programs).expect("creates a directory");
        write_program(&programs.join("systemctl"), SYSTEMCTL);
        write_program(&programs.join("apt"), "#!/bin/sh\n");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_volboot"), programs.join("volboot")).expect("links");
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--net",
            "--mount",
            "--uts",
            "--pid",
            "--fork",
        ]);
        // A shell as the first process ends its orphans.
        command.args(["--kill-child", "--mount-proc", "bash", "-c", "sleep infinity & wait"]);
        let process = command.stdin(Stdio::null()).spawn().expect("unshare runs");
        let init = find_child(process.id());
        run(&format!("ip link add {name} type veth peer name eth0 netns {init}"));
        run(&format!("ip link set {name} master br0 up"));
        let mut shell = Command::new("nsenter")
            .args([
                "--target",
                &init,
                "--net",
                "--mount",
                "--uts",
                "--pid",
                "--wd=/",
                "bash",
                "--noprofile",
                "--norc",
            ])
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display()))
            .env("HOME", "/root")
            .env_remove("VOLBOOT_CONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nsenter runs");
        let input = shell.stdin.take().expect("piped");
        let output = BufReader::new(shell.stdout.take().expect("piped"));
        let mut host = Self { address: format!("10.0.0.{last}"), process, shell, input, output };
        host.run("exec 2>&1");
        host.set_up(name, &directory);
        host
    }

    fn set_up(&mut self, name: &str, directory: &Path) {
        let (source, own) = (env!("CARGO_MANIFEST_DIR"), directory.display());
        let address = self.address.clone();
        for line in [
            &format!("hostname {name}"),
            "ip link set lo up",
            &format!("ip address add {address}/24 dev eth0 && ip link set eth0 up"),
            &format!("mkdir -p {own}/etc {own}/upper {own}/work && cp -a /etc/. {own}/etc/"),
            &format!("mount --bind {own}/etc /etc"),
            &format!(
                "mount -t overlay overlay -o lowerdir=/usr/share,upperdir={own}/upper,workdir={own}/work /usr/share"
            ),
            "mount -t tmpfs lib /var/lib && mkdir -p /var/lib/volboot /var/lib/etcd",
            "mount -t tmpfs run /run && mount -t tmpfs backups /var/backups",
            "mkdir -p /etc/volboot /etc/keepalived /etc/default /usr/share/volboot/keepalived",
            "getent group volboot || groupadd --system volboot",
            &format!("cp {source}/packaging/volboot.toml /etc/volboot/"),
            &format!("cp {source}/packaging/keepalived/keepalived.conf /usr/share/volboot/keepalived/"),
        ] {
            self.run(line);
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Runs a command in the shell, which must succeed; returns its output.
    pub(crate) fn run(&mut self, command: &str) -> String {
        let (output, status) = self.try_run(command);
        if status != "0" {
            let (logs, _) = self.try_run("tail -n 20 /run/*.log");
            panic!("{}: {command}\nfailed with status {status}:\n{output}\n{logs}", self.address);
        }
        output
    }

    /// Runs a command in the shell; returns whether it succeeds.
    pub(crate) fn succeeds(&mut self, command: &str) -> bool {
        self.try_run(command).1 == "0"
    }

    fn try_run(&mut self, command: &str) -> (String, String) {
        // The command's own input is empty; it could be the shell's otherwise.
        let text = format!("{{ {command}\n}} < /dev/null; echo \"{MARK}$?\"\n");
        self.input.write_all(text.as_bytes()).expect("the shell runs");
        let mut output = String::new();
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).expect("text") > 0,
                "the shell has ended: {command}\n{output}"
            );
            if let Some((rest, status)) = line.split_once(MARK) {
                output.push_str(rest);
                return (output, status.trim().to_owned());
            }
            output.push_str(&line);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in [&mut self.process, &mut self.shell] {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).expect("writes");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("sets the mode");
}

/// The first child of a process, once there is one.
fn find_child(process: u32) -> String {
    let deadline = Instant::now() + STARTED;
    loop {
        let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        if let Some(child) = children.unwrap_or_default().split_whitespace().next() {
            return child.to_owned();
        }
        assert!(Instant::now() < deadline, "unshare has no child");
        std::thread::yield_now();
    }
}

fn run(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh runs");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}
