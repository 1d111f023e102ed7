//! [`Host`]: another host on the lab's network, for requests to volboot: a network namespace with a cable to the bridge.
//!
//! Traps:
//! * The thread's namespace has no name; the kernel accepts the thread's id instead.
//! * The host's end of the cable is created directly in the namespace, so that its name is never visible elsewhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use super::network::{bridge, ip};

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
