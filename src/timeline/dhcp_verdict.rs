//! [`judge_dhcp`]: the verdict on a machine that has sent DHCP requests, and has read no file.

use super::boot_state::{BootState, Verdict, in_words};
use super::dhcp_progress::{DhcpProgress, LeaseReply};
use crate::model::DhcpAnswer;

/// The verdict. `is_recent`: whether the machine may still read a file after its last request.
pub(super) fn judge_dhcp(dhcp: &DhcpProgress, is_recent: bool) -> Verdict {
    let client = dhcp.client();
    match &dhcp.answer {
        Some(DhcpAnswer::UnknownMachine) => Verdict::with_text(
            BootState::Unknown,
            format!("unknown machine: no node has a port with its address; its DHCP request ({client}) got no answer"),
        )
        .with_advice("Enroll the machine with `volboot enroll`. It boots at its next try."),
        Some(DhcpAnswer::NetbootOff) => Verdict::with_text(
            BootState::LocalDisk,
            "left to its next boot device: the node's property netboot is false",
        ),
        Some(DhcpAnswer::Sent) | None if is_recent => {
            Verdict::with_text(BootState::Booting, describe_wait(dhcp))
        }
        Some(DhcpAnswer::Sent) | None => judge_silence(dhcp),
        Some(refusal) => judge_refusal(dhcp, refusal),
    }
}

fn describe_wait(dhcp: &DhcpProgress) -> String {
    let client = dhcp.client();
    match dhcp.lease {
        Some((address, Some(server))) => format!("asks for {address} of {server} ({client})"),
        Some((address, None)) => format!("asks for {address} ({client})"),
        None => match dhcp.offered_address() {
            Some((server, address)) => {
                format!("asked for an address, and {server} offered {address} ({client})")
            }
            None => format!("asked for an address ({client})"),
        },
    }
}

/// volboot has answered, and the machine has read no file since.
fn judge_silence(dhcp: &DhcpProgress) -> Verdict {
    let (because, advice) = explain_by_replies(dhcp).unwrap_or_else(|| explain_by_requests(dhcp));
    let text = format!("stopped before TFTP, because {because} ({})", dhcp.client());
    Verdict::with_text(BootState::Stopped, text).with_advice(advice)
}

/// The reason that the replies of other servers show, if these are observed.
fn explain_by_replies(dhcp: &DhcpProgress) -> Option<(String, &'static str)> {
    if dhcp.used_boot_server {
        return None;
    }
    if let Some((server, file)) = dhcp.other_boot_file() {
        let because = format!("{server} named the boot file {file}, and our offer was not taken");
        return Some((
            because,
            "Remove the boot file from that DHCP server, or switch off that ProxyDHCP server. Only one may answer a machine.",
        ));
    }
    let requests = count_requests(dhcp.discovers);
    match (dhcp.lease, dhcp.confirmation, dhcp.offered_address()) {
        (Some((address, _)), Some(LeaseReply::Refused(server)), _) => Some((
            format!("{server} refused the machine the address {address}"),
            "Check that the DHCP servers of the network agree: two with the same pool refuse each other's addresses.",
        )),
        // Some servers' replies reach the machine alone: only those of a server whose offer was seen can be missing.
        (Some((address, Some(server))), None, _) if dhcp.is_watched && dhcp.has_offer_of(server) => Some((
            format!("{server} did not confirm the address {address}"),
            "Check the log of that DHCP server: its answer did not reach this network.",
        )),
        (None, _, Some((server, address))) => Some((
            format!("the machine did not take the address {address} that {server} offered, after {requests}"),
            "A switch port without portfast loses the first answers. Some firmware does not combine the offers of two servers: \
             then let the site's server name the boot file, see /usr/share/doc/volboot/dhcp.md.",
        )),
        (None, _, None) if dhcp.is_watched => Some((
            format!("no offer of an address was seen after {requests}"),
            "Check the site's DHCP server: it may not run, its pool may be empty, or it may not serve this network. The \
             offers of some servers, such as Kea, reach the machine alone: then a switch port without portfast may lose them.",
        )),
        _ => None,
    }
}

/// The reason that the machine's requests alone show.
fn explain_by_requests(dhcp: &DhcpProgress) -> (String, &'static str) {
    let file = dhcp.file.as_deref().unwrap_or("the boot file");
    match dhcp.lease {
        _ if dhcp.used_boot_server => (
            format!("the machine got the name {file} at port 4011, and did not read the file"),
            "Check that UDP port 69 and the ports of transfers are open between the machine and volboot.",
        ),
        _ if dhcp.used_other_server => (
            "another boot server answered as well: the machine came back as iPXE without having read a file of volboot"
                .to_owned(),
            "Remove the boot file from the site's DHCP server, or switch off the other proxyDHCP server. Only one may \
             answer a machine.",
        ),
        None => (
            format!("the machine took no address after {}", count_requests(dhcp.discovers)),
            "Check the site's DHCP server: its pool may be empty, or may not serve this network. A switch port without \
             portfast loses the first requests. Some firmware does not combine the offers of two servers: then let the \
             site's server name the boot file, see /usr/share/doc/volboot/dhcp.md.",
        ),
        Some((address, _)) if dhcp.relay.is_some() => (
            format!("no file is known that the machine has read; it takes {address} behind a relay"),
            "Files that a machine behind a relay reads are listed under its address. See there where it stops.",
        ),
        Some((address, server)) => {
            let server = server.map(|server| format!(" of {server}")).unwrap_or_default();
            (
                format!("the machine takes {address}{server}, and our offer was not taken"),
                "Another server named a boot file, or the firmware ignores proxyDHCP servers. Let the site's DHCP server \
                 name no boot file, or let it name volboot's: see /usr/share/doc/volboot/dhcp.md.",
            )
        }
    }
}

fn judge_refusal(dhcp: &DhcpProgress, refusal: &DhcpAnswer) -> Verdict {
    let client = dhcp.client();
    let word = in_words(refusal.as_str());
    let (because, advice) = match refusal {
        DhcpAnswer::PortDisabled => (
            "the port has pxe_enabled false".to_owned(),
            "Set pxe_enabled of the port, or the property netboot of the node to false.",
        ),
        DhcpAnswer::NoFile => (
            format!("volboot has no boot file for {client}"),
            "Choose another kind of network boot in the firmware, such as PXE over IPv4.",
        ),
        DhcpAnswer::MissingImage => (
            format!("volboot's host lacks the iPXE binary for {client}"),
            "`volboot images` lists the missing binaries and their packages.",
        ),
        DhcpAnswer::RelayNotNamed => (
            "the request came from a relay that [dhcp] relays does not name".to_owned(),
            "Add the address of the relay to [dhcp] relays. The timeline names it.",
        ),
        DhcpAnswer::RateLimited => (
            "too many DHCP requests arrived".to_owned(),
            "A machine gets 16 answers in ten seconds. More are a loop, or are forged.",
        ),
        DhcpAnswer::StoreUnavailable => {
            ("the store did not answer".to_owned(), "volboot's log has the cause. The firmware tries again.")
        }
        DhcpAnswer::Failed => (
            "the answer could not be sent".to_owned(),
            "volboot's log has the cause. Check the addresses and routes of the interface.",
        ),
        // The first four have verdicts of their own.
        DhcpAnswer::Sent | DhcpAnswer::UnknownMachine | DhcpAnswer::NetbootOff | DhcpAnswer::Other(_) => {
            (format!("its DHCP request got no answer: {word}"), "volboot's log has the cause.")
        }
    };
    Verdict::with_text(BootState::Stopped, format!("stopped before TFTP, because {because}"))
        .with_advice(advice)
}

fn count_requests(count: u32) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}
