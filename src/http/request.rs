//! Parses boot requests and boot reports from the path and query that iPXE sends.
//!
//! Strict about the requester's MAC address, lenient about the rest: a card of an unknown kind, an all-zero UUID or an
//! unknown platform must not keep a machine from booting.

use crate::model::{BootRequest, BootStep, MAX_MACS, Mac, MacError};
use crate::telemetry::errno::{self, IbftFault};

/// Bytes of a query. Eight MAC addresses, a UUID and some words take a quarter of it.
const MAX_QUERY: usize = 2048;
/// Bytes of a word in a query.
const MAX_WORD: usize = 32;

/// A boot request or report that cannot be parsed. The text is also a line on the machine's console.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("cannot parse the path: {0}")]
    Mac(#[from] MacError),
    /// Neither the path nor the query has an address.
    #[error("the request names no network card; give this machine an iPXE binary with a driver for its card")]
    NoCard,
    /// A client that is not iPXE, or a shell, has read the URL from a script.
    #[error("the URL has a setting that iPXE did not expand; let iPXE fetch /boot.ipxe instead")]
    Unexpanded,
    #[error("the query is longer than {MAX_QUERY} bytes; let iPXE fetch /boot.ipxe instead")]
    QueryTooLong,
    #[error("format: expected json, dracut or initramfs-tools")]
    Format,
}

/// Parses the hardware address in a path.
fn parse_address(text: &str) -> Result<Mac, RequestError> {
    match text {
        "" => Err(RequestError::NoCard),
        text if text.contains("${") => Err(RequestError::Unexpanded),
        text => Ok(Mac::parse_hardware_address(text)?),
    }
}

/// Reads `/boot/<mac>?macs=…&more=…&uuid=…&platform=…&arch=…&hostname=…&journey=…&try=…`. A later try adds the failure of
/// the try before, as `ibft_entries=…&rc=…`, or a limit from earlier failures, as `max_ibft_entries=…`.
pub(super) fn parse_boot_request(mac: &str, query: &str) -> Result<BootRequest, RequestError> {
    let pairs = parse_query(query)?;
    let value = |key| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let macs =
        value("macs").unwrap_or_default().split(',').filter_map(|mac| Mac::parse_hardware_address(mac).ok());
    let macs: Vec<_> = macs.take(MAX_MACS).collect();
    // A boot card of another kind has no MAC address: the first of the other cards takes its place.
    let boot_mac = parse_address(mac).or_else(|error| macs.first().copied().ok_or(error))?;
    let mut request = BootRequest::new(boot_mac).with_macs(macs);
    request.has_more_cards = value("more").is_some_and(|more| !more.is_empty());
    request.uuid =
        value("uuid").and_then(|uuid| uuid.parse::<uuid::Uuid>().ok()).filter(|uuid| !uuid.is_nil());
    request.platform = value("platform").and_then(|platform| platform.parse().ok());
    request.arch = value("arch").and_then(parse_word);
    request.journey = value("journey").and_then(parse_word);
    request.attempt = parse_attempt(value("try"));
    request.host_name_bytes = value("hostname").map(str::len);
    let number = |key| value(key).and_then(|number| number.parse::<usize>().ok());
    request.max_ibft_entries = match value("rc").and_then(errno::find_ibft_fault) {
        Some(IbftFault::Full) => {
            number("ibft_entries").map(|entries| entries.saturating_sub(1)).or(number("max_ibft_entries"))
        }
        Some(IbftFault::Unsupported) => Some(0),
        None => number("max_ibft_entries"),
    };
    Ok(request)
}

/// A machine's report of one step: `/boot/<mac>/event?step=…&rc=…&try=…`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BootReport {
    pub(super) mac: Mac,
    pub(super) step: Option<BootStep>,
    /// iPXE's error code, in hexadecimal.
    pub(super) rc: Option<String>,
    pub(super) attempt: u32,
}

impl BootReport {
    /// Parses path and query; drops values that are not plain words.
    pub(super) fn parse(mac: &str, query: &str) -> Result<Self, RequestError> {
        let pairs = parse_query(query)?;
        let value = |key| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        Ok(Self {
            mac: parse_address(mac)?,
            step: value("step").and_then(parse_word).map(BootStep::from),
            rc: value("rc").and_then(parse_word),
            attempt: parse_attempt(value("try")),
        })
    }
}

/// The form in which an operating system requests what was recorded at its boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordedBootFormat {
    /// An object with all that is recorded.
    Json,
    /// The kernel arguments of dracut, on a line.
    Dracut,
    /// The kernel arguments of initramfs-tools, on a line.
    InitramfsTools,
}

/// Reads `/boot/<mac>/os?format=…`. Without a format, a client that accepts `text/plain` and no JSON gets dracut's.
pub(super) fn parse_recorded_boot_request(
    mac: &str,
    query: &str,
    accept: Option<&str>,
) -> Result<(Mac, RecordedBootFormat), RequestError> {
    let pairs = parse_query(query)?;
    let format = match pairs.iter().find(|(name, _)| name == "format").map(|(_, value)| value.as_str()) {
        Some("json") => RecordedBootFormat::Json,
        Some("dracut") => RecordedBootFormat::Dracut,
        Some("initramfs-tools") => RecordedBootFormat::InitramfsTools,
        Some(_) => return Err(RequestError::Format),
        None => match accept.map(str::to_ascii_lowercase) {
            Some(accept)
                if accept.contains("text/plain") && !accept.contains("json") && !accept.contains("*/*") =>
            {
                RecordedBootFormat::Dracut
            }
            Some(_) | None => RecordedBootFormat::Json,
        },
    };
    Ok((parse_address(mac)?, format))
}

/// Decodes `a=b&c=d`. Invalid UTF-8 is replaced, `+` is a space, and a key without `=` has an empty value: iPXE
/// sends none of these.
fn parse_query(query: &str) -> Result<Vec<(String, String)>, RequestError> {
    if query.len() > MAX_QUERY {
        return Err(RequestError::QueryTooLong);
    }
    Ok(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
}

/// A short word of letters, digits, `-` and `_`, in lower case: safe in a script and in a log.
fn parse_word(text: &str) -> Option<String> {
    let valid = (1..=MAX_WORD).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    valid.then(|| text.to_ascii_lowercase())
}

fn parse_attempt(text: Option<&str>) -> u32 {
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
    fn boot_request_of_ipxe() {
        let query = "macs=52-54-00-00-00-01,52-54-00-00-00-02,,,,,,&more=&uuid=2f1dcbe7-0000-0000-0000-000000000001\
                     &platform=efi&arch=x86_64&journey=5ca1ab1e5ca1ab1e&try=3";
        let expected = BootRequest {
            platform: Some(Platform::Uefi),
            arch: Some("x86_64".into()),
            uuid: "2f1dcbe7-0000-0000-0000-000000000001".parse().ok(),
            journey: Some("5ca1ab1e5ca1ab1e".into()),
            attempt: 3,
            ..BootRequest::new(mac(1)).with_macs([mac(2)])
        };
        assert_eq!(parse_boot_request("52-54-00-00-00-01", query).expect("parses"), expected);
    }

    #[test]
    fn unknown_values_are_dropped() {
        let query = "macs=80:00:02:08,nonsense,52%3A54%3A00%3A00%3A00%3A02&uuid=00000000-0000-0000-0000-000000000000\
                     &platform=riscv&arch=a%20b&try=-1&x&y=z=%ff";
        assert_eq!(
            parse_boot_request("525400000001", query).expect("parses"),
            BootRequest::new(mac(1)).with_macs([mac(2)])
        );
        assert_eq!(parse_boot_request("52:54:00:00:00:01", "").expect("parses"), BootRequest::new(mac(1)));
    }

    #[test]
    fn failed_try_limits_the_entries_of_the_ibft() {
        for (query, host_name_bytes, max_ibft_entries) in [
            ("try=1", None, None),
            ("hostname=&try=1", Some(0), None),
            ("hostname=web%2D1.example&ibft_entries=2&rc=0x34852039", Some(13), Some(1)),
            ("ibft_entries=1&rc=0x34852039&max_ibft_entries=1", None, Some(0)),
            ("ibft_entries=0&rc=0x34852039", None, Some(0)),
            ("ibft_entries=2&rc=0x3c222083", None, Some(0)),
            // Another error keeps the limit.
            ("ibft_entries=1&rc=0xf0a6039", None, None),
            ("ibft_entries=1&rc=0xf0a6039&max_ibft_entries=1", None, Some(1)),
            ("rc=0x34852039&max_ibft_entries=1", None, Some(1)),
            ("ibft_entries=-1&rc=0x34852039&max_ibft_entries=x", None, None),
        ] {
            let request = parse_boot_request("52-54-00-00-00-01", query).expect("parses");
            let got = (request.host_name_bytes, request.max_ibft_entries);
            assert_eq!(got, (host_name_bytes, max_ibft_entries), "{query}");
        }
    }

    #[test]
    fn number_of_macs_is_bounded() {
        let macs: Vec<_> = (0..40).map(|last| mac(last).to_hyphenated()).collect();
        let request =
            parse_boot_request("52-54-00-00-00-ff", &format!("macs={}", macs.join(","))).expect("parses");
        assert_eq!(request.macs.len(), MAX_MACS + 1);
        assert!(!request.has_more_cards);
        for more in ["52-54-00-00-00-09", "1"] {
            let request = parse_boot_request("52-54-00-00-00-01", &format!("more={more}")).expect("parses");
            assert!(request.has_more_cards, "{more}");
        }
    }

    #[test]
    fn boot_card_of_an_unknown_kind_is_replaced() {
        for path in ["80-00-02-08", ""] {
            assert_eq!(
                parse_boot_request(path, "macs=,52-54-00-00-00-02").expect("parses"),
                BootRequest::new(mac(2))
            );
        }
    }

    #[test]
    fn infiniband_cards_are_cards_like_others() {
        let guid = "7c-fe-90-03-00-29-26-52";
        let infiniband = Mac::new([0x7c, 0xfe, 0x90, 0x29, 0x26, 0x52]);
        let query = format!("macs=52-54-00-00-00-02,80-00-02-08-fe-80-00-00-00-00-00-00-{guid}");
        assert_eq!(
            parse_boot_request(guid, &query).expect("parses"),
            BootRequest::new(infiniband).with_macs([mac(2)])
        );
        assert_eq!(BootReport::parse(&format!("20-{guid}"), "step=up").expect("parses").mac, infiniband);
    }

    #[test]
    fn invalid_address_and_long_query_are_errors() {
        assert!(matches!(parse_boot_request("52-54-00-00-00", ""), Err(RequestError::Mac(_))));
        assert!(matches!(parse_boot_request("", "macs=,,,"), Err(RequestError::NoCard)));
        assert!(matches!(BootReport::parse("", "step=up"), Err(RequestError::NoCard)));
        assert!(matches!(
            parse_boot_request("${net0/mac}", "macs=${net1/mac}"),
            Err(RequestError::Unexpanded)
        ));
        assert!(matches!(
            parse_boot_request("52-54-00-00-00-01", &"x".repeat(3000)),
            Err(RequestError::QueryTooLong)
        ));
    }

    #[test]
    fn report_accepts_plain_words_only() {
        let report =
            BootReport::parse("52-54-00-00-00-01", "step=hook-0&rc=0x2C0D6039&try=2").expect("parses");
        let expected = BootReport {
            mac: mac(1),
            step: Some(BootStep::Hook(0)),
            rc: Some("0x2c0d6039".into()),
            attempt: 2,
        };
        assert_eq!(report, expected);
        let partial = BootReport::parse("52-54-00-00-00-01", "step=%0Aforged%20line&rc=").expect("parses");
        assert_eq!(partial, BootReport { mac: mac(1), step: None, rc: None, attempt: 1 });
    }
}
