//! Builds the boot script for display, with secrets masked.

use secrecy::SecretString;

use super::{ScriptError, build_script};
use crate::config::BootConfig;
use crate::model::{BootAnswer, BootPlan, BootRequest, BootVolume, Chap};

/// The prefixes of lines that set a secret.
const SECRET_PREFIXES: [&str; 2] = ["set password:hex ", "set reverse-password:hex "];
/// Replaces a secret, as in Ironic's API.
const MASK: &str = "******";

/// Builds the text of an answer's script. Masks the plan before rendering, so no secret is ever in the text.
pub fn preview(
    answer: &BootAnswer,
    request: &BootRequest,
    config: BootConfig,
) -> Result<String, ScriptError> {
    let script = match answer {
        BootAnswer::Boot(plan) => {
            build_script(&BootAnswer::Boot(Box::new(mask_plan(plan))), request, config)?
        }
        other => build_script(other, request, config)?,
    };
    let lines = script.into_text();
    let lines =
        lines.lines().map(|line| match SECRET_PREFIXES.iter().find(|prefix| line.starts_with(**prefix)) {
            Some(prefix) => format!("{prefix}{MASK}\n"),
            None => format!("{line}\n"),
        });
    Ok(lines.collect())
}

fn mask_plan(plan: &BootPlan) -> BootPlan {
    let mut plan = plan.clone();
    for volume in std::iter::once(&mut plan.boot).chain(&mut plan.data) {
        mask_volume(volume);
    }
    plan
}

/// Keeps the length of the secret, since the layout of the iBFT depends on it.
fn mask_volume(volume: &mut BootVolume) {
    use secrecy::ExposeSecret as _;
    if let Some(Chap { password, .. }) = &mut volume.chap {
        let stars = "*".repeat(password.expose_secret().len());
        *password = SecretString::from(stars);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::config::Config;
    use crate::model::{Mac, SanUri};

    #[test]
    fn preview_is_the_script_with_masked_secrets() {
        let volume = |id: &str, password: &str| BootVolume {
            id: id.to_owned(),
            paths: vec![SanUri {
                portal: "192.0.2.1:3260".parse().expect("a portal"),
                lun: "1".parse().expect("a LUN"),
                target: "iqn.2010-10.org.openstack:root".parse().expect("an IQN"),
            }],
            chap: Some(Chap { username: "user".into(), password: SecretString::from(password.to_owned()) }),
        };
        let plan = BootPlan {
            node: Uuid::nil(),
            label: "web-1".into(),
            initiator: "iqn.2017-08.org.openstack.web-1".parse().expect("an IQN"),
            boot: volume("root", "hunter2"),
            data: vec![volume("data", "swordfish")],
            loader: None,
            notes: Vec::new(),
            once: None,
            portal_notes: Vec::new(),
        };
        let (request, config) = (BootRequest::new(Mac::new([2, 0, 0, 0, 0, 1])), Config::default().boot);
        let answer = BootAnswer::Boot(Box::new(plan));
        let sent = build_script(&answer, &request, config).expect("the script is built").into_text();
        let preview = preview(&answer, &request, config).expect("the script is built");
        let hex =
            |secret: &str| secret.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
        let expected = sent.replace(&hex("hunter2"), MASK).replace(&hex("swordfish"), MASK);
        assert_eq!(preview, expected);
        assert_eq!(preview.matches(MASK).count(), sent.matches("set password:hex").count());
        assert!(preview.contains("set username:hex 75:73:65:72\n"));
    }
}
