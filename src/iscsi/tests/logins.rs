//! Logins: stages, CHAP, refusals.

use super::parameters;
use super::target::ScriptedTarget;
use crate::iscsi::login::{LoginParameters, LoginRefusal};
use crate::iscsi::{Error, Isid};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8").replace('\0', "\n")
}

#[test]
fn the_isid_is_of_type_random_and_the_session_is_new() {
    let request = ScriptedTarget::new(parameters()).request();
    assert_eq!(request.bytes::<6>(8), [0x80, 1, 2, 3, 4, 5]);
    assert_eq!(request.bytes::<2>(14), [0, 0], "TSIH 0 asks for a new session");
    assert_eq!(Isid::from_random([0xff; 5]).bytes()[0] >> 6, 0b10);
}

#[test]
fn chap_is_answered_and_the_secret_is_not_sent() {
    let mut target = ScriptedTarget::new(parameters());
    let first = target.request();
    assert_eq!((first.flags(), first.byte(0)), (0x81, 0x43));
    assert_eq!(
        text(first.data()),
        "InitiatorName=iqn.2017-08.org.example:web-1\nTargetName=iqn.2026-01.org.example:root\n\
         SessionType=Normal\nAuthMethod=CHAP,None\n"
    );
    target.answer_login(0x00, "TargetPortalGroupTag=1\0AuthMethod=CHAP\0").expect("a stage");
    assert_eq!(text(target.request().data()), "CHAP_A=5\n");
    let challenge = "CHAP_A=5\0CHAP_I=7\0CHAP_C=0x00112233445566778899aabbccddeeff\0";
    target.answer_login(0x00, challenge).expect("a challenge");
    let response = text(target.request().data());
    assert!(response.starts_with("CHAP_N=web-1\nCHAP_R=0x") && !response.contains("secret"), "{response}");
    target.answer_login(0x81, "").expect("authenticated");
    let operational = target.request();
    assert_eq!(operational.flags(), 0x87);
    assert!(text(operational.data()).contains("DataDigest=None\n"));
    target.answer_login(0x04, "HeaderDigest=None\0X-com.example.Key=1\0").expect("a negotiation");
    assert_eq!(text(target.request().data()), "X-com.example.Key=NotUnderstood\n");
    target.answer_login(0x87, "").expect("logged in");
    assert!(target.initiator.is_logged_in() && target.initiator.used_chap());
}

#[test]
fn a_login_text_may_come_in_parts() {
    let mut target = ScriptedTarget::new(parameters());
    target.request();
    target.answer_login(0x40, "AuthMe").expect("a part");
    let request = target.request();
    assert_eq!((request.flags(), request.data().len()), (0x00, 0));
    target.answer_login(0x00, "thod=CHAP\0").expect("the rest");
    assert_eq!(text(target.request().data()), "CHAP_A=5\n");
}

#[test]
fn a_target_without_chap_is_entered_without_the_secret() {
    let mut target = ScriptedTarget::new(parameters());
    target.request();
    target.answer_login(0x81, "AuthMethod=None\0").expect("a stage");
    target.request();
    target.answer_login(0x87, "").expect("logged in");
    assert!(target.initiator.is_logged_in() && !target.initiator.used_chap());
}

#[test]
fn refusals_and_redirections_carry_their_reason() {
    let mut target = ScriptedTarget::new(LoginParameters { chap: None, ..parameters() });
    assert!(text(target.request().data()).ends_with("AuthMethod=CHAP,None\n"));
    assert!(matches!(target.refuse(2, 1), Error::Refused(LoginRefusal::AUTHENTICATION)));
    assert_eq!(
        ScriptedTarget::new(parameters()).refuse(2, 3).to_string(),
        "target not found (iSCSI login status 0203)"
    );
    let mut target = ScriptedTarget::new(LoginParameters { chap: None, ..parameters() });
    let error = target.answer_login(0x00, "AuthMethod=CHAP\0").expect_err("no credentials");
    assert!(matches!(error, Error::CredentialsRequired));
    let mut target = ScriptedTarget::new(parameters());
    let redirect = crate::iscsi::pdu::Pdu::new(0x23, 0, b"TargetAddress=192.0.2.9:3260,1\0".to_vec());
    let error = target.send(redirect.with(36, &[1, 1])).expect_err("a redirection");
    assert!(matches!(error, Error::Redirected(address) if address == "192.0.2.9:3260,1"));
}

#[test]
fn logins_that_break_the_protocol_are_errors() {
    for (flags, text) in [
        (0x02, "AuthMethod=KRB5\0"),
        (0x82, ""),
        (0x00, "AuthMethod\0"),
        (0x00, "CHAP_A=7\0CHAP_I=1\0CHAP_C=0x00\0"),
        (0x81, "HeaderDigest=CRC32C\0"),
    ] {
        let mut target = ScriptedTarget::new(parameters());
        assert!(matches!(target.answer_login(flags, text), Err(Error::Protocol(_))), "{flags:x} {text}");
    }
    let mut target = ScriptedTarget::new(parameters());
    let end = (0..20).find_map(|_| target.answer_login(0x00, "").err());
    assert!(matches!(end, Some(Error::Protocol("the login does not end"))), "{end:?}");
}
