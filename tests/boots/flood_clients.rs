//! Clients of the floods: addresses of this host, and HTTP/1 by hand.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::lab::network::{SERVER, ip};

/// The time-out of one read.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The short number, or the one of the long form.
pub(crate) fn scale(short: u32, full: u32) -> u32 {
    if std::env::var("VOLBOOT_FLOODS").is_ok_and(|form| form == "full") { full } else { short }
}

/// Gives this host the addresses of many clients.
pub(crate) fn add_clients() -> Result<()> {
    ip(&["route", "add", "local", "10.128.0.0/9", "dev", "lo"])
}

pub(crate) fn client(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a80_0001 + number)
}

/// Connects from the address of a client.
pub(crate) fn connect(number: u32, port: u16) -> Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((client(number), 0)).into())?;
    socket.connect_timeout(&SocketAddr::from((SERVER, port)).into(), LIMIT)?;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok(socket.into())
}

/// Sends a request, and reads the whole response.
pub(crate) fn get(mut stream: TcpStream, path: &str) -> Result<String> {
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

pub(crate) fn get_api(path: &str) -> Result<String> {
    let stream = TcpStream::connect("127.0.0.1:6385")?;
    stream.set_read_timeout(Some(LIMIT))?;
    get(stream, path)
}

/// The value of a metric in a scrape.
pub(crate) fn find_metric(metrics: &str, name: &str) -> Result<u32> {
    let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.next().with_context(|| format!("no {name} in {metrics}"))?.parse().context("not a number")
}

/// Sends a request in one segment: the kernel would hold a second one back until the first is acknowledged.
pub(crate) fn send(stream: &mut TcpStream, path: &str) -> Result<()> {
    Ok(stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?)
}

/// Reads a response of an open connection; returns its status line.
pub(crate) fn read_response(reader: &mut BufReader<TcpStream>) -> Result<String> {
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let (mut line, mut length) = (status.clone(), 0);
    while !line.trim().is_empty() {
        line.clear();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    Ok(status)
}
