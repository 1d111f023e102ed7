//! A scripted BMC with one system: Redfish as far as volboot uses it, and the faults of BMCs in the field.
#![allow(dead_code, reason = "each including test program uses a part")]

mod handlers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};
use volboot::listen::{HttpLimits, Listener};

use handlers::router;

pub(crate) const USER: &str = "root";
pub(crate) const PASSWORD: &str = "calvin-the-secret";
pub(crate) const SYSTEM: &str = "/redfish/v1/Systems/1";

/// The kinds of requests, for faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BmcCall {
    Login,
    Systems,
    Read,
    Change,
    Reset,
}

/// An injected fault.
#[derive(Debug, Clone)]
pub(crate) enum BmcTrouble {
    /// This status, with this message id, without effect.
    Status(u16, &'static str),
    /// No response.
    Hang,
    /// 200 with this body.
    Body(String),
    /// A redirect to this URL.
    Redirect(String),
}

/// The behaviour of the system and its BMC.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a deviation of its own")]
pub(crate) struct BmcState {
    pub(crate) is_on: bool,
    pub(crate) boot: BTreeMap<String, Value>,
    pub(crate) resets: Vec<&'static str>,
    pub(crate) targets: Vec<&'static str>,
    /// Whether an accepted reset has an effect.
    pub(crate) obeys: bool,
    /// The machine goes off right after it was seen on.
    pub(crate) dies: bool,
    /// Accepted changes of the boot override that are forgotten.
    pub(crate) forgets: u32,
    /// Whether `Continuous` is refused.
    pub(crate) refuses_continuous: bool,
    pub(crate) requires_etag: bool,
    pub(crate) has_sessions: bool,
    pub(crate) system_count: usize,
    pub(crate) sessions: BTreeSet<String>,
    pub(crate) faults: BTreeMap<BmcCall, VecDeque<BmcTrouble>>,
    /// Method, path, and the interesting part of the body.
    pub(crate) calls: Vec<String>,
    /// Requests under way: now, and the maximum so far.
    pub(crate) concurrent: (usize, usize),
    pub(crate) delay: Duration,
}

/// A running BMC. Stops on drop.
#[derive(Debug, Clone)]
pub(crate) struct FakeBmc {
    state: Arc<Mutex<BmcState>>,
    address: SocketAddr,
    _stop: Arc<DropGuard>,
}

impl FakeBmc {
    pub(crate) fn start() -> Self {
        let boot = [
            ("BootSourceOverrideTarget", "None"),
            ("BootSourceOverrideEnabled", "Disabled"),
            ("BootSourceOverrideMode", "UEFI"),
        ];
        let state = BmcState {
            is_on: false,
            boot: boot.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect(),
            resets: vec!["On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart"],
            targets: vec!["None", "Pxe", "Hdd", "Cd", "BiosSetup", "UefiHttp"],
            obeys: true,
            dies: false,
            forgets: 0,
            refuses_continuous: false,
            requires_etag: false,
            has_sessions: true,
            system_count: 1,
            sessions: BTreeSet::new(),
            faults: BTreeMap::new(),
            calls: Vec::new(),
            concurrent: (0, 0),
            delay: Duration::ZERO,
        };
        let state = Arc::new(Mutex::new(state));
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).expect("a free port exists");
        let address = listener.local_addr();
        let stop = CancellationToken::new();
        let limits = HttpLimits { request: Duration::from_secs(600), ..HttpLimits::default() };
        tokio::spawn(listener.serve(router(Arc::clone(&state)), limits, stop.clone(), Duration::ZERO));
        Self { state, address, _stop: Arc::new(stop.drop_guard()) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The `driver_info` of a node with this BMC.
    pub(crate) fn driver_info(&self) -> Value {
        serde_json::json!({
            "redfish_address": self.url(), "redfish_username": USER, "redfish_password": PASSWORD,
        })
    }

    pub(crate) fn script<T>(&self, change: impl FnOnce(&mut BmcState) -> T) -> T {
        change(&mut self.state.lock())
    }

    /// Injects a fault into the next calls of a kind.
    pub(crate) fn fail(&self, call: BmcCall, times: usize, trouble: BmcTrouble) {
        self.script(|state| {
            state.faults.entry(call).or_default().extend(std::iter::repeat_n(trouble, times));
        });
    }

    /// The calls since the last question that are no reads and no logins.
    pub(crate) fn take_commands(&self) -> Vec<String> {
        let calls = self.script(|state| std::mem::take(&mut state.calls));
        calls.into_iter().filter(|call| !call.starts_with("GET") && !call.contains("Session")).collect()
    }

    pub(crate) fn is_on(&self) -> bool {
        self.script(|state| state.is_on)
    }

    pub(crate) fn boot(&self, key: &str) -> Value {
        self.script(|state| state.boot.get(key).cloned().unwrap_or_default())
    }
}
