//! The DHCP listener: a ProxyDHCP server, which names the boot file of each machine.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::netdevice::name_to_index;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::error::{RunError, StartError};
use super::exchanges::record_exchanges;
use super::offers::OfferNote;
use crate::config::{Config, DhcpConfig, DhcpMode, Diagnostic};
use crate::dhcp::{BootPolicy, ProxyCounters, ProxyDhcp, check_reply_access, find_port_owner};
use crate::timeline::Timeline;

/// Length of the queue of exchanges: those of the requests that may wait for an answer.
const EVENT_QUEUE: usize = 16_384;
/// The time-out for recording the last exchanges.
const EVENT_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How volboot gets the capability for `watch_answers`.
const WATCH_HINT: &str =
    "install the drop-in /usr/share/volboot/watch-answers.conf, see /usr/share/doc/volboot/dhcp.md";
/// DHCP's port for servers.
const SERVER_PORT: u16 = 67;

/// The bound ProxyDHCP server.
pub(super) struct DhcpListener(ProxyDhcp);

impl DhcpListener {
    /// Name of the listener, and of its passed sockets.
    pub(super) const NAME: &str = "dhcp";

    /// Adopts the `passed` sockets; without any, binds both ports. `None` if the server is off. Must be called within a
    /// runtime.
    ///
    /// If another DHCP server holds port 67, the log names the process, and port 4011 is served alone.
    pub(super) fn open(config: &DhcpConfig, passed: Vec<UdpSocket>) -> Result<Option<Self>, StartError> {
        if config.mode == DhcpMode::Off {
            if !passed.is_empty() {
                let hint = "disable volboot-dhcp.socket, or set [dhcp] mode = \"proxy\"";
                tracing::warn!(hint, "DHCP sockets passed, but [dhcp] mode is off: requests get no answer");
            }
            return Ok(None);
        }
        let server = if passed.is_empty() { ProxyDhcp::bind() } else { ProxyDhcp::adopt(passed) };
        let mut server = server.map_err(|(port, source)| StartError::Bind {
            listener: Self::NAME,
            address: SocketAddr::from(([0, 0, 0, 0], port)),
            source,
        })?;
        if !server.has_discovery() {
            let owner = find_port_owner(SERVER_PORT);
            tracing::error!(
                %owner,
                hint = "let that DHCP server send option 60 = PXEClient to network-boot clients, without option 43: they \
                        then ask volboot at port 4011; or stop that server, and restart volboot",
                "port 67 is taken: machines are answered at port 4011 only"
            );
        }
        if config.watch_answers
            && let Err(error) = server.watch_replies()
        {
            tracing::error!(%error, hint = WATCH_HINT, "cannot observe the answers of other DHCP servers");
        }
        Ok(Some(Self(server)))
    }

    /// The bound addresses.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.local_addrs()
    }

    /// Whether port 67 is served, and the counter of dropped events.
    pub(super) fn status(&self) -> (bool, Arc<ProxyCounters>) {
        (self.0.has_discovery(), self.0.counters())
    }

    /// Serves until `stop`, and records the exchanges. `background`: what the policy needs while it serves.
    pub(super) async fn serve(
        self,
        policy: impl BootPolicy<Note = OfferNote>,
        background: impl Future<Output = Infallible> + Send,
        timeline: Timeline,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        let (events, observations) = mpsc::channel(EVENT_QUEUE);
        let recorder = tokio::spawn(record_exchanges(observations, timeline));
        let result = tokio::select! {
            result = self.0.serve(Arc::new(policy), events, stop) => result,
            never = background => match never {},
        };
        if timeout(EVENT_DRAIN_TIMEOUT, recorder).await.is_err() {
            tracing::warn!("DHCP requests missing from the timeline: recording timed out");
        }
        result.map_err(RunError::Dhcp)
    }
}

/// Warns of interfaces in `[dhcp] interfaces` that this host lacks.
pub(crate) fn find_missing_interfaces(config: &Config) -> Vec<Diagnostic> {
    // sysfs may show another network namespace than this process has.
    let socket =
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok().filter(|_| config.dhcp.mode == DhcpMode::Proxy);
    let Some(socket) = socket else { return Vec::new() };
    let exists = |name: &str| name_to_index(&socket, name).is_ok();
    let missing = config.dhcp.interfaces.iter().filter(|name| !exists(name));
    let warn = |name: &String| Diagnostic {
        key: Some("dhcp.interfaces".to_owned()),
        message: format!("this host has no interface {name}: its machines get no answer"),
    };
    missing.map(warn).collect()
}

/// Warns if this process cannot do what `[dhcp] watch_answers` asks for.
pub(crate) fn find_missing_capability(config: &Config) -> Option<Diagnostic> {
    if config.dhcp.mode == DhcpMode::Off || !config.dhcp.watch_answers {
        return None;
    }
    let error = check_reply_access().err()?;
    Some(Diagnostic {
        key: Some("dhcp.watch_answers".to_owned()),
        message: format!(
            "this process has no access to the answers of other DHCP servers: {error}; {WATCH_HINT}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn server_that_is_off_takes_no_passed_socket() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let opened = DhcpListener::open(&Config::default().dhcp, vec![socket]).expect("opens");
        assert!(opened.is_none());
        let config = Config::parse("[dhcp]\nmode = \"proxy\"\ninterfaces = [\"lo\"]").expect("is valid");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let result = DhcpListener::open(&config.dhcp, vec![socket]);
        assert!(matches!(result, Err(StartError::Bind { listener: "dhcp", .. })), "another port");
    }

    #[test]
    fn interfaces_that_do_not_exist_cause_a_warning() {
        let warnings = |mode: &str| {
            let text = format!("[dhcp]\nmode = \"{mode}\"\ninterfaces = [\"lo\", \"no-such-card\"]");
            let config = Config::parse(&text).expect("is valid");
            find_missing_interfaces(&config).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            warnings("proxy"),
            ["dhcp.interfaces: this host has no interface no-such-card: its machines get no answer"]
        );
        assert!(warnings("off").is_empty());
    }
}
