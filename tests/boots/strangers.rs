//! What the other tests rest on: the lab's storage lets in nobody but the initiator it was told about, with
//! its secret.

use anyhow::{Result, ensure};

use crate::lab;
use crate::lab::initiator::{LET_IN, log_in};
use crate::lab::target::{Account, Export, LUN, portal};
use crate::lab::volume::Volume;
use crate::site::{INITIATOR, storage};

#[test]
fn the_storage_turns_away_another_name_and_a_wrong_secret() -> Result<()> {
    lab::run(|lab| {
        let export = Export::new(&Volume::data(lab, "alpha")?, INITIATOR);
        let _storage = storage(lab, &[&export])?;

        let welcome = read_capacity(&export, INITIATOR, &export.account.password)?;
        ensure!(welcome.contains(LET_IN), "the right initiator was told: {welcome}");
        let stranger = read_capacity(&export, "iqn.2026-01.lab.volboot:stranger", &export.account.password)?;
        ensure!(stranger.contains("Target not found"), "another initiator was told: {stranger}");
        let guess = read_capacity(&export, INITIATOR, "a wrong secret")?;
        ensure!(guess.contains("Authentication failure"), "a wrong secret was answered: {guess}");
        Ok(())
    })
}

fn read_capacity(export: &Export, initiator: &str, password: &str) -> Result<String> {
    let account = Account { password: password.to_owned(), ..export.account.clone() };
    log_in(initiator, &portal(), &export.iqn, LUN.into(), Some(&account))
}
