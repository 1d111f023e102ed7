//! Ends of runs, written by hand.

use jiff::Timestamp;
use uuid::Uuid;

use super::*;

fn record(id: Option<&str>, state: AttachmentState) -> Attachment {
    let record = Attachment::new(Uuid::nil(), "root", Uuid::nil(), Vec::new(), Timestamp::UNIX_EPOCH);
    Attachment { cinder_id: id.map(str::to_owned), state, ..record }
}

fn attachment(id: &str, status: &'static str) -> SeenAttachment {
    SeenAttachment { id: id.to_owned(), volume: "root".to_owned(), status }
}

#[test]
fn each_record_has_its_attachment_and_each_attachment_its_record() {
    use AttachmentState::{Attached, Detaching, Intended, Reserved};
    let attached = || record(Some("a"), Attached);
    let check = |records: &[Attachment], attachments: &[SeenAttachment]| {
        check_attachments(records, attachments).err().unwrap_or_default()
    };
    assert_eq!(check(&[], &[]), "");
    assert_eq!(check(&[attached()], &[attachment("a", "attached")]), "");
    assert_eq!(check(&[record(Some("a"), Reserved)], &[attachment("a", "reserved")]), "");
    for (records, attachments, fault) in [
        (vec![], vec![attachment("a", "reserved")], "orphan"),
        (vec![attached()], vec![], "is not in Cinder"),
        (vec![attached()], vec![attachment("a", "attaching")], "attaching in Cinder"),
        (
            vec![attached()],
            vec![attachment("a", "attached"), attachment("b", "reserved")],
            "b of volume root",
        ),
        (vec![attached(), attached()], vec![attachment("a", "attached")], "has 2 records"),
        (vec![record(None, Intended)], vec![], "has no attachment"),
        (vec![record(Some("a"), Detaching)], vec![attachment("a", "attached")], "attached in Cinder"),
        (
            vec![Attachment { pending_export: true, ..attached() }],
            vec![attachment("a", "attached")],
            "attached in Cinder",
        ),
        (
            vec![attached()],
            vec![SeenAttachment { volume: "data".to_owned(), ..attachment("a", "attached") }],
            "is recorded for volume root",
        ),
    ] {
        let found = check(&records, &attachments);
        assert!(found.contains(fault), "{fault}: {found}");
    }
}

#[test]
fn no_node_keeps_a_volume_that_it_has_lost() {
    let attached = [record(Some("a"), AttachmentState::Attached)];
    assert_eq!(check_wanted(&attached, &[(Uuid::nil(), "root".to_owned())].into()), Ok(()));
    for named in [
        BTreeSet::new(),
        [(Uuid::nil(), "data".to_owned())].into(),
        [(Uuid::max(), "root".to_owned())].into(),
    ] {
        assert!(check_wanted(&attached, &named).is_err(), "{named:?}");
    }
}

#[test]
fn each_machine_boots_or_has_a_reason() {
    let session = |end, must_boot| [LastSession { node: "web-1".to_owned(), end, must_boot }];
    let refused = || SessionEnd::NotBooted("maintenance is set".to_owned());
    assert_eq!(check_sessions(&session(SessionEnd::Booted, true)), Ok(()));
    assert_eq!(check_sessions(&session(refused(), false)), Ok(()));
    assert!(check_sessions(&session(refused(), true)).is_err());
    assert!(check_sessions(&session(SessionEnd::NotBooted(String::new()), false)).is_err());
}
