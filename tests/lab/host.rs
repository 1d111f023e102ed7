//! [`Host`]: another host on the lab's network, for requests to volboot: a network namespace with a cable to the bridge.
//!
//! Traps:
//! * The thread's namespace has no name; the kernel accepts the thread's id instead.
//! * The host's end of the cable is created directly in the namespace, so that its name is never visible elsewhere.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};

use super::network::{bridge, ip, set_parameter};

const LIMIT: Duration = Duration::from_secs(60);

/// A host on the network; dropping it removes it.
pub(crate) struct Host {
    jobs: Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Host {
    /// Connects a host with this MAC address; the bridge's end of the cable is called `cable`.
    pub(crate) fn connect(cable: &str, mac: &str) -> Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (ready, thread_id) = channel();
        thread::Builder::new().name(cable.to_owned()).spawn(move || {
            let _ = ready.send(unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid()));
            for job in queue {
                job();
            }
        })?;
        let thread_id = thread_id.recv()?.context("cannot make a network namespace")?.to_string();
        ip(&[
            "link", "add", cable, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", &thread_id,
        ])?;
        ip(&["link", "set", cable, "master", bridge(), "up"])?;
        let host = Self { jobs };
        host.ip("link set lo up")?;
        host.ip("link set eth0 up")?;
        Ok(host)
    }

    /// Runs `ip` on the host.
    pub(crate) fn ip(&self, arguments: &str) -> Result<()> {
        let arguments: Vec<_> = arguments.split(' ').map(str::to_owned).collect();
        self.run_job(move || ip(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// GETs `path` from `server`; returns the body. The status must be 200.
    pub(crate) fn get(&self, server: SocketAddr, path: &str) -> Result<String> {
        let response = self.request(server, path)?;
        match response.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
            _ => bail!("{path}: unexpected response: {response}"),
        }
    }

    /// GETs `path` from `server`; returns the whole response.
    pub(crate) fn request(&self, server: SocketAddr, path: &str) -> Result<String> {
        let path = path.to_owned();
        self.run_job(move || {
            let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
            let mut response = String::new();
            stream.read_to_string(&mut response)?;
            Ok(response)
        })
    }

    /// Connects to `server`; the connection stays in the host's network.
    pub(crate) fn open(&self, server: SocketAddr) -> Result<TcpStream> {
        self.run_job(move || {
            let stream = TcpStream::connect_timeout(&server, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            Ok(stream)
        })
    }

    /// Sets a parameter of the host's network, such as `ipv4/conf/all/arp_ignore`.
    pub(crate) fn set(&self, parameter: &str, value: &str) -> Result<()> {
        let (parameter, value) = (parameter.to_owned(), value.to_owned());
        self.run_job(move || set_parameter(&parameter, &value))
    }

    /// Sends an ICMP redirect (RFC 792) in the name of `router`: packets from `server` to `destination` shall go to
    /// `gateway`.
    pub(crate) fn forge_redirect(
        &self,
        router: Ipv4Addr,
        server: Ipv4Addr,
        destination: Ipv4Addr,
        gateway: Ipv4Addr,
    ) -> Result<()> {
        let packet = build_redirect(router, server, destination, gateway);
        self.run_job(move || {
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW))?;
            rustix::net::sendto(&socket, &packet, SendFlags::empty(), &SocketAddrV4::new(server, 0))?;
            Ok(())
        })
    }

    /// Starts a TFTP transfer with `options`, and aborts it after the first packet. Returns the packet and its source
    /// address.
    pub(crate) fn start_transfer(
        &self,
        server: SocketAddr,
        file: &str,
        options: &str,
    ) -> Result<(Vec<u8>, SocketAddr)> {
        let request = format!("\0\u{1}{file}\0octet\0{}", options.replace(' ', "\0"));
        self.run_job(move || {
            let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.set_read_timeout(Some(LIMIT))?;
            socket.send_to(request.as_bytes(), server)?;
            let mut packet = vec![0; 2000];
            let (length, peer) = socket.recv_from(&mut packet)?;
            packet.truncate(length);
            socket.send_to(b"\0\x05\0\x00that will do\0", peer)?;
            Ok((packet, peer))
        })
    }

    /// Reads a file over TFTP. Returns the content and the source address of its blocks.
    pub(crate) fn read_over_tftp(&self, server: SocketAddr, file: &str) -> Result<(Vec<u8>, SocketAddr)> {
        let file = file.to_owned();
        self.run_job(move || {
            let request = format!("\0\u{1}{file}\0octet\0");
            let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.set_read_timeout(Some(LIMIT))?;
            socket.send_to(request.as_bytes(), server)?;
            let mut content = Vec::new();
            for block in 1_u16.. {
                let [high, low] = block.to_be_bytes();
                let mut packet = [0; 516];
                let (length, peer) = socket.recv_from(&mut packet)?;
                ensure!(packet[..4] == [0, 3, high, low], "unexpected packet: {:?}", &packet[..length]);
                content.extend_from_slice(&packet[4..length]);
                socket.send_to(&[0, 4, high, low], peer)?;
                if length < packet.len() {
                    return Ok((content, peer));
                }
            }
            bail!("{file} has more than 65535 blocks")
        })
    }

    /// Requests a missing file from the port of a transfer of `file` that moves. Returns the rejection, its source
    /// address, and that of the transfer.
    pub(crate) fn request_during_transfer(
        &self,
        server: SocketAddr,
        file: &str,
    ) -> Result<(Vec<u8>, SocketAddr, SocketAddr)> {
        let request = format!("\0\u{1}{file}\0octet\0blksize\0256\0");
        self.run_job(move || {
            let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.set_read_timeout(Some(LIMIT))?;
            let mut packet = vec![0; 2000];
            socket.send_to(request.as_bytes(), server)?;
            let (_, transfer) = socket.recv_from(&mut packet)?;
            for block in [0, 1] {
                socket.send_to(&[0, 4, 0, block], transfer)?;
                socket.recv_from(&mut packet)?;
            }
            socket.send_to(b"\0\x01missing\0octet\0", server)?;
            let (length, peer) = socket.recv_from(&mut packet)?;
            packet.truncate(length);
            Ok((packet, peer, transfer))
        })
    }

    /// Starts a TFTP transfer, receives the first packet, and never acknowledges it. The transfer stays open with the
    /// socket.
    pub(crate) fn abandon_transfer(&self, server: SocketAddr, file: &str) -> Result<UdpSocket> {
        let request = format!("\0\u{1}{file}\0octet\0");
        self.run_job(move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(LIMIT))?;
            socket.send_to(request.as_bytes(), server)?;
            socket.recv_from(&mut [0; 2000])?;
            Ok(socket)
        })
    }

    /// Sends TFTP requests for missing files, each from the next address of a network, which the host must have. The
    /// answers are not read.
    pub(crate) fn request_missing_files(
        &self,
        server: SocketAddr,
        first: Ipv4Addr,
        count: u32,
        interval: Duration,
    ) -> Result<()> {
        self.run_job(move || {
            for number in 0..count {
                let socket = UdpSocket::bind((Ipv4Addr::from_bits(first.to_bits() + number), 0))?;
                socket.send_to(format!("\0\u{1}missing-{number}\0octet\0").as_bytes(), server)?;
                thread::sleep(interval);
            }
            Ok(())
        })
    }

    /// The interface index of the host's network card.
    pub(crate) fn interface_index(&self) -> Result<u32> {
        self.run_job(|| {
            let socket = UdpSocket::bind("[::]:0")?;
            Ok(rustix::net::netdevice::name_to_index(&socket, "eth0")?)
        })
    }

    /// Runs `job` on the host's thread, and so in its network.
    fn run_job<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (sender, result) = channel();
        self.jobs
            .send(Box::new(move || {
                let _ = sender.send(job());
            }))
            .ok()
            .context("the host's thread has ended")?;
        result.recv()?
    }
}

/// An IPv4 packet with an ICMP redirect, which quotes an echo reply: Linux applies it without a socket (`icmp_err`).
fn build_redirect(router: Ipv4Addr, server: Ipv4Addr, destination: Ipv4Addr, gateway: Ipv4Addr) -> Vec<u8> {
    const ICMP: u8 = 1;
    let header = |length: u8, from: Ipv4Addr, to: Ipv4Addr| {
        let mut header = vec![0x45, 0, 0, length, 0, 1, 0, 0, 64, ICMP, 0, 0];
        header.extend(from.octets().into_iter().chain(to.octets()));
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    };
    // Type 5 (redirect), code 1 (for the host).
    let mut icmp = vec![5, 1, 0, 0];
    icmp.extend(gateway.octets());
    icmp.extend(header(28, server, destination));
    icmp.extend([0, 0, 0xff, 0xfd, 0, 1, 0, 1]);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = header(56, router, server);
    packet.extend(icmp);
    packet
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
