//! What the other tests rest on: the lab's storage lets in nobody but the initiator it was told about, with
//! its secret.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::lab;
use crate::lab::target::{Export, LUN, portal};
use crate::lab::volume::Volume;
use crate::site::{INITIATOR, storage};

#[test]
fn the_storage_turns_away_another_name_and_a_wrong_secret() -> Result<()> {
    lab::run(|lab| {
        let export = Export::new(&Volume::data(lab, "alpha")?, INITIATOR);
        let _storage = storage(lab, &[&export])?;

        let welcome = read_capacity(&export, INITIATOR, &export.account.password)?;
        ensure!(welcome.contains("LOGICAL BLOCK LENGTH"), "the right initiator was told: {welcome}");
        let stranger = read_capacity(&export, "iqn.2026-01.lab.volboot:stranger", &export.account.password)?;
        ensure!(stranger.contains("Target not found"), "another initiator was told: {stranger}");
        let guess = read_capacity(&export, INITIATOR, "a wrong secret")?;
        ensure!(guess.contains("Authentication failure"), "a wrong secret was answered: {guess}");
        Ok(())
    })
}

/// Logs in as `initiator` and says what came of it.
fn read_capacity(export: &Export, initiator: &str, password: &str) -> Result<String> {
    let user = &export.account.username;
    let url = format!("iscsi://{}/{}/{LUN}", portal(), export.iqn);
    let mut command = Command::new("iscsi-readcapacity16");
    command.env("LIBISCSI_CHAP_USERNAME", user).env("LIBISCSI_CHAP_PASSWORD", password);
    let output = command.args(["--initiator-name", initiator, &url]).output();
    let output = output.context("cannot run iscsi-readcapacity16 (package libiscsi-bin)")?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
