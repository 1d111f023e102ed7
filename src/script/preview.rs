//! The script that a machine would get, for people: without the secrets it would hold.

use secrecy::SecretString;

use super::{ScriptError, answer};
use crate::config::BootConfig;
use crate::model::{Answer, Asker, BootPlan, Chap, Volume};

/// How a line that sets a secret begins.
const SECRETS: [&str; 2] = ["set password:hex ", "set reverse-password:hex "];
/// What stands in the place of a secret, as in Ironic's API.
const MASK: &str = "******";

/// The text of an answer's script. No secret is in it at any time: what is written is a plan that has none.
pub fn preview(decided: &Answer, asker: &Asker, config: BootConfig) -> Result<String, ScriptError> {
    let script = match decided {
        Answer::Boot(plan) => answer(&Answer::Boot(Box::new(masked(plan))), asker, config)?,
        other => answer(other, asker, config)?,
    };
    let lines = script.into_text();
    let lines = lines.lines().map(|line| match SECRETS.iter().find(|begin| line.starts_with(**begin)) {
        Some(begin) => format!("{begin}{MASK}\n"),
        None => format!("{line}\n"),
    });
    Ok(lines.collect())
}

fn masked(plan: &BootPlan) -> BootPlan {
    let mut plan = plan.clone();
    for volume in std::iter::once(&mut plan.boot).chain(&mut plan.data) {
        mask(volume);
    }
    plan
}

/// How much room there is for volumes depends on how long their secrets are.
fn mask(volume: &mut Volume) {
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
    fn a_preview_is_the_script_without_its_secrets() {
        let volume = |id: &str, password: &str| Volume {
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
        };
        let (asker, config) = (Asker::new(Mac::new([2, 0, 0, 0, 0, 1])), Config::default().boot);
        let decided = Answer::Boot(Box::new(plan));
        let sent = answer(&decided, &asker, config).expect("is written").into_text();
        let shown = preview(&decided, &asker, config).expect("is written");
        let hex =
            |secret: &str| secret.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
        let expected = sent.replace(&hex("hunter2"), MASK).replace(&hex("swordfish"), MASK);
        assert_eq!(shown, expected);
        assert_eq!(shown.matches(MASK).count(), sent.matches("set password:hex").count());
        assert!(shown.contains("set username:hex 75:73:65:72\n"));
    }
}
