//! Golden files for every kind of script, and the proof that no value can change what a script means.

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::config::WhenAway;
use crate::model::{Lun, Mac, Volume};

const CONFIG: BootConfig = BootConfig {
    unknown: Afterwards::Exit,
    refused: Afterwards::Exit,
    tries: 10,
    verify_mac: false,
    when_cinder_is_away: WhenAway::LastKnown,
    last_known_max_age: Duration::from_secs(60),
};

fn asker() -> Asker {
    Asker {
        platform: Some(Platform::Uefi),
        arch: Some("x86_64".into()),
        uuid: Some(Uuid::from_u128(0x2f1d_cbe7)),
        journey: Some("5ca1ab1e5ca1ab1e".into()),
        attempt: 2,
        ..Asker::new(mac(1)).with_macs([mac(1), mac(2)])
    }
}

fn mac(last: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, last])
}

fn path(portal: &str, lun: u64, name: &str) -> SanUri {
    SanUri {
        portal: portal.parse().expect("a portal"),
        lun: Lun::new(lun),
        target: format!("iqn.2010-10.org.openstack:{name}").parse().expect("a name"),
    }
}

fn chap(username: &str, password: &str) -> Chap {
    Chap { username: username.into(), password: password.into() }
}

fn volume(id: &str, paths: Vec<SanUri>, chap: Option<Chap>) -> Volume {
    Volume { id: id.into(), paths, chap }
}

fn plan(boot: Volume, data: Vec<Volume>) -> BootPlan {
    BootPlan {
        node: Uuid::nil(),
        label: "web-1".into(),
        initiator: "iqn.2017-08.org.openstack.web-1".parse().expect("a name"),
        boot,
        data,
        loader: None,
        notes: vec![],
    }
}

fn simple() -> BootPlan {
    plan(volume("root", vec![path("192.0.2.1", 1, "root")], Some(chap("u", "p#${x} \\"))), vec![])
}

fn rendered(given: &Answer, asker: &Asker, config: BootConfig) -> String {
    answer(given, asker, config).expect("is written").into_text()
}

/// Compares with `tests/golden/scripts/NAME`; with `BLESS=1` in the environment, writes it.
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scripts").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("is made");
        std::fs::write(&path, text).expect("is written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name} differs; BLESS=1 accepts this:\n{text}");
}

#[test]
fn the_script_for_everybody() {
    golden("gather.ipxe", &gather("", Journey(0x5ca1_ab1e_5ca1_ab1e)).expect("is written").into_text());
    golden(
        "gather-over-tftp.ipxe",
        &gather("http://192.0.2.1:8080/", Journey(0x5ca1_ab1e_5ca1_ab1e)).expect("is written").into_text(),
    );
}

#[test]
fn boot_from_one_volume() {
    golden("boot.ipxe", &rendered(&Answer::Boot(Box::new(simple())), &asker(), CONFIG));
}

#[test]
fn boot_from_one_of_several_volumes_with_several_paths_and_a_loader() {
    let boot = volume(
        "root",
        vec![path("192.0.2.1", 10, "root"), path("[2001:db8::1]:3261", 10, "root")],
        Some(chap("u", "secret")),
    );
    let open = volume("logs", vec![path("san.example.org", 0, "logs")], None);
    let data = volume("data", vec![path("192.0.2.3", 2, "data")], Some(chap("v", "other")));
    let loader = Some(r"\EFI\debian\shimx64.efi".parse().expect("a path"));
    let plan = BootPlan { loader, ..plan(boot, vec![open, data]) };
    let answer = Answer::Boot(Box::new(plan));
    golden("boot-several.ipxe", &rendered(&answer, &asker(), CONFIG));
    let bios = Asker { platform: Some(Platform::Bios), ..asker() };
    golden("boot-several-bios.ipxe", &rendered(&answer, &bios, CONFIG));
}

#[test]
fn the_last_try() {
    let last = Asker { attempt: 10, ..asker() };
    golden("boot-last-try.ipxe", &rendered(&Answer::Boot(Box::new(simple())), &last, CONFIG));
}

#[test]
fn every_other_answer() {
    let reason = String::from("node web-1 is in maintenance: new disk");
    golden("wait.ipxe", &rendered(&Answer::Wait { reason: reason.clone(), seconds: 7 }, &asker(), CONFIG));
    golden("local-disk.ipxe", &rendered(&Answer::LocalDisk { reason: reason.clone() }, &asker(), CONFIG));
    golden("refuse.ipxe", &rendered(&Answer::Refuse { reason: reason.clone() }, &asker(), CONFIG));
    let unknown = Answer::Unknown { reason };
    golden("unknown-exit.ipxe", &rendered(&unknown, &asker(), CONFIG));
    let retry = BootConfig { unknown: Afterwards::Retry, ..CONFIG };
    golden("unknown-retry.ipxe", &rendered(&unknown, &Asker::new(mac(1)), retry));
    let shell = BootConfig { unknown: Afterwards::Shell, ..CONFIG };
    golden("unknown-shell.ipxe", &rendered(&unknown, &asker(), shell));
}

/// The words that a script of this shape always has, with placeholders for the values.
fn shape(script: &str, values: &[&str]) -> Vec<Vec<String>> {
    let is_text = |words: &[String]| words.first().is_some_and(|word| word == "echo");
    let mut lines = tokens::lines(script);
    for words in &mut lines {
        if is_text(words) {
            // `echo` takes any number of words; what matters is that none of them is more than a word.
            for word in words.iter().skip(1) {
                assert!(!["||", "&&", ";"].contains(&word.as_str()), "{word} on the console");
                for name in tokens::expansions(word) {
                    assert!(["rc", "step"].contains(&name.as_str()), "{name} is expanded");
                }
            }
            words.truncate(2);
        }
        for word in words.iter_mut() {
            if values.contains(&word.as_str()) {
                *word = "<value>".into();
            }
        }
    }
    lines
}

fn hex(text: &str) -> String {
    Hex(text.into()).to_string()
}

/// Texts of what means something to iPXE, which random characters would hardly ever be.
fn treacherous() -> impl Strategy<Value = String> {
    let pieces =
        ["#", ";", "||", "&&", "\\", "$", "{", "}", "${rc}", " ", "\n", "\r", "\t", "a", "-", ":", "é"];
    let made = proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..16);
    prop_oneof![made.prop_map(|pieces| pieces.concat()), any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever names, secrets and places come in: either a type refuses them, or the script has exactly the lines
    /// and words of the simplest one, and the values stand in it whole.
    #[test]
    fn no_value_can_add_a_word_a_comment_or_a_line(
        label in treacherous(),
        id in treacherous(),
        suffix in prop_oneof!["[-a-zA-Z0-9.:_]{0,24}", "[-a-zA-Z0-9.:_ #$|&;{}\\\\\n\r\t\"']{0,24}"],
        portal in prop_oneof![
            Just("192.0.2.1:3260".to_owned()), Just("[2001:db8::1]:1".to_owned()), "[-a-z0-9.:\\[\\] #${}\n]{1,30}",
        ],
        lun in any::<u64>(),
        username in "[^\0]{1,40}",
        password in "[^\0]{1,40}",
        loader in prop_oneof![Just("\\EFI\\a.efi".to_owned()), "[\\\\/a-zA-Z0-9. #$|&;{}\n]{1,30}"],
    ) {
        let target = format!("iqn.2010-10.org.openstack:{suffix}");
        let (Ok(portal), Ok(target), Ok(loader)) = (portal.parse(), target.parse::<Iqn>(), loader.parse()) else {
            return Ok(());
        };
        let uri = SanUri { portal, lun: Lun::new(lun), target: target.clone() };
        let chap = Chap { username: username.clone(), password: password.clone().into() };
        let given = BootPlan {
            label,
            initiator: target.clone(),
            loader: Some(loader),
            ..plan(volume(&id, vec![uri.clone()], Some(chap)), vec![])
        };
        let loader = given.loader.as_ref().expect("was set").to_string();
        let mut simplest = BootPlan { loader: Some("\\EFI\\a.efi".parse().expect("a path")), ..simple() };
        // An IPv6 portal comes with a warning, so both have the same one.
        simplest.boot.paths[0].portal = uri.portal.clone();
        let first = &simplest.boot.paths[0].to_string();
        let expected = shape(
            &rendered(&Answer::Boot(Box::new(simplest.clone())), &asker(), CONFIG),
            &["iqn.2017-08.org.openstack.web-1", first, &hex("u"), &hex("p#${x} \\"), "\\EFI\\a.efi"],
        );
        let got = shape(
            &rendered(&Answer::Boot(Box::new(given)), &asker(), CONFIG),
            &[target.as_str(), &uri.to_string(), &hex(&username), &hex(&password), &loader],
        );
        prop_assert_eq!(got, expected);
    }

    /// A reason may be any text: it stays on its line.
    #[test]
    fn no_reason_can_be_more_than_a_text(reason in treacherous()) {
        for given in [
            Answer::Wait { reason: reason.clone(), seconds: 1 },
            Answer::Refuse { reason: reason.clone() },
            Answer::LocalDisk { reason: reason.clone() },
        ] {
            let plain = match given {
                Answer::Wait { .. } => Answer::Wait { reason: "x".into(), seconds: 1 },
                Answer::Refuse { .. } => Answer::Refuse { reason: "x".into() },
                _ => Answer::LocalDisk { reason: "x".into() },
            };
            let got = shape(&rendered(&given, &asker(), CONFIG), &[]);
            prop_assert_eq!(got, shape(&rendered(&plain, &asker(), CONFIG), &[]));
        }
    }
}

#[test]
fn a_script_shows_its_secrets_to_no_log() {
    let script = answer(&Answer::Boot(Box::new(simple())), &asker(), CONFIG).expect("is written");
    assert!(!format!("{script:?} {:?}", simple()).contains(&hex("p#${x} \\")));
    assert!(!format!("{:?}", simple()).contains("p#"));
}
