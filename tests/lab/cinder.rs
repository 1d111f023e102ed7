//! A storage cloud: a real Keystone, a real Cinder and a real iSCSI target, each of which can be stopped and started.
//!
//! `tests/lab/cinder/install` makes the programs and the filled databases, once per checkout; each cloud gets a copy.
//! All services listen inside the lab's network only: on loopback at their usual ports, and the target at both
//! addresses of the site.
//!
//! Traps:
//! * Cinder calls `tgt-admin` without options, which reads `/etc/tgt/targets.conf`. The lab mounts another file
//!   there.
//! * Cinder's services report their start long before they work. Each back end logs its readiness later, and the
//!   scheduler places volumes only after the reports of the back ends.
//! * RabbitMQ's start program changes the user; the script behind the program does not.

pub(crate) mod client;
mod settings;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};

pub(crate) use client::Client;
use settings::write_settings;

use super::process::Process;
use super::target::{Target, portal_at};
use super::{Lab, network};

/// The time limit of every operation of Cinder, even on a busy host.
pub(crate) const LIMIT: Duration = Duration::from_secs(150);
/// The polling interval.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A service that can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    /// The broker between Cinder's services.
    RabbitMq,
    /// Authentication and authorization.
    Keystone,
    /// Cinder's API.
    CinderApi,
    /// Selects a back end for a new volume.
    CinderScheduler,
    /// Controls the target.
    CinderVolume,
}

use Service::{CinderApi, CinderScheduler, CinderVolume, Keystone, RabbitMq};

/// A running cloud.
pub(crate) struct Cloud {
    home: PathBuf,
    /// The portal addresses of the target, the second for volumes with two portals.
    announced: [Ipv4Addr; 2],
    running: BTreeMap<Service, Process>,
    target: Target,
}

impl Cloud {
    /// Starts all services and waits until volumes can be created.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let home = lab.path().join("cinder");
        settings::lay_out(&home)?;
        let announced = [network::SERVER, network::SECOND_ADDRESS];
        write_settings(&home, announced)?;
        let nothing: Option<&str> = None;
        mount(Some(&home.join("targets.conf")), "/etc/tgt/targets.conf", nothing, MsFlags::MS_BIND, nothing)
            .context("cannot mount a file over /etc/tgt/targets.conf (package tgt)")?;
        let mut cloud =
            Self { home, announced, running: BTreeMap::new(), target: Target::start_unmanaged(lab)? };
        for service in [RabbitMq, Keystone, CinderApi, CinderScheduler, CinderVolume] {
            cloud.launch(service)?;
        }
        for service in [RabbitMq, Keystone, CinderApi, CinderVolume] {
            cloud.await_ready(service)?;
        }
        let admin = Client::new("admin", "admin")?;
        // The API responds before the other services work, and then returns errors for calls that need them.
        let mut last = Ok(0);
        await_until("the scheduler to know every back end", || {
            last = admin.pools();
            Ok(last.as_ref().is_ok_and(|&pools| pools >= settings::BACK_ENDS))
        })
        .with_context(|| format!("the scheduler knows {last:?}; {}", cloud.log_tails()))?;
        Ok(cloud)
    }

    /// Kills a service.
    pub(crate) fn stop(&mut self, service: Service) -> Result<()> {
        match self.running.remove(&service) {
            Some(mut process) => process.kill(LIMIT),
            None => Ok(()),
        }
    }

    /// Starts a service and waits until it is ready.
    pub(crate) fn restart(&mut self, service: Service) -> Result<()> {
        self.launch(service)?;
        self.await_ready(service)
    }

    /// Restarts services that a test left stopped.
    pub(crate) fn restart_stopped(&mut self) -> Result<()> {
        for service in [RabbitMq, Keystone, CinderApi, CinderScheduler, CinderVolume] {
            if !self.running.contains_key(&service) {
                self.restart(service)?;
            }
        }
        Ok(())
    }

    /// Restarts the target, which loses all exports.
    pub(crate) fn restart_target(&mut self, lab: &Lab) -> Result<()> {
        self.target.kill()?;
        self.target = Target::start_unmanaged(lab)?;
        Ok(())
    }

    /// The portals of volumes, the second for volumes with two portals.
    pub(crate) fn portals(&self) -> [String; 2] {
        self.announced.map(portal_at)
    }

    /// Swaps the portal addresses of the target.
    pub(crate) fn move_portals(&mut self) -> Result<()> {
        self.stop(CinderVolume)?;
        self.announced.reverse();
        write_settings(&self.home, self.announced)?;
        self.restart(CinderVolume)
    }

    /// Freezes a service, as if it hung.
    pub(crate) fn freeze(&self, service: Service) -> Result<()> {
        self.running.get(&service).context("the service is not running")?.set_suspended(true)
    }

    /// Resumes a frozen service.
    pub(crate) fn thaw(&self, service: Service) -> Result<()> {
        self.running.get(&service).context("the service is not running")?.set_suspended(false)
    }

    /// Writes an image into a volume without attachments.
    pub(crate) fn fill(&self, volume: &str, image: &Path) -> Result<()> {
        let path = self.home.join("volumes").join(format!("volume-{volume}"));
        let mut file = fs::File::options().write(true).open(path).context("the volume has no file")?;
        io::copy(&mut fs::File::open(image)?, &mut file)?;
        Ok(())
    }

    /// The end of the log of each service, for failed tests.
    pub(crate) fn log_tails(&self) -> String {
        let tail = |(service, process): (&Service, &Process)| format!("{service:?}:\n{}\n", process.tail());
        self.running.iter().map(tail).collect()
    }

    fn launch(&mut self, service: Service) -> Result<()> {
        let (name, program) = settings::program(&self.home, service);
        let process = Process::start_with_children(name, &program)?;
        let previous = self.running.insert(service, process);
        ensure!(previous.is_none(), "{name} is already running");
        Ok(())
    }

    fn await_ready(&mut self, service: Service) -> Result<()> {
        let process = self.running.get_mut(&service).context("the service is not running")?;
        match service {
            RabbitMq => drop(process.wait_for(&["completed with"], LIMIT)?),
            CinderVolume => {
                for _ in 0..settings::BACK_ENDS {
                    process.wait_for(&["Driver post RPC initialization completed successfully"], LIMIT)?;
                }
            }
            CinderScheduler => {}
            Keystone => await_response(process, "http://127.0.0.1:5000/v3")?,
            CinderApi => await_response(process, "http://127.0.0.1:8776/")?,
        }
        Ok(())
    }
}

/// The Python of the cloud's environment, in which Nova is installed too.
#[allow(dead_code, reason = "each including test program uses a part")]
pub(crate) fn python() -> Command {
    let mut command = Command::new(settings::environment().join("bin/python"));
    // The environment may set an HTTP proxy.
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("no_proxy", "*")
        .env("PYTHONWARNINGS", "ignore");
    command
}

/// Polls until `condition` holds.
pub(crate) fn await_until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !condition()? {
        ensure!(Instant::now() < deadline, "{what}: no success within {} s", LIMIT.as_secs());
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Waits until a server responds at this URL.
fn await_response(process: &mut Process, url: &str) -> Result<()> {
    let client = client::Http::new()?;
    await_until(url, || Ok(client.get(url).is_ok()))
        .with_context(|| format!("the end of its log:\n{}", process.tail()))
}
