//! The lines of a script that fetch the next one, and, before the first boot request, find the network card for it.
//!
//! iPXE runs `autoexec.ipxe` before any DHCP. A build with drivers of its own may have several cards then, all closed.
//! It knows the firmware's card by the firmware's lease (`src/core/cachedhcp.c`), or by the path of its own file
//! (`src/interface/efi/efi_path.c`): that card has a settings block `dhcp`. The command `dhcp` without a card tries
//! `net0` first, and that card may be in another network.
//!
//! An address is known by `ip`, by `ndp.0/ip6` after a router advertisement, or by `dhcpv6/ip6` after a lease. `ip6`
//! alone is no test: each card has a link-local address (`src/net/ipv6.c`).

use std::fmt;

use askama::Template;

use super::Journey;
use crate::model::{BootRequest, MAX_MACS};

/// Requests for a script before the machine gives up, with pauses of 1, 2, 3, … seconds in between.
const MAX_REQUESTS: u32 = 10;
/// The query argument with the machine's host name, which takes room in the iBFT. iPXE expands and encodes the name.
const HOST_NAME: &str = "hostname=${hostname:uristring}";
/// The values of `${errno}` after an HTTP status of failure: 401, 403, 404, other 4xx, 5xx and others, on UEFI and BIOS.
///
/// From `src/net/tcp/httpcore.c`. The last two digits are the platform's (`errno/efi.h`, `errno/pcbios.h`).
const HTTP_ERRORS: [&str; 12] = [
    "0x20c618f",
    "0x410c618f",
    "0x2d0c618e",
    "0x1d0c6498",
    "0x1d0c6598",
    "0x1d0c6198",
    "0x20c613c",
    "0x410c613c",
    "0x2d0c613b",
    "0x1d0c6439",
    "0x1d0c6539",
    "0x1d0c6139",
];

/// The lines that fetch the next script, with retries while the boot listener does not respond.
#[derive(Template)]
#[template(path = "chain.ipxe", config = "templates/askama.toml")]
pub(super) struct ChainTemplate {
    url: Url,
    tries: u32,
    http_errors: &'static [&'static str],
    /// Whether to search the card that reaches volboot.
    any_card: bool,
}

impl ChainTemplate {
    /// Fetches the first boot script. A script that was fetched over HTTP with relative URLs (an empty `base`) stays on
    /// its card: that card has an address and reaches volboot, and DHCP would change the URL that relative ones refer to.
    pub(super) fn for_first_request(base: &str, journey: Journey) -> Self {
        Self::new(Url::for_first_request(base, journey), !base.is_empty())
    }

    /// Fetches the next boot script, on the card of this one.
    pub(super) fn for_retry(request: &BootRequest, attempt: u32) -> Self {
        Self::new(Url::for_retry(request, attempt), false)
    }

    /// The next try after a failed one, which had this number of entries in the iBFT.
    pub(super) fn after_failure(request: &BootRequest, attempt: u32, ibft_entries: usize) -> Self {
        Self::new(Url::for_retry(request, attempt).with_failure(ibft_entries), false)
    }

    fn new(url: Url, any_card: bool) -> Self {
        Self { url, tries: MAX_REQUESTS, http_errors: &HTTP_ERRORS, any_card }
    }
}

/// The URL of the next boot request. It bypasses the escaper, since its `${…}`, `?` and `&` are intended.
///
/// Built here only: from literals, a checked base URL, and values whose types allow no special characters.
struct Url(String);

impl Url {
    /// The first boot request: iPXE expands the facts. `netX` is the boot card.
    fn for_first_request(base: &str, journey: Journey) -> Self {
        let macs: Vec<_> = (0..MAX_MACS).map(|card| format!("${{net{card}/mac:hexhyp}}")).collect();
        Self(format!(
            "{base}boot/${{netX/mac:hexhyp}}?macs={}&more=${{net{MAX_MACS}/mac:hexhyp}}&uuid=${{uuid}}&platform=${{platform}}&arch=${{buildarch}}&{HOST_NAME}&journey={journey}&try=1",
            macs.join(",")
        ))
    }

    /// A later boot request: repeats the facts of the first one.
    fn for_retry(request: &BootRequest, attempt: u32) -> Self {
        let macs: Vec<_> = request.macs.iter().map(|mac| mac.to_hyphenated()).collect();
        let mut url = format!("{}?macs={}", request.mac().to_hyphenated(), macs.join(","));
        if request.has_more_cards {
            url.push_str("&more=1");
        }
        if let Some(uuid) = request.uuid {
            url.push_str(&format!("&uuid={uuid}"));
        }
        if let Some(platform) = request.platform {
            url.push_str(&format!("&platform={}", platform.as_str()));
        }
        if let Some(arch) = &request.arch {
            url.push_str(&format!("&arch={arch}"));
        }
        url.push_str(&format!("&{HOST_NAME}"));
        if let Some(entries) = request.max_ibft_entries {
            url.push_str(&format!("&max_ibft_entries={entries}"));
        }
        if let Some(journey) = &request.journey {
            url.push_str(&format!("&journey={journey}"));
        }
        Self(format!("{url}&try={attempt}"))
    }

    /// Adds the error of the failed try, on which the layout of the next try's iBFT depends.
    fn with_failure(self, ibft_entries: usize) -> Self {
        Self(format!("{}&ibft_entries={ibft_entries}&rc=${{failure}}", self.0))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulator::{SimulatedCard, SimulatedMachine};
    use super::super::{Journey, build_gather};
    use super::*;

    /// iPXE's errors for a host that does not respond, and for an address without a route.
    const TIMED_OUT: &str = "0x4c0a6092";
    const UNREACHABLE: &str = "0x280a6090";

    /// A card in a network with DHCP.
    fn card(error: Option<&'static str>) -> SimulatedCard {
        SimulatedCard { dhcp: Some("ip"), error, ..SimulatedCard::default() }
    }

    /// The firmware's card, whose lease iPXE took over.
    fn leased(error: Option<&'static str>) -> SimulatedCard {
        SimulatedCard { lease: true, ..card(error) }
    }

    /// Runs `autoexec.ipxe`; returns the card of each request.
    fn requests(cards: Vec<SimulatedCard>, open: Option<usize>) -> (Vec<usize>, SimulatedMachine) {
        let script = build_gather("http://192.0.2.1:8080/", Journey::new()).expect("the script is built");
        let mut machine = SimulatedMachine::new(cards, open);
        machine.run(&script.into_text());
        let cards = machine.requests.iter().map(|card| card.expect("a card is open")).collect();
        (cards, machine)
    }

    #[test]
    fn firmware_card_is_asked_first_and_without_dhcp() {
        for other in [card(Some(TIMED_OUT)), card(None), SimulatedCard::default()] {
            let (cards, machine) = requests(vec![other.clone(), other, leased(None)], None);
            assert_eq!((cards, machine.dhcp_runs), (vec![2], vec![]));
        }
        // iPXE 2.0, a ROM or `snponly.efi` has opened the card. Its lease goes before that of a closed card.
        let (cards, machine) = requests(vec![leased(Some(TIMED_OUT)), leased(None)], Some(1));
        assert_eq!((cards, machine.dhcp_runs), (vec![1], vec![]));
        // The card is open without an address.
        let (cards, machine) = requests(vec![card(Some(TIMED_OUT)), card(None)], Some(1));
        assert_eq!((cards, machine.dhcp_runs), (vec![1], vec![1]));
    }

    #[test]
    fn firmware_card_of_ipv6_is_known_by_its_path() {
        let ipv6 = SimulatedCard { firmware_ip6: true, dhcp: Some("ndp.0/ip6"), ..SimulatedCard::default() };
        let (cards, machine) = requests(vec![card(Some(TIMED_OUT)), ipv6], None);
        assert_eq!((cards, machine.dhcp_runs), (vec![1], vec![1]));
    }

    #[test]
    fn card_with_an_ipv6_address_is_not_configured_again() {
        for setting in ["ndp.0/ip6", "dhcpv6/ip6"] {
            let only =
                SimulatedCard { dhcp: Some(setting), error: Some(TIMED_OUT), ..SimulatedCard::default() };
            let (cards, machine) = requests(vec![only], Some(0));
            assert_eq!((cards, machine.dhcp_runs), (vec![0; 10], vec![0]), "{setting}");
        }
    }

    #[test]
    fn other_cards_take_turns_with_the_firmware_card() {
        let cards = vec![card(Some(UNREACHABLE)), leased(Some(TIMED_OUT)), card(Some(UNREACHABLE))];
        let (cards, machine) = requests(cards, None);
        assert_eq!(cards, [1, 2, 1, 0, 1, 2, 1, 0, 1, 2]);
        assert_eq!(machine.dhcp_runs, [2, 0], "a card with an address is configured again");
        let (cards, _) = requests(vec![card(None), leased(Some(UNREACHABLE))], None);
        assert_eq!(cards, [1, 0]);
    }

    #[test]
    fn all_cards_take_turns_if_the_firmware_card_is_unknown() {
        let dark = SimulatedCard { error: Some(UNREACHABLE), ..SimulatedCard::default() };
        let cards = vec![dark.clone(), card(Some(TIMED_OUT)), card(Some(TIMED_OUT)), card(None)];
        let (cards, machine) = requests(cards, None);
        assert_eq!((cards, machine.dhcp_runs), (vec![1, 2, 3], vec![0, 1, 2, 3]));
        let (cards, _) = requests(vec![card(Some(TIMED_OUT))], None);
        assert_eq!(cards, [0; 10]);
    }

    #[test]
    fn http_error_keeps_the_card() {
        for error in HTTP_ERRORS {
            let (cards, machine) = requests(vec![card(None), leased(Some(error))], None);
            assert_eq!((cards, machine.dhcp_runs), (vec![1; 10], vec![]), "{error}");
        }
    }

    /// Without any answer from DHCP the requests end, and each card gets its turns.
    #[test]
    fn machine_without_an_answer_gives_up() {
        for count in 0..12 {
            let script = build_gather("http://192.0.2.1/", Journey::new()).expect("the script is built");
            let mut machine = SimulatedMachine::new(
                vec![SimulatedCard { error: Some(UNREACHABLE), ..SimulatedCard::default() }; count],
                None,
            );
            assert!(!machine.run(&script.into_text()));
            assert_eq!(machine.requests.len(), 10);
        }
    }

    #[test]
    fn later_request_repeats_that_cards_were_left_out() {
        let request = BootRequest::new(crate::model::Mac::new([0x52, 0x54, 0, 0, 0, 1]));
        assert!(!Url::for_retry(&request, 2).to_string().contains("more"));
        let request = BootRequest { has_more_cards: true, ..request };
        assert!(Url::for_retry(&request, 2).to_string().contains("&more=1&"));
    }

    /// A script with relative URLs stays on its card, and runs no DHCP.
    #[test]
    fn relative_urls_stay_on_their_card() {
        let script = build_gather("", Journey::new()).expect("the script is built").into_text();
        let mut machine = SimulatedMachine::new(vec![card(None), card(Some(TIMED_OUT))], Some(1));
        assert!(!machine.run(&script));
        assert_eq!(machine.requests, [Some(1); 10]);
        assert!(machine.dhcp_runs.is_empty());
    }
}
