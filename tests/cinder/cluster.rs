//! Two instances on a store in etcd: one is killed at a step of an attachment, and the other one finishes it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::Test;
use crate::fixture::Fixture;
use crate::lab::Lab;
use crate::lab::daemon::{API, Daemon};
use crate::lab::network::{SECOND_ADDRESS, SERVER};
use crate::lab::process::Process;
use crate::machine::BootResponse;
use crate::proxy::{CrashProxy, Moment};
use crate::setup::{Setup, owner_sections};

pub(crate) const TESTS: &[Test] =
    &[("another_instance_finishes_the_attachment_of_a_killed_one", finish_after_kills)];

const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEER: &str = "http://127.0.0.1:2380";
const LIMIT: Duration = Duration::from_secs(60);

/// The kills, by the number of the call: reserve, export, complete.
const KILLS: [(usize, Moment); 4] =
    [(2, Moment::After), (3, Moment::Before), (3, Moment::After), (4, Moment::After)];

fn finish_after_kills(fixture: &mut Fixture) -> Result<()> {
    let _etcd = start_etcd(&fixture.lab)?;
    let proxy = CrashProxy::start()?;
    let survivor = start_instance(&fixture.lab, "boot-1", SERVER, API, &proxy)?;
    let setup = Setup::around(fixture, survivor)?;
    for (call, moment) in KILLS {
        let mut victim = start_instance(&setup.fixture.lab, "boot-2", SECOND_ADDRESS, "127.0.0.1:0", &proxy)?;
        let volume = setup.fixture.owner.create_volume("chap")?;
        let mut node = setup.deploy(0, &[&volume])?;
        node.machine.set_server(SECOND_ADDRESS);
        proxy.kill_at(call, moment, &volume, victim.pid());
        // On a busy host, the machine may get a wait response before the kill.
        if let Ok(response @ (BootResponse::Boot(_) | BootResponse::Refused(_))) =
            node.machine.request_first()
        {
            bail!("unexpected response: {response:?}");
        }
        victim.wait_for_exit()?;
        let kill = proxy.take_kill().with_context(|| format!("there is no call {call}"))?;
        node.machine.set_server(SERVER);
        node.machine.boot_from_cinder().with_context(|| format!("killed {kill}"))?;
        setup.expect_single_attachment(&volume).with_context(|| format!("killed {kill}"))?;
        setup.tear_down_one(&node, &volume).with_context(|| format!("killed {kill}"))?;
        setup.delete_node(&node)?;
    }
    Ok(())
}

/// Starts a member of etcd, alone.
fn start_etcd(lab: &Lab) -> Result<Process> {
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(lab.path().join("etcd"));
    command.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
    command.args(["--listen-peer-urls", ETCD_PEER, "--initial-advertise-peer-urls", ETCD_PEER]);
    command.args(["--initial-cluster", &format!("default={ETCD_PEER}"), "--logger", "zap"]);
    let mut etcd = Process::start("etcd", &mut command, None)?;
    etcd.wait_for(&["serving insecure client requests", "serving client traffic insecurely"], LIMIT)?;
    Ok(etcd)
}

/// Starts an instance with the shortest session that etcd grants.
fn start_instance(lab: &Lab, name: &str, address: Ipv4Addr, api: &str, proxy: &CrashProxy) -> Result<Daemon> {
    let sections = format!(
        "[store.etcd]\nendpoints = [\"{ETCD}\"]\n[cluster]\nname = \"{name}\"\n\
         listen = \"{address}:6386\"\nurl = \"http://{address}:6386\"\nsession = \"2s\"\n{}",
        owner_sections(&proxy.endpoint)
    );
    let binary = Path::new(env!("CARGO_BIN_EXE_volboot"));
    Daemon::start_instance(lab, binary, name, (address, api), &sections)
}
