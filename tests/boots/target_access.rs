//! Checks a premise of the other tests: the lab's target accepts only the configured initiator with its secret.

use anyhow::{Result, ensure};

use crate::lab;
use crate::lab::initiator::{LOGIN_OK, log_in};
use crate::lab::target::{Account, Export, LUN, portal};
use crate::lab::volume::Volume;
use crate::site::{INITIATOR, start_storage};

#[test]
fn target_rejects_another_initiator_and_a_wrong_secret() -> Result<()> {
    lab::run(|lab| {
        let export = Export::new(&Volume::data(lab, "alpha")?, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;

        let accepted = read_capacity(&export, INITIATOR, &export.account.password)?;
        ensure!(accepted.contains(LOGIN_OK), "the configured initiator: {accepted}");
        let rejected = read_capacity(&export, "iqn.2026-01.lab.volboot:other", &export.account.password)?;
        ensure!(rejected.contains("Target not found"), "another initiator: {rejected}");
        let rejected = read_capacity(&export, INITIATOR, "a wrong secret")?;
        ensure!(rejected.contains("Authentication failure"), "a wrong secret: {rejected}");
        Ok(())
    })
}

fn read_capacity(export: &Export, initiator: &str, password: &str) -> Result<String> {
    let account = Account { password: password.to_owned(), ..export.account.clone() };
    log_in(initiator, &portal(), &export.iqn, LUN.into(), Some(&account))
}
