//! A storage cloud: a real Keystone, a real Cinder and a real iSCSI target, each of which can be stopped and started.
//!
//! What it is started from, programs and filled data bases, is made by `tests/lab/cinder/install`, once for a
//! checkout; each cloud gets a copy. All of it listens inside the lab's network only: the services on loopback with
//! their usual ports, the target at both of the site's addresses.
//!
//! Traps it copes with:
//! * Cinder calls plain `tgt-admin`, which reads `/etc/tgt/targets.conf`: inside the lab that is another file.
//! * Cinder's services say that they have started long before they do their work: its back ends each say when they
//!   are ready, and the scheduler gives out volumes only when it has heard from them.
//! * RabbitMQ's own starter changes the user; the script that it calls does not.

pub(crate) mod client;
mod settings;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};

pub(crate) use client::Client;
use settings::write_settings;

use super::process::Process;
use super::target::{Target, portal_at};
use super::{Lab, network};

/// Everything Cinder has to do is done within this, also on a busy host.
pub(crate) const LIMIT: Duration = Duration::from_secs(150);
/// What is looked at again and again is so after this.
const PAUSE: Duration = Duration::from_millis(100);

/// A service that can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    /// The broker between Cinder's services.
    RabbitMq,
    /// Who may.
    Keystone,
    /// What is asked.
    CinderApi,
    /// What finds a back end for a new volume.
    CinderScheduler,
    /// What gives orders to the target.
    CinderVolume,
}

use Service::{CinderApi, CinderScheduler, CinderVolume, Keystone, RabbitMq};

/// A running cloud.
pub(crate) struct Cloud {
    home: PathBuf,
    /// The addresses at which the target is announced, the second for volumes with two portals.
    announced: [Ipv4Addr; 2],
    running: BTreeMap<Service, Process>,
    target: Target,
}

impl Cloud {
    /// Starts all of it and waits until volumes can be made.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let home = lab.path().join("cinder");
        settings::lay_out(&home)?;
        let announced = [network::SERVER, network::SECOND];
        write_settings(&home, announced)?;
        let nothing: Option<&str> = None;
        mount(Some(&home.join("targets.conf")), "/etc/tgt/targets.conf", nothing, MsFlags::MS_BIND, nothing)
            .context("cannot put a file in the place of /etc/tgt/targets.conf (package tgt)")?;
        let mut cloud =
            Self { home, announced, running: BTreeMap::new(), target: Target::start_for_others(lab)? };
        for service in [RabbitMq, Keystone, CinderApi, CinderScheduler, CinderVolume] {
            cloud.launch(service)?;
        }
        for service in [RabbitMq, Keystone, CinderApi, CinderVolume] {
            cloud.await_ready(service)?;
        }
        let admin = Client::new("admin", "admin")?;
        // The API answers before the others do, and what it cannot pass on to them is a fault of its own to it.
        let mut last = Ok(0);
        await_until("the scheduler to know every back end", || {
            last = admin.pools();
            Ok(last.as_ref().is_ok_and(|&pools| pools >= settings::BACK_ENDS))
        })
        .with_context(|| format!("it knows of {last:?}; {}", cloud.last_words()))?;
        Ok(cloud)
    }

    /// Stops a service as a crash would.
    pub(crate) fn stop(&mut self, service: Service) -> Result<()> {
        match self.running.remove(&service) {
            Some(mut process) => process.kill(LIMIT),
            None => Ok(()),
        }
    }

    /// Starts a service and waits until it does its work.
    pub(crate) fn start_again(&mut self, service: Service) -> Result<()> {
        self.launch(service)?;
        self.await_ready(service)
    }

    /// Starts what a test has left stopped.
    pub(crate) fn mend(&mut self) -> Result<()> {
        for service in [RabbitMq, Keystone, CinderApi, CinderScheduler, CinderVolume] {
            if !self.running.contains_key(&service) {
                self.start_again(service)?;
            }
        }
        Ok(())
    }

    /// Stops the target and starts it again: it has forgotten all that was exported.
    pub(crate) fn restart_target(&mut self, lab: &Lab) -> Result<()> {
        self.target.kill()?;
        self.target = Target::start_for_others(lab)?;
        Ok(())
    }

    /// The portals of volumes, the second for those that have two.
    pub(crate) fn portals(&self) -> [String; 2] {
        self.announced.map(portal_at)
    }

    /// From now on the target is announced the other way round.
    pub(crate) fn move_portals(&mut self) -> Result<()> {
        self.stop(CinderVolume)?;
        self.announced.reverse();
        write_settings(&self.home, self.announced)?;
        self.start_again(CinderVolume)
    }

    /// Has a service stand still, as one does that hangs.
    pub(crate) fn freeze(&self, service: Service) -> Result<()> {
        self.running.get(&service).context("it does not run")?.freeze(true)
    }

    /// Has it go on.
    pub(crate) fn thaw(&self, service: Service) -> Result<()> {
        self.running.get(&service).context("it does not run")?.freeze(false)
    }

    /// Puts an image into a volume that nobody has attached yet.
    pub(crate) fn fill(&self, volume: &str, image: &Path) -> Result<()> {
        let path = self.home.join("volumes").join(format!("volume-{volume}"));
        let mut file = fs::File::options().write(true).open(path).context("the volume has no file")?;
        io::copy(&mut fs::File::open(image)?, &mut file)?;
        Ok(())
    }

    /// What each service has said at last, for whoever has to find out why a test failed.
    pub(crate) fn last_words(&self) -> String {
        let said = |(service, process): (&Service, &Process)| format!("{service:?}:\n{}\n", process.tail());
        self.running.iter().map(said).collect()
    }

    fn launch(&mut self, service: Service) -> Result<()> {
        let (name, program) = settings::program(&self.home, service);
        let process = Process::start_family(name, &program)?;
        let before = self.running.insert(service, process);
        ensure!(before.is_none(), "{name} was running already");
        Ok(())
    }

    fn await_ready(&mut self, service: Service) -> Result<()> {
        let process = self.running.get_mut(&service).context("it was not started")?;
        match service {
            RabbitMq => drop(process.wait_for(&["completed with"], LIMIT)?),
            CinderVolume => {
                for _ in 0..settings::BACK_ENDS {
                    process.wait_for(&["Driver post RPC initialization completed successfully"], LIMIT)?;
                }
            }
            CinderScheduler => {}
            Keystone => answers(process, "http://127.0.0.1:5000/v3")?,
            CinderApi => answers(process, "http://127.0.0.1:8776/")?,
        }
        Ok(())
    }
}

/// Waits until `condition` holds.
pub(crate) fn await_until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !condition()? {
        ensure!(Instant::now() < deadline, "waited {} s in vain for {what}", LIMIT.as_secs());
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Waits until something answers there.
fn answers(process: &mut Process, url: &str) -> Result<()> {
    let client = client::Http::new()?;
    await_until(url, || Ok(client.get(url).is_ok()))
        .with_context(|| format!("it said at last:\n{}", process.tail()))
}
