//! A machine's question, from the path and query that iPXE sends.
//!
//! Strict about who asks, lenient about the rest: a card that is no Ethernet, a UUID of zeros or a platform of the
//! future must not keep a machine from booting.

use percent_encoding::percent_decode_str;

use crate::model::{Asker, MAX_MACS, Mac, MacError};

/// The longest query that is looked at. What eight cards, a UUID and some words need is a quarter of it.
const LONGEST_QUERY: usize = 2048;
/// The longest word that is kept from what a machine reports.
const LONGEST_WORD: usize = 32;

/// A question that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("in the path: {0}")]
    Mac(#[from] MacError),
    #[error("the query is longer than {LONGEST_QUERY} bytes")]
    TooLong,
}

/// Reads `/boot/<mac>?macs=…&uuid=…&platform=…&arch=…&journey=…&try=…`.
pub(super) fn asker(mac: &str, query: &str) -> Result<Asker, Malformed> {
    let pairs = pairs(query)?;
    let value = |key| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let macs = value("macs").unwrap_or_default().split(',').filter_map(|mac| mac.parse::<Mac>().ok());
    let macs: Vec<_> = macs.take(MAX_MACS).collect();
    // A card that is no Ethernet may have booted the machine: then it is known by its others.
    let through = mac.parse().or_else(|error| macs.first().copied().ok_or(error))?;
    let mut asker = Asker::new(through).with_macs(macs);
    asker.uuid = value("uuid").and_then(|uuid| uuid.parse::<uuid::Uuid>().ok()).filter(|uuid| !uuid.is_nil());
    asker.platform = value("platform").and_then(|platform| platform.parse().ok());
    asker.arch = value("arch").and_then(word);
    asker.journey = value("journey").and_then(word);
    asker.attempt = attempt(value("try"));
    Ok(asker)
}

/// What a machine reports: `/boot/<mac>/event?step=…&rc=…&try=…`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) mac: Mac,
    /// `hooked`, `hook-0`, `boot`, `up`, …
    pub(super) step: Option<String>,
    /// iPXE's error code, in hexadecimal.
    pub(super) rc: Option<String>,
    pub(super) attempt: u32,
}

impl Event {
    pub(super) fn read(mac: &str, query: &str) -> Result<Self, Malformed> {
        let pairs = pairs(query)?;
        let value = |key| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        Ok(Self {
            mac: mac.parse()?,
            step: value("step").and_then(word),
            rc: value("rc").and_then(word),
            attempt: attempt(value("try")),
        })
    }
}

/// `a=b&c=d`, decoded. Bytes that are no text are replaced: nothing we look for has any.
fn pairs(query: &str) -> Result<Vec<(String, String)>, Malformed> {
    if query.len() > LONGEST_QUERY {
        return Err(Malformed::TooLong);
    }
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Ok(query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect())
}

/// A short word of letters, digits, `-` and `_`, in lower case: safe in a script and in a log.
fn word(text: &str) -> Option<String> {
    let fits = (1..=LONGEST_WORD).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    fits.then(|| text.to_ascii_lowercase())
}

fn attempt(text: Option<&str>) -> u32 {
    text.and_then(|text| text.parse().ok()).filter(|attempt| *attempt > 0).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Platform;

    fn mac(last: u8) -> Mac {
        Mac::new([0x52, 0x54, 0, 0, 0, last])
    }

    #[test]
    fn a_question_as_ipxe_asks_it() {
        let query = "macs=52-54-00-00-00-01,52-54-00-00-00-02,,,,,,&uuid=2f1dcbe7-0000-0000-0000-000000000001\
                     &platform=efi&arch=x86_64&journey=5ca1ab1e5ca1ab1e&try=3";
        let expected = Asker {
            platform: Some(Platform::Uefi),
            arch: Some("x86_64".into()),
            uuid: "2f1dcbe7-0000-0000-0000-000000000001".parse().ok(),
            journey: Some("5ca1ab1e5ca1ab1e".into()),
            attempt: 3,
            ..Asker::new(mac(1)).with_macs([mac(2)])
        };
        assert_eq!(asker("52-54-00-00-00-01", query).expect("is read"), expected);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let query = "macs=80:00:02:08,nonsense,52%3A54%3A00%3A00%3A00%3A02&uuid=00000000-0000-0000-0000-000000000000\
                     &platform=riscv&arch=a%20b&try=-1&x&y=z=%ff";
        assert_eq!(asker("525400000001", query).expect("is read"), Asker::new(mac(1)).with_macs([mac(2)]));
        assert_eq!(asker("52:54:00:00:00:01", "").expect("is read"), Asker::new(mac(1)));
    }

    #[test]
    fn no_more_cards_are_looked_at_than_the_script_gathers() {
        let macs: Vec<_> = (0..40).map(|last| mac(last).hyphenated()).collect();
        let read = asker("52-54-00-00-00-ff", &format!("macs={}", macs.join(","))).expect("is read");
        assert_eq!(read.macs.len(), MAX_MACS + 1);
    }

    #[test]
    fn a_machine_that_booted_through_another_kind_of_card_is_known_by_its_others() {
        for through in ["80-00-02-08-fe-80-00-00", ""] {
            assert_eq!(asker(through, "macs=,52-54-00-00-00-02").expect("is read"), Asker::new(mac(2)));
        }
    }

    #[test]
    fn who_asks_must_be_clear() {
        assert!(matches!(asker("52-54-00-00-00", ""), Err(Malformed::Mac(_))));
        assert!(matches!(asker("52-54-00-00-00-01", &"x".repeat(3000)), Err(Malformed::TooLong)));
    }

    #[test]
    fn an_event_keeps_words_only() {
        let event = Event::read("52-54-00-00-00-01", "step=hook-0&rc=0x2C0D6039&try=2").expect("is read");
        let expected =
            Event { mac: mac(1), step: Some("hook-0".into()), rc: Some("0x2c0d6039".into()), attempt: 2 };
        assert_eq!(event, expected);
        let odd = Event::read("52-54-00-00-00-01", "step=%0Aforged%20line&rc=").expect("is read");
        assert_eq!(odd, Event { mac: mac(1), step: None, rc: None, attempt: 1 });
    }
}
