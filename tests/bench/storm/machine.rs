//! A machine that asks, waits when it is told to, and asks again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// Nobody waits longer than this.
const LIMIT: Duration = Duration::from_secs(600);

/// A machine that has got a script that boots.
pub(crate) struct Booted {
    /// After that time.
    pub(crate) after: Duration,
    /// So many questions were needed.
    pub(crate) questions: u32,
    /// So many of them came to nothing.
    pub(crate) lost: u64,
    /// Cinder was not asked for it.
    pub(crate) last_known: bool,
}

/// Asks until it may boot.
pub(crate) async fn boot(door: SocketAddr, n: u32, mac: &str) -> Booted {
    let began = Instant::now();
    let journey = format!("{:016x}", rand(began, n));
    let mut path = format!("/boot/{mac}?macs={mac}&platform=pcbios&journey={journey}&try=1");
    let (mut questions, mut lost) = (0, 0);
    loop {
        questions += 1;
        let answer = get(door, n, &path).await;
        let after = began.elapsed();
        assert!(after < LIMIT, "{mac} waits for ever");
        let Ok(script) = answer else {
            // As iPXE does by the script that it has.
            lost += 1;
            tokio::time::sleep(Duration::from_secs(lost)).await;
            continue;
        };
        if script.contains("\nsanboot ") {
            let last_known = script.contains("booting from the connection of");
            return Booted { after, questions, lost, last_known };
        }
        let word = |before| {
            let (_, rest) = script.split_once(before).unwrap_or_else(|| panic!("{mac} was told:\n{script}"));
            rest.split_whitespace().next().unwrap_or_default()
        };
        let pause = word("asking again in ").parse().expect("seconds");
        path = format!("/boot/{}", word("chain --replace --autofree "));
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
}

/// No two boots have the same.
fn rand(now: Instant, n: u32) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((now, n))
}

/// One request on a connection of its own, from an address of its own.
async fn get(door: SocketAddr, n: u32, path: &str) -> io::Result<String> {
    let [_, _, high, low] = n.to_be_bytes();
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into())?;
    let mut stream = socket.connect(door).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{path} was answered: {answer}");
    Ok(answer)
}
