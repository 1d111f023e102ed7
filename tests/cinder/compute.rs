//! Nova's compute service for one instance: `nova/compute.py` with Nova's own driver for Ironic, in a process of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::lab::Lab;
use crate::lab::cinder::python;

/// The time limit of a step, even on a busy host. The first step includes the imports of Nova.
const LIMIT: Duration = Duration::from_secs(150);

/// A running compute service; killed when it is dropped.
pub(crate) struct Compute {
    process: Child,
    steps: ChildStdin,
    results: Receiver<String>,
    log: PathBuf,
}

impl Compute {
    /// Starts the service for a node, with a volume and the id of the server that the instance is.
    pub(crate) fn start(lab: &Lab, node: &str, volume: &str, server: &str) -> Result<Self> {
        let home = lab.path().join("nova");
        fs::create_dir_all(&home)?;
        let config = home.join("nova.conf");
        let text = include_str!("nova/nova.conf").replace("@HOME@", &home.display().to_string());
        fs::write(&config, text)?;
        let log = home.join("nova.log");
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cinder/nova/compute.py");
        let mut command = python();
        command.arg(script).arg(config).args([node, volume, server]);
        command.env("HOME", &home).env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut process = command.spawn().context("cannot start the compute service")?;
        let steps = process.stdin.take().context("no input")?;
        let output = BufReader::new(process.stdout.take().context("no output")?);
        let (sender, results) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, steps, results, log })
    }

    /// Performs a step; returns its value. An error is the step's.
    pub(crate) fn perform(&mut self, step: &str) -> Result<Value> {
        writeln!(self.steps, "{step}").with_context(|| self.tail())?;
        let line = self.results.recv_timeout(LIMIT).map_err(|error| anyhow!("{error}: {}", self.tail()))?;
        let mut result: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        if result["ok"] != true {
            bail!("{}", result["error"].as_str().unwrap_or_default());
        }
        Ok(result["value"].take())
    }

    /// The end of Nova's log.
    pub(crate) fn tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
