//! Another computer on the lab's network: a namespace of its own, a cable to the bridge, and a person at it who asks
//! volboot something.
//!
//! Traps it copes with:
//! * A thread's namespace has no name, but the kernel takes the thread's number for it.
//! * Its end of the cable is made there at once, so that it is never seen under this name elsewhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use super::network::{bridge, ip};

const LIMIT: Duration = Duration::from_secs(60);

/// A computer that is switched on as long as this is kept.
pub(crate) struct Host {
    jobs: Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Host {
    /// A computer with this network card, whose end of the cable the lab calls `cable`.
    pub(crate) fn plug(cable: &str, mac: &str) -> Result<Self> {
        let (jobs, work) = channel::<Job>();
        let (moved, number) = channel();
        thread::Builder::new().name(cable.to_owned()).spawn(move || {
            let _unheard = moved.send(unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid()));
            for job in work {
                job();
            }
        })?;
        let number = number.recv()?.context("cannot make a network namespace")?.to_string();
        ip(&[
            "link", "add", cable, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", &number,
        ])?;
        ip(&["link", "set", cable, "master", bridge(), "up"])?;
        let host = Self { jobs };
        host.ip("link set lo up")?;
        host.ip("link set eth0 up")?;
        Ok(host)
    }

    /// Runs `ip` there.
    pub(crate) fn ip(&self, words: &str) -> Result<()> {
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        self.there(move || ip(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// The body of what `server` answers to a GET, which must be 200.
    pub(crate) fn get(&self, server: SocketAddr, path: &str) -> Result<String> {
        let answer = self.ask(server, path)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
            _ => bail!("{path} was answered: {answer}"),
        }
    }

    /// All that `server` answers to a GET.
    pub(crate) fn ask(&self, server: SocketAddr, path: &str) -> Result<String> {
        let path = path.to_owned();
        self.there(move || {
            let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    /// Asks for a file over TFTP, as `options` have it, hears the first answer and breaks off. Returns the answer, and
    /// where it came from.
    pub(crate) fn begin_to_read(
        &self,
        server: SocketAddr,
        file: &str,
        options: &str,
    ) -> Result<(Vec<u8>, SocketAddr)> {
        let request = format!("\0\u{1}{file}\0octet\0{}", options.replace(' ', "\0"));
        self.there(move || {
            let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.set_read_timeout(Some(LIMIT))?;
            socket.send_to(request.as_bytes(), server)?;
            let mut answer = vec![0; 2000];
            let (length, peer) = socket.recv_from(&mut answer)?;
            answer.truncate(length);
            socket.send_to(b"\0\x05\0\x00that will do\0", peer)?;
            Ok((answer, peer))
        })
    }

    /// Asks for a file over TFTP, hears the first answer and says nothing to it, for as long as the socket is kept.
    pub(crate) fn leave_unread(&self, server: SocketAddr, file: &str) -> Result<UdpSocket> {
        let request = format!("\0\u{1}{file}\0octet\0");
        self.there(move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(LIMIT))?;
            socket.send_to(request.as_bytes(), server)?;
            socket.recv_from(&mut [0; 2000])?;
            Ok(socket)
        })
    }

    /// The number by which it knows its card.
    pub(crate) fn card(&self) -> Result<u32> {
        self.there(|| {
            let socket = UdpSocket::bind("[::]:0")?;
            Ok(rustix::net::netdevice::name_to_index(&socket, "eth0")?)
        })
    }

    fn there<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (done, result) = channel();
        self.jobs
            .send(Box::new(move || {
                let _unheard = done.send(job());
            }))
            .ok()
            .context("the computer is off")?;
        result.recv()?
    }
}
