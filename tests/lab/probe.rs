//! A machine that asks DHCP for a boot file and does no more: what a server tells each kind of firmware, without
//! waiting for the firmware.
//!
//! The machine has a network of its own, at the other end of a cable from the bridge, because a kernel drops what comes
//! to it with an address of its own as the sender.

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use super::network::{ip, plug_thread};

const CABLE: &str = "probe";
/// DHCP (RFC 2131, §2): where the options begin, and what is before them.
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const OPTIONS: usize = 240;
/// An answer comes within this time, or the question is asked again.
const PATIENCE: Duration = Duration::from_secs(5);
const TRIES: u8 = 3;

/// What a machine is, as far as DHCP can see.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Firmware that loads a file: its architecture (RFC 4578, §2.1).
    Pxe(u16),
    /// Firmware that loads a URL: its architecture.
    Http(u16),
    /// iPXE on firmware of that architecture.
    Ipxe(u16),
    /// No boot client at all.
    Other,
}

/// What a server offered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The boot server.
    pub(crate) server: Ipv4Addr,
    /// The boot file: option 67 or the field for it.
    pub(crate) file: String,
    /// Option 60.
    pub(crate) class: Option<String>,
    /// iPXE's encapsulated options.
    pub(crate) ipxe: Option<Vec<u8>>,
}

/// A machine on the lab's network.
pub(crate) struct Probe {
    questions: Sender<Kind>,
    answers: Receiver<Result<Offer>>,
}

impl Probe {
    /// Plugs it in. Must be called from the lab's thread.
    pub(crate) fn plug_in() -> Result<Self> {
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        let (thread_is, thread) = channel();
        let (plug, plugged) = channel();
        thread::spawn(move || {
            thread_is.send(unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid())).ok();
            let socket = plugged.recv().map_err(|_| anyhow!("not plugged in")).and_then(|()| open());
            for (number, kind) in (0..).zip(asked) {
                let offer = match &socket {
                    Ok(socket) => ask(socket, number, kind),
                    Err(error) => Err(anyhow!("no socket: {error:#}")),
                };
                answer.send(offer).ok();
            }
        });
        plug_thread(CABLE, thread.recv()?.context("cannot make a network namespace")?)?;
        plug.send(())?;
        Ok(Self { questions, answers })
    }

    /// What the site's server tells such a machine.
    pub(crate) fn offer(&self, kind: Kind) -> Result<Offer> {
        self.questions.send(kind)?;
        self.answers.recv()?.with_context(|| format!("{kind:?} gets no answer"))
    }
}

/// The socket of a machine without an address.
fn open() -> Result<UdpSocket> {
    ip(&["link", "set", CABLE, "up"])?;
    ip(&["route", "add", "255.255.255.255", "dev", CABLE])?;
    let socket = UdpSocket::bind("0.0.0.0:68")?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn ask(socket: &UdpSocket, number: u8, kind: Kind) -> Result<Offer> {
    let question = discover(number, kind);
    let mut answer = [0; 1500];
    for _ in 0..TRIES {
        socket.send_to(&question, "255.255.255.255:67")?;
        while let Ok((size, _)) = socket.recv_from(&mut answer) {
            // A question that was asked again may be answered twice.
            if answer[4..8] == question[4..8] {
                return offer(&answer[..size]);
            }
        }
    }
    Err(anyhow!("no answer to {TRIES} questions"))
}

/// A DHCPDISCOVER, each from a machine of its own.
fn discover(number: u8, kind: Kind) -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 0, 0, 0, 0, number, 0, 0, 0x80, 0];
    packet.resize(28, 0);
    packet.extend([2, 0, 0, 0, 1, number]);
    packet.resize(236, 0);
    packet.extend(COOKIE);
    packet.extend([53, 1, 1]);
    packet.extend([55, 7, 1, 3, 43, 60, 66, 67, 175]);
    if let Kind::Pxe(arch) | Kind::Http(arch) | Kind::Ipxe(arch) = kind {
        let client = if matches!(kind, Kind::Http(_)) { "HTTPClient" } else { "PXEClient" };
        let class = format!("{client}:Arch:{arch:05}:UNDI:003000");
        packet.extend([60, class.len() as u8]);
        packet.extend(class.bytes());
        packet.extend([93, 2]);
        packet.extend(arch.to_be_bytes());
    }
    if let Kind::Ipxe(_) = kind {
        // As iPXE of 2019 sends it: user class, and its version and HTTP among its features.
        packet.extend([77, 4]);
        packet.extend(b"iPXE");
        packet.extend([175, 8, 235, 3, 1, 0, 0, 19, 1, 1]);
    }
    packet.push(255);
    packet.resize(packet.len().max(300), 0);
    packet
}

fn offer(answer: &[u8]) -> Result<Offer> {
    ensure!(answer.len() > OPTIONS && answer[..1] == [2], "it is no answer");
    let mut options = HashMap::new();
    let mut rest = &answer[OPTIONS..];
    while let [code, length, after @ ..] = rest
        && *code != 255
    {
        let (value, after) =
            after.split_at_checked(usize::from(*length)).context("an option is cut short")?;
        options.insert(*code, value);
        rest = after;
    }
    ensure!(options.get(&53) == Some(&[2].as_slice()), "it is no DHCPOFFER");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    let [a, b, c, d] = [answer[20], answer[21], answer[22], answer[23]];
    Ok(Offer {
        server: Ipv4Addr::new(a, b, c, d),
        file: options.get(&67).map_or_else(|| text(&answer[108..236]), |file| text(file)),
        class: options.get(&60).map(|class| text(class)),
        ipxe: options.get(&175).map(|ipxe| ipxe.to_vec()),
    })
}
