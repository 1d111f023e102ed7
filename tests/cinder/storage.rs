//! The premise of the other tests: a real Cinder, whose target admits initiators with the secret while a volume is
//! attached.

use anyhow::{Result, ensure};

use crate::Test;
use crate::fixture::Fixture;
use crate::lab::initiator::{LOGIN_OK, log_in};
use crate::lab::target::Account;

pub(crate) const TESTS: &[Test] =
    &[("a_login_needs_the_secret_and_an_attachment", a_login_needs_the_secret_and_an_attachment)];

const INITIATOR: &str = "iqn.2026-01.lab.volboot:initiator";

fn a_login_needs_the_secret_and_an_attachment(fixture: &mut Fixture) -> Result<()> {
    let owner = &fixture.owner;
    let volume = owner.create_volume("chap")?;
    let attachment = owner.reserve(&volume)?;
    ensure!(owner.status(&volume)? == "reserved");
    let connection = owner.connect(&attachment, INITIATOR)?;
    owner.await_status(&volume, "in-use")?;

    let text = |key: &str| connection[key].as_str().unwrap_or_default().to_owned();
    ensure!(text("target_portal") == fixture.cloud.portals()[0], "{connection}");
    let lun = connection["target_lun"].as_u64().unwrap_or_default();
    let try_login = |password: &str| {
        let account = Account { username: text("auth_username"), password: password.to_owned() };
        log_in(INITIATOR, &text("target_portal"), &text("target_iqn"), lun, Some(&account))
    };
    let secret = text("auth_password");
    ensure!(try_login(&secret)?.contains(LOGIN_OK), "login with the secret failed: {}", try_login(&secret)?);
    let guess = try_login("a wrong secret")?;
    ensure!(guess.contains("Authentication failure"), "login with a wrong secret: {guess}");

    owner.detach(&attachment)?;
    owner.await_status(&volume, "available")?;
    let late = try_login(&secret)?;
    ensure!(!late.contains(LOGIN_OK), "login after the detachment: {late}");
    ensure!(owner.attachments(&volume)?.is_empty());
    owner.delete_volume(&volume)
}
