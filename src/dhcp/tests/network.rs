//! The driver over real sockets would need port 67: `tests/boots/proxy_dhcp` has a network of its own. Here: the sockets.

use std::net::UdpSocket;

use super::*;
use crate::dhcp::ProxyDhcp;

#[tokio::test]
async fn sockets_of_other_ports_are_refused() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = socket.local_addr().expect("an address").port();
    let (at, error) = ProxyDhcp::adopt(vec![socket]).expect_err("refused");
    assert_eq!(at, port);
    assert!(error.to_string().contains("67 and 4011"), "{error}");
    let (at, error) = ProxyDhcp::adopt(Vec::new()).expect_err("refused");
    assert_eq!(at, BOOT_SERVER_PORT);
    assert!(error.to_string().contains("missing"), "{error}");
    let ipv6 = UdpSocket::bind("[::1]:0").expect("a socket");
    assert!(ProxyDhcp::adopt(vec![ipv6]).is_err());
}
