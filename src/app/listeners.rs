//! All listeners: opens them, and runs each as a task.
//!
//! Each listener is a type in a file of its own. All have the same functions: `open` adopts the passed sockets, or
//! binds the configured addresses. `serve` answers requests until the stop signal, drains, and sees to the listener's
//! events. The answers are those of the current services of [`Reloadable`]: a reload needs no new socket.
//!
//! Invariant: the limits on `listen` in the configuration hold for passed sockets too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::boot::BootListener;
use super::cluster::ClusterListener;
use super::descriptors::DescriptorBudget;
use super::dhcp::DhcpListener;
use super::error::{RunError, StartError};
use super::operator::OperatorListener;
use super::reload::Reloadable;
use super::sockets::PassedSockets;
use super::tftp::TftpListener;
use super::tls::ListenerTls;
use crate::config::{Config, TftpConfig};
use crate::listen::ConnectionCounters;
use crate::timeline::Timeline;

/// The listeners, which do not serve yet.
pub(super) struct Listeners {
    /// `None` if the ProxyDHCP server is off.
    pub(super) dhcp: Option<DhcpListener>,
    pub(super) tftp: TftpListener,
    pub(super) boot: BootListener,
    pub(super) operator: OperatorListener,
    /// `None` without a listener for other instances.
    pub(super) cluster: Option<ClusterListener>,
}

impl Listeners {
    /// Opens all listeners, so that a port in use fails before anything is served. Must be called within a runtime.
    pub(super) fn open(
        config: &Config,
        passed: PassedSockets,
        descriptors: DescriptorBudget,
    ) -> Result<Self, StartError> {
        let DescriptorBudget { connections, transfers } = descriptors;
        let tftp = TftpConfig { transfers, ..config.tftp.clone() };
        Ok(Self {
            dhcp: DhcpListener::open(&config.dhcp, passed.dhcp)?,
            tftp: TftpListener::open(&tftp, passed.tftp)?,
            boot: BootListener::open(&config.http, passed.http, connections)?,
            operator: OperatorListener::open(&config.api, passed.api, connections)?,
            cluster: ClusterListener::open(&config.cluster)?,
        })
    }

    /// The counts of connections, by the name of the listener.
    pub(super) fn connection_counters(&self) -> Vec<(&'static str, Arc<ConnectionCounters>)> {
        let boot = (BootListener::NAME, self.boot.counters());
        let cluster = self.cluster.iter().map(|cluster| (ClusterListener::NAME, cluster.counters()));
        [boot, (OperatorListener::NAME, self.operator.counters())].into_iter().chain(cluster).collect()
    }

    /// Each bound address with the name of its listener.
    pub(super) fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let tftp = self.tftp.addresses().into_iter().map(|address| (TftpListener::NAME, address));
        let boot = (BootListener::NAME, self.boot.address());
        let operator = (OperatorListener::NAME, self.operator.address());
        let dhcp = self.dhcp.iter().flat_map(DhcpListener::addresses);
        let dhcp = dhcp.map(|address| (DhcpListener::NAME, address));
        let cluster = self.cluster.iter().map(|cluster| (ClusterListener::NAME, cluster.address()));
        dhcp.chain(tftp).chain([boot, operator]).chain(cluster).collect()
    }

    /// The TLS configurations, which take the certificates.
    pub(super) fn tls(&self) -> ListenerTls {
        let cluster = self.cluster.as_ref().map(ClusterListener::tls);
        ListenerTls { http: self.boot.tls(), api: self.operator.tls(), cluster }
    }

    /// Serves until `stop`, one task per listener. Each drains for at most `grace`. The cluster listener is not among
    /// them: it serves the last events of the others.
    pub(super) fn spawn(
        self,
        services: &Reloadable,
        timeline: &Timeline,
        stop: &CancellationToken,
        grace: Duration,
    ) -> JoinSet<Result<(), RunError>> {
        let mut tasks = JoinSet::new();
        if let Some(dhcp) = self.dhcp {
            tasks.spawn(dhcp.serve(
                services.offers(),
                services.follow_ports(),
                timeline.clone(),
                stop.clone(),
            ));
        }
        tasks.spawn(self.tftp.serve(services.files(), timeline.clone(), stop.clone(), grace));
        tasks.spawn(self.boot.serve(services.boot_router(), stop.clone(), grace));
        tasks.spawn(self.operator.serve(services.operator_router(), stop.clone(), grace));
        tasks
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn open(config: &Config, passed: PassedSockets) -> Result<Listeners, StartError> {
        Listeners::open(config, passed, DescriptorBudget::within(config, u64::MAX))
    }

    fn passed_api(address: &str) -> PassedSockets {
        let api = TcpListener::bind(address).expect("the socket binds");
        PassedSockets { api: Some(api), ..PassedSockets::default() }
    }

    fn config(api_keys: &str) -> Config {
        let text =
            format!("[tftp]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n[api]\n{api_keys}");
        Config::parse(&text).expect("the configuration is valid")
    }

    #[tokio::test]
    async fn passed_socket_replaces_the_configured_address() {
        let passed = passed_api("127.0.0.1:0");
        let address = passed.api.as_ref().and_then(|api| api.local_addr().ok()).expect("an address");
        let listeners = open(&config("listen = \"127.0.0.1:1\""), passed).expect("the listeners open");
        assert_eq!(listeners.operator.address(), address);
    }

    #[tokio::test]
    async fn passed_socket_beyond_loopback_needs_authentication() {
        let result = open(&config(""), passed_api("0.0.0.0:0"));
        assert!(matches!(result, Err(StartError::Unauthenticated(_))));
        assert!(open(&config("allow_unauthenticated = true"), passed_api("0.0.0.0:0")).is_ok());
    }

    #[tokio::test]
    async fn several_passed_tftp_sockets_but_no_dual_stack() {
        let socket = |address: &str| UdpSocket::bind(address).expect("the socket binds");
        let tftp = vec![socket("127.0.0.1:0"), socket("127.0.0.1:0")];
        let listeners = open(&config(""), PassedSockets { tftp, ..PassedSockets::default() })
            .expect("the listeners open");
        assert_eq!(listeners.tftp.addresses().len(), 2);
        let dual_stack = vec![socket("[::]:0")];
        let result = open(&config(""), PassedSockets { tftp: dual_stack, ..PassedSockets::default() });
        assert!(matches!(result, Err(StartError::Bind { listener: "tftp", .. })));
    }
}
