//! Probes a target at a portal: one session for all LUNs of the node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use super::CheckShared;
use super::inspector::inspect;
use super::request::CheckRequest;
use crate::inspect::Contents;
use crate::iscsi::{Error, IscsiSession, Isid, LogicalUnit, LoginParameters};
use crate::model::{Chap, Lun, SanUri};

/// The time for a portal: connection, login and all LUNs.
const PORTAL_LIMIT: Duration = Duration::from_secs(5);
/// The time for the content of a volume, over one of its portals.
const INSPECTION_LIMIT: Duration = Duration::from_secs(20);
/// The time for the logout.
const LOGOUT_LIMIT: Duration = Duration::from_secs(1);
/// Redirections of a login that are followed.
const MAX_REDIRECTIONS: usize = 2;

/// What a session found on one path.
#[derive(Debug)]
pub(super) struct PathProbe {
    /// The position of the path in the volume's connection.
    pub(super) position: usize,
    /// The path.
    pub(super) path: SanUri,
    /// Whether this host could connect.
    pub(super) reachable: bool,
    /// Whether the target authenticated the initiator by CHAP; an error if the login failed.
    pub(super) login: Result<bool, ProbeError>,
    /// The logical unit, if the login succeeded.
    pub(super) unit: Option<Result<LogicalUnit, ProbeError>>,
    /// The content, if the session of this path read it.
    pub(super) contents: Option<Result<Contents, String>>,
}

/// Why a path cannot be used.
#[derive(Debug, Clone)]
pub(super) struct ProbeError {
    pub(super) error: Arc<Error>,
    /// The login was refused a moment ago, and was not repeated.
    pub(super) is_remembered: bool,
}

impl ProbeError {
    fn new(error: Error) -> Self {
        Self { error: Arc::new(error), is_remembered: false }
    }
}

/// The paths of a node that share a portal and a target, and so a session.
#[derive(Debug)]
pub(super) struct TargetPaths {
    path: SanUri,
    chap: Option<Chap>,
    /// Volume, position of the path, LUN.
    luns: Vec<(usize, usize, Lun)>,
    /// Of each volume, whether a session has begun to read its content.
    claims: Arc<[AtomicBool]>,
}

/// Groups the paths of all volumes by session.
pub(super) fn group_paths(request: &CheckRequest) -> Vec<TargetPaths> {
    let claims: Arc<[AtomicBool]> = request.volumes.iter().map(|_| AtomicBool::new(false)).collect();
    let mut targets: Vec<TargetPaths> = Vec::new();
    for (volume, requested) in request.volumes.iter().enumerate() {
        let Ok(connection) = &requested.connection else { continue };
        for (position, path) in connection.paths.iter().enumerate() {
            let is_same = |other: &&mut TargetPaths| {
                other.path.portal == path.portal
                    && other.path.target == path.target
                    && other.chap == connection.chap
            };
            let lun = (volume, position, path.lun);
            if let Some(target) = targets.iter_mut().find(is_same) {
                target.luns.push(lun);
            } else {
                let chap = connection.chap.clone();
                targets.push(TargetPaths {
                    path: path.clone(),
                    chap,
                    luns: vec![lun],
                    claims: Arc::clone(&claims),
                });
            }
        }
    }
    targets
}

/// Probes a target; returns the probe of each path with its volume. The session is logged out in any case.
pub(super) async fn probe_target(
    shared: Arc<CheckShared>,
    request: Arc<CheckRequest>,
    target: TargetPaths,
) -> Vec<(usize, PathProbe)> {
    let _permit = shared.sessions.acquire().await;
    let probe = |position, lun, reachable, login: &Result<bool, ProbeError>| PathProbe {
        position,
        path: SanUri { lun, ..target.path.clone() },
        reachable,
        login: login.clone(),
        unit: None,
        contents: None,
    };
    let all = |reachable, login: Result<bool, ProbeError>| {
        let probes = target
            .luns
            .iter()
            .map(|(volume, position, lun)| (*volume, probe(*position, *lun, reachable, &login)));
        probes.collect()
    };
    let deadline = Instant::now() + PORTAL_LIMIT;
    let (reachable, session) = match &request.initiator {
        Ok(initiator) => open_session(&shared, initiator, &target, deadline).await,
        Err(_) => return Vec::new(),
    };
    let mut session = match session {
        Ok(session) => session,
        Err(error) => return all(reachable, Err(error)),
    };
    let used_chap = session.used_chap();
    let mut probes: Vec<(usize, PathProbe)> = all(true, Ok(used_chap));
    for (_, probe) in &mut probes {
        let unit = session.examine(lun_bytes(probe.path.lun)).await;
        probe.unit = Some(unit.map_err(ProbeError::new));
    }
    for (volume, probe) in &mut probes {
        let Some(Ok(unit)) = &probe.unit else { continue };
        if target.claims[*volume].swap(true, Ordering::Relaxed) {
            continue;
        }
        session.set_deadline(Instant::now() + INSPECTION_LIMIT);
        let loader = request.volumes[*volume].loader.as_ref();
        let lun = lun_bytes(probe.path.lun);
        probe.contents =
            Some(inspect(&shared.program, &mut session, lun, unit, loader, INSPECTION_LIMIT).await);
    }
    session.log_out(LOGOUT_LIMIT).await;
    probes
}

/// Connects and logs in, unless the same login was refused a moment ago. Returns whether the portal is reachable as well.
async fn open_session(
    shared: &CheckShared,
    initiator: &str,
    target: &TargetPaths,
    deadline: Instant,
) -> (bool, Result<IscsiSession, ProbeError>) {
    let chap = target.chap.as_ref().map(|chap| (chap.username.clone(), chap.password.clone()));
    let name = target.path.target.as_str().to_owned();
    let parameters = LoginParameters { initiator: initiator.to_owned(), target: name, chap };
    let portal = target.path.portal.to_string();
    if let Some(refusal) = shared.refusals.find(&portal, &parameters) {
        let error = ProbeError { is_remembered: true, ..ProbeError::new(Error::Refused(refusal)) };
        return (true, Err(error));
    }
    let mut reachable = false;
    let mut address = portal.clone();
    for _ in 0..=MAX_REDIRECTIONS {
        let stream = match timeout_at(deadline, connect(&address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return (reachable, Err(ProbeError::new(Error::Connect(error)))),
            Err(_) => return (reachable, Err(ProbeError::new(Error::TimedOut))),
        };
        reachable = true;
        match IscsiSession::log_in(stream, parameters.clone(), new_isid(), deadline).await {
            Err(Error::Redirected(to)) => {
                // `address[:port][,portal group]`; a name would be looked up for a stranger.
                let to = to.split(',').next().unwrap_or_default();
                match to.parse::<SocketAddr>() {
                    Ok(to) => address = to.to_string(),
                    Err(_) => {
                        return (
                            true,
                            Err(ProbeError::new(Error::Protocol("the target redirects to no address"))),
                        );
                    }
                }
            }
            Err(Error::Refused(refusal)) => {
                if !refusal.is_transient() {
                    shared.refusals.insert(&portal, &parameters, refusal);
                }
                return (true, Err(ProbeError::new(Error::Refused(refusal))));
            }
            result => return (true, result.map_err(ProbeError::new)),
        }
    }
    (true, Err(ProbeError::new(Error::Protocol("the target redirects the login without end"))))
}

/// Connects to the first address that answers.
async fn connect(portal: &str) -> std::io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host(portal).await?.collect();
    TcpStream::connect(addresses.as_slice()).await
}

/// An ISID of type *random*, made anew for each session.
fn new_isid() -> Isid {
    let mut bytes = [0; 5];
    // A buffer of so few bytes is filled at once; see getrandom(2). Without random bytes, the clock tells sessions apart.
    if getrandom(&mut bytes, GetRandomFlags::empty()).is_err() {
        let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        bytes.copy_from_slice(&clock.as_nanos().to_be_bytes()[11..]);
    }
    Isid::from_random(bytes)
}

/// The LUN in the eight bytes of a command: groups of 16 bits, the low group first (as in Linux, `int_to_scsilun`).
fn lun_bytes(lun: Lun) -> [u8; 8] {
    let mut bytes = [0; 8];
    for (group, place) in bytes.chunks_exact_mut(2).enumerate() {
        place.copy_from_slice(&((lun.number() >> (16 * group)) as u16).to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lun_is_sent_with_its_low_group_first() {
        assert_eq!(lun_bytes(Lun::new(1)), [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(lun_bytes(Lun::new(0x4100)), [0x41, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(lun_bytes(Lun::new(0x0002_0001)), [0, 1, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn each_session_has_an_isid_of_its_own() {
        let (one, other) = (new_isid(), new_isid());
        assert_ne!(one, other);
        assert_eq!(one.bytes()[0], 0x80);
    }
}
