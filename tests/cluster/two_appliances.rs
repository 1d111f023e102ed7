//! README's "Two appliances" and the commands of the guide, typed as they stand, on three hosts with keepalived.
//!
//! A host is a set of namespaces: network, mounts, processes and name. Its `/etc`, `/var/lib` and `/run` are its own.
//! `systemctl` starts what the units of the packages start; `apt` has nothing to install.

#[path = "../lab/documents.rs"]
#[allow(dead_code, reason = "shared with the lab")]
mod documents;
mod host;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use documents::{block, command};
use host::{Host, Network};

use crate::machine::{Machine, Script};

/// The machine in README's commands.
const MAC: &str = "52:54:00:12:34:56";
/// The address of the machines.
const COMMON: &str = "10.0.0.1";
const LONG: Duration = Duration::from_secs(60);
/// How long the address may take to move on a busy host. On an idle one, it takes four seconds.
const MOVED: Duration = Duration::from_secs(15);

/// Types a block of README or the guide.
fn type_block(host: &mut Host, part: &str) {
    for line in block(part) {
        host.run(&line.replace("IP=10.0.0.11", &format!("IP={}", host.address())));
    }
}

fn wait_for(within: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The index of the host that has the common address.
fn find_holder(hosts: &mut [Host]) -> Option<usize> {
    hosts
        .iter_mut()
        .position(|host| host.run("ip -4 -o address show dev eth0").contains(&format!("{COMMON}/")))
}

/// The machine boots at the common address.
fn expect_boot(machine: &mut Machine, within: Duration, when: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let at = SocketAddr::new(COMMON.parse().expect("an address"), 8080);
    let deadline = Instant::now() + within;
    machine.switch_off();
    loop {
        match runtime.block_on(machine.ask(at)) {
            Ok(Script::Boot(script)) => {
                assert!(script.contains("iqn.2026-01.org.example:web-1"), "{script}");
                // Otherwise the next boots would be a boot loop.
                return runtime.block_on(machine.report(at, "hooked"));
            }
            other => assert!(Instant::now() < deadline, "{when}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn two_appliances_as_documented() {
    let test = std::thread::spawn(|| {
        let network = Network::create(MAC);
        let names = [("boot-1", 11), ("boot-2", 12), ("witness", 13)];
        let mut hosts: Vec<Host> =
            names.iter().map(|(name, last)| Host::start(&network, name, *last)).collect();
        // volboot was installed on the first, and has a node.
        hosts[0].run("systemctl restart volboot");
        wait_for(LONG, "volboot serves", || hosts[0].succeeds("volboot status"));
        hosts[0].run(&command("VOLBOOT_CHAP_PASSWORD="));

        for host in &mut hosts {
            type_block(host, "ETCD_INITIAL_CLUSTER");
        }
        let mut appliances = hosts;
        let mut witness = appliances.pop().expect("three hosts");
        for host in &mut appliances {
            type_block(host, "/etc/keepalived/");
        }
        type_block(&mut appliances[0], "stop volboot && volboot store copy");
        for host in &mut appliances {
            host.run("volboot check-config");
            for line in block("systemctl restart volboot keepalived") {
                // The last command asks an instance that may not serve yet.
                wait_for(LONG, &line, || host.succeeds(&line));
            }
        }
        for host in &mut appliances {
            wait_for(LONG, "each lists both", || {
                let status = host.run("volboot status");
                status.contains("boot-1") && status.contains("boot-2")
            });
        }
        let mut machine = Machine::new(MAC);
        wait_for(MOVED, "one has the address", || find_holder(&mut appliances).is_some());
        expect_boot(&mut machine, LONG, "at first");

        // An instance that is killed, and one that shuts down.
        for stop in ["kill -9 $(cat /run/volboot.pid)", "systemctl stop volboot"] {
            let holder = find_holder(&mut appliances).expect("one has the address");
            appliances[holder].run(stop);
            let moved = || find_holder(&mut appliances).is_some_and(|now| now != holder);
            wait_for(MOVED, stop, moved);
            expect_boot(&mut machine, MOVED, stop);
            appliances[holder].run("systemctl restart volboot");
            wait_for(LONG, "ready", || appliances[holder].succeeds("curl -fs http://127.0.0.1:6385/readyz"));
        }

        // The guide: a user, then a backup that is restored.
        type_block(&mut appliances[0], "etcdctl auth enable");
        let password = appliances[0].run("cat /etc/volboot/etcd-password");
        appliances[1].run(&format!("echo {} > /etc/volboot/etcd-password", password.trim()));
        for host in &mut appliances {
            type_block(host, "/a username = ");
            wait_for(LONG, "ready", || host.succeeds("curl -fs http://127.0.0.1:6385/readyz"));
        }
        expect_boot(&mut machine, LONG, "with a user");
        let administrator = "export ETCDCTL_USER=root:$(cat /etc/volboot/etcd-root)";
        appliances[0].run(administrator);
        type_block(&mut appliances[0], "etcdctl alarm disarm");
        appliances[0].run("mkdir -p /var/backups");
        appliances[0].run(&command("volboot store export /var/backups"));
        for host in &mut appliances {
            host.run("systemctl stop volboot");
        }
        // If no instance is ready, one keeps the address.
        std::thread::sleep(Duration::from_secs(5));
        assert!(find_holder(&mut appliances).is_some());
        type_block(&mut appliances[0], "etcdctl del --prefix /volboot/");
        for host in &mut appliances {
            host.run("systemctl restart volboot");
            wait_for(LONG, "ready", || host.succeeds("curl -fs http://127.0.0.1:6385/readyz"));
        }
        expect_boot(&mut machine, LONG, "with restored records");

        // The guide: TLS. The hosts have one root directory.
        for host in appliances.iter_mut().chain([&mut witness]) {
            host.run("mkdir /run/certificates && cd /run/certificates");
        }
        type_block(&mut appliances[0], "/CN=etcd authority");
        let [first, second] = &mut appliances[..] else { panic!("two appliances") };
        for (name, host) in [("boot-2", second), ("witness", &mut witness)] {
            for file in ["etcd-ca.pem", &format!("{name}.pem"), &format!("{name}.key")] {
                let content = first.run(&format!("base64 -w0 {file}"));
                host.run(&format!("echo {} | base64 -d > {file}", content.trim()));
            }
        }
        for host in appliances.iter_mut().chain([&mut witness]) {
            type_block(host, "ETCD_CERT_FILE");
        }
        for host in &mut appliances {
            type_block(host, "/etc/volboot/etcd-ca.pem");
            wait_for(LONG, "ready", || host.succeeds("curl -fs http://127.0.0.1:6385/readyz"));
        }
        appliances[0].run("etcdctl endpoint health");
        expect_boot(&mut machine, LONG, "with TLS");
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}
