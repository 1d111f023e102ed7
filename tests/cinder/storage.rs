//! What the other tests rest on: this is a real Cinder, and its target lets in who has the secret, while it is attached.

use anyhow::{Result, ensure};

use crate::Test;
use crate::ground::Ground;
use crate::lab::initiator::{LET_IN, log_in};
use crate::lab::target::Account;

pub(crate) const TESTS: &[Test] = &[(
    "a_volume_lets_in_who_has_its_secret_and_only_while_it_is_attached",
    a_volume_lets_in_who_has_its_secret_and_only_while_it_is_attached,
)];

const INITIATOR: &str = "iqn.2026-01.lab.volboot:somebody";

fn a_volume_lets_in_who_has_its_secret_and_only_while_it_is_attached(ground: &mut Ground) -> Result<()> {
    let owner = &ground.owner;
    let volume = owner.create_volume("chap")?;
    let attachment = owner.reserve(&volume)?;
    ensure!(owner.status(&volume)? == "reserved");
    let connection = owner.connect(&attachment, INITIATOR)?;
    owner.await_status(&volume, "in-use")?;

    let text = |key: &str| connection[key].as_str().unwrap_or_default().to_owned();
    ensure!(text("target_portal") == ground.cloud.portals()[0], "{connection}");
    let lun = connection["target_lun"].as_u64().unwrap_or_default();
    let read = |password: &str| {
        let account = Account { username: text("auth_username"), password: password.to_owned() };
        log_in(INITIATOR, &text("target_portal"), &text("target_iqn"), lun, Some(&account))
    };
    let secret = text("auth_password");
    ensure!(read(&secret)?.contains(LET_IN), "the secret was answered: {}", read(&secret)?);
    let guess = read("a wrong secret")?;
    ensure!(guess.contains("Authentication failure"), "a wrong secret was answered: {guess}");

    owner.detach(&attachment)?;
    owner.await_status(&volume, "available")?;
    let late = read(&secret)?;
    ensure!(!late.contains(LET_IN), "after its end it was answered: {late}");
    ensure!(owner.attachments(&volume)?.is_empty());
    owner.delete_volume(&volume)
}
