//! Golden files for every kind of script, and property tests that no value can change a script's meaning.

use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::config::{OutagePolicy, PreflightMode, StoreOutagePolicy};
use crate::model::{BootVolume, Lun, Mac, Platform};

const CONFIG: BootConfig = BootConfig {
    unknown: FailureAction::Exit,
    refused: FailureAction::Exit,
    tries: 10,
    when_cinder_is_away: OutagePolicy::LastKnown,
    when_store_is_away: StoreOutagePolicy::Verify,
    preflight: PreflightMode::Portals,
    last_known_max_age: Duration::from_secs(60),
    fallback_after: 3,
    fallback_min_uptime: Duration::from_secs(300),
    window: None,
    window_reboot: false,
};

fn boot_request() -> BootRequest {
    BootRequest {
        platform: Some(Platform::Uefi),
        arch: Some("x86_64".into()),
        uuid: Some(Uuid::from_u128(0x2f1d_cbe7)),
        journey: Some("5ca1ab1e5ca1ab1e".into()),
        attempt: 2,
        ..BootRequest::new(mac(1)).with_macs([mac(1), mac(2)])
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

fn volume(id: &str, paths: Vec<SanUri>, chap: Option<Chap>) -> BootVolume {
    BootVolume { id: id.into(), paths, chap }
}

fn plan(boot: BootVolume, data: Vec<BootVolume>) -> BootPlan {
    BootPlan {
        node: Uuid::nil(),
        label: "web-1".into(),
        initiator: "iqn.2017-08.org.openstack.web-1".parse().expect("a name"),
        boot,
        data,
        loader: None,
        notes: vec![],
        once: None,
        portal_notes: vec![],
    }
}

fn simple() -> BootPlan {
    plan(volume("root", vec![path("192.0.2.1", 1, "root")], Some(chap("u", "p#${x} \\"))), vec![])
}

fn render_text(answer: &BootAnswer, request: &BootRequest, config: BootConfig) -> String {
    build_script(answer, request, config).expect("the script is built").into_text()
}

/// Compares with `tests/golden/scripts/NAME`; with `BLESS=1` in the environment, writes it.
fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scripts").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("the directory is created");
        std::fs::write(&path, text).expect("the golden file is written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name} differs; BLESS=1 accepts this:\n{text}");
}

#[test]
fn gather_script() {
    golden(
        "gather.ipxe",
        &build_gather("", Journey(0x5ca1_ab1e_5ca1_ab1e)).expect("the script is built").into_text(),
    );
    golden(
        "gather-over-tftp.ipxe",
        &build_gather("http://192.0.2.1:8080/", Journey(0x5ca1_ab1e_5ca1_ab1e))
            .expect("the script is built")
            .into_text(),
    );
}

#[test]
fn boot_from_one_volume() {
    golden("boot.ipxe", &render_text(&BootAnswer::Boot(Box::new(simple())), &boot_request(), CONFIG));
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
    let answer = BootAnswer::Boot(Box::new(plan));
    golden("boot-several.ipxe", &render_text(&answer, &boot_request(), CONFIG));
    let bios = BootRequest { platform: Some(Platform::Bios), ..boot_request() };
    golden("boot-several-bios.ipxe", &render_text(&answer, &bios, CONFIG));
}

#[test]
fn boot_after_a_full_ibft() {
    let bios = BootRequest {
        platform: Some(Platform::Bios),
        host_name_bytes: Some(59),
        max_ibft_entries: Some(0),
        ..boot_request()
    };
    golden("boot-outside-ibft.ipxe", &render_text(&BootAnswer::Boot(Box::new(simple())), &bios, CONFIG));
    let wait = BootAnswer::Wait { reason: "the volume is not ready".into(), seconds: 7 };
    assert!(render_text(&wait, &bios, CONFIG).contains("&max_ibft_entries=0&"));
}

#[test]
fn boot_script_of_the_last_try() {
    let last = BootRequest { attempt: 10, ..boot_request() };
    golden("boot-last-try.ipxe", &render_text(&BootAnswer::Boot(Box::new(simple())), &last, CONFIG));
}

#[test]
fn scripts_of_other_answers() {
    let reason = String::from("node web-1: maintenance is set (new disk)");
    golden(
        "wait.ipxe",
        &render_text(&BootAnswer::Wait { reason: reason.clone(), seconds: 7 }, &boot_request(), CONFIG),
    );
    golden(
        "local-disk.ipxe",
        &render_text(&BootAnswer::LocalDisk { reason: reason.clone() }, &boot_request(), CONFIG),
    );
    golden(
        "refuse.ipxe",
        &render_text(&BootAnswer::Refused { reason: reason.clone() }, &boot_request(), CONFIG),
    );
    let unknown = BootAnswer::Unknown { reason };
    golden("unknown-exit.ipxe", &render_text(&unknown, &boot_request(), CONFIG));
    let retry = BootConfig { unknown: FailureAction::Retry, ..CONFIG };
    golden("unknown-retry.ipxe", &render_text(&unknown, &BootRequest::new(mac(1)), retry));
    let shell = BootConfig { unknown: FailureAction::Shell, ..CONFIG };
    golden("unknown-shell.ipxe", &render_text(&unknown, &boot_request(), shell));
}

#[test]
fn scripts_of_one_time_boots() {
    let once = BootPlan { once: Some("target iqn.2010-10.org.example:rescue".into()), ..simple() };
    golden("boot-once.ipxe", &render_text(&BootAnswer::Boot(Box::new(once)), &boot_request(), CONFIG));
    let reason = "node web-1: one-time boot from http://192.0.2.1/rescue.ipxe?a=1&b=2".to_owned();
    let url = "http://192.0.2.1/rescue.ipxe?a=1&b=2".parse().expect("a URL");
    let url = BootAnswer::Url { reason, url };
    golden("url.ipxe", &render_text(&url, &boot_request(), CONFIG));
    let last = render_text(&url, &BootRequest { attempt: 10, ..boot_request() }, CONFIG);
    assert!(
        last.ends_with("gave up after 10 tries, continuing with the next boot device\nexit 1\n"),
        "{last}"
    );
    let shell = BootAnswer::Shell { reason: "node web-1: maintenance is set (new disk)".into() };
    golden("unknown-shell.ipxe", &render_text(&shell, &boot_request(), CONFIG));
}

/// Splits a script into words, with placeholders for the values.
fn shape(script: &str, values: &[&str]) -> Vec<Vec<String>> {
    let is_text = |words: &[String]| words.first().is_some_and(|word| word == "echo");
    let mut lines = tokens::lines(script);
    for words in &mut lines {
        if is_text(words) {
            // `echo` takes any number of words, but none of them may be an operator or expand.
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

/// Texts of iPXE's special characters, which random text would rarely contain.
fn ipxe_syntax() -> impl Strategy<Value = String> {
    let pieces =
        ["#", ";", "||", "&&", "\\", "$", "{", "}", "${rc}", " ", "\n", "\r", "\t", "a", "-", ":", "é"];
    let texts = proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..16);
    prop_oneof![texts.prop_map(|pieces| pieces.concat()), any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any names, secrets and portals: either a type rejects them, or the script has exactly the lines and words
    /// of the simplest script, and contains each value as one word.
    #[test]
    fn no_value_can_add_a_word_a_comment_or_a_line(
        label in ipxe_syntax(),
        id in ipxe_syntax(),
        prefix in prop_oneof![Just("iqn.2010-10.org.openstack:"), Just("")],
        suffix in prop_oneof!["[-a-zA-Z0-9.:_]{0,24}", "[-a-zA-Z0-9.:_ #$|&;{}\\\\\n\r\t\"']{0,24}"],
        portal in prop_oneof![
            Just("192.0.2.1:3260".to_owned()), Just("[2001:db8::1]:1".to_owned()), "[-a-z0-9.:\\[\\] #${}\n]{1,30}",
        ],
        lun in any::<u64>(),
        username in "[^\0]{1,40}",
        password in "[^\0]{1,40}",
        loader in prop_oneof![Just("\\EFI\\a.efi".to_owned()), "[\\\\/a-zA-Z0-9. #$|&;{}\n]{1,30}"],
    ) {
        let initiator = format!("iqn.2010-10.org.openstack:{suffix}").parse::<Iqn>();
        let target = format!("{prefix}{suffix}").parse();
        let (Ok(portal), Ok(initiator), Ok(target), Ok(loader)) = (portal.parse(), initiator, target, loader.parse()) else {
            return Ok(());
        };
        let uri = SanUri { portal, lun: Lun::new(lun), target };
        let chap = Chap { username: username.clone(), password: password.clone().into() };
        let plan = BootPlan {
            label,
            initiator: initiator.clone(),
            loader: Some(loader),
            ..plan(volume(&id, vec![uri.clone()], Some(chap)), vec![])
        };
        let loader = plan.loader.as_ref().expect("the loader is set").to_string();
        let mut simplest = BootPlan { loader: Some("\\EFI\\a.efi".parse().expect("a path")), ..simple() };
        // An IPv6 portal adds a warning, so both plans have the same portal.
        simplest.boot.paths[0].portal = uri.portal.clone();
        let first = &simplest.boot.paths[0].to_string();
        let expected = shape(
            &render_text(&BootAnswer::Boot(Box::new(simplest.clone())), &boot_request(), CONFIG),
            &["iqn.2017-08.org.openstack.web-1", first, &hex("u"), &hex("p#${x} \\"), "\\EFI\\a.efi"],
        );
        let got = shape(
            &render_text(&BootAnswer::Boot(Box::new(plan)), &boot_request(), CONFIG),
            &[initiator.as_str(), &uri.to_string(), &hex(&username), &hex(&password), &loader],
        );
        prop_assert_eq!(got, expected);
    }

    /// Any text as a reason stays within its line.
    #[test]
    fn no_reason_can_add_a_line(reason in ipxe_syntax()) {
        for answer in [
            BootAnswer::Wait { reason: reason.clone(), seconds: 1 },
            BootAnswer::Refused { reason: reason.clone() },
            BootAnswer::LocalDisk { reason: reason.clone() },
        ] {
            let plain = match answer {
                BootAnswer::Wait { .. } => BootAnswer::Wait { reason: "x".into(), seconds: 1 },
                BootAnswer::Refused { .. } => BootAnswer::Refused { reason: "x".into() },
                _ => BootAnswer::LocalDisk { reason: "x".into() },
            };
            let got = shape(&render_text(&answer, &boot_request(), CONFIG), &[]);
            prop_assert_eq!(got, shape(&render_text(&plain, &boot_request(), CONFIG), &[]));
        }
    }
}

#[test]
fn debug_output_hides_secrets() {
    let script = build_script(&BootAnswer::Boot(Box::new(simple())), &boot_request(), CONFIG)
        .expect("the script is built");
    assert!(!format!("{script:?} {:?}", simple()).contains(&hex("p#${x} \\")));
    assert!(!format!("{:?}", simple()).contains("p#"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any URL: either the type rejects it, or the script has the lines and words of another URL's.
    #[test]
    fn no_url_can_add_a_word_a_comment_or_a_line(
        url in prop_oneof![ipxe_syntax().prop_map(|text| format!("http://a/{text}")), "http://[!-~]{1,30}"],
    ) {
        let script = |url: &str| {
            let url = url.parse().ok()?;
            let answer = BootAnswer::Url { reason: "x".into(), url };
            Some(render_text(&answer, &boot_request(), CONFIG))
        };
        if let Some(text) = script(&url) {
            let simplest = script("http://b/").expect("a script");
            prop_assert_eq!(shape(&text, &[&url]), shape(&simplest, &["http://b/"]));
        }
    }
}
