//! Which Cinder volumes come from, and what is done without it, as a configuration says.

use crate::attach::Policy;
use crate::cinder::{Cinder, Endpoint, Patience};
use crate::config::{CloudConfig, Config, Fault, WhenAway};
use crate::keystone::{Cloud, Surroundings};
use crate::telemetry::Metrics;

/// The cloud that a configuration leads to; none if it names none. Reads files.
pub(super) fn resolved(config: &CloudConfig) -> Result<Option<Cloud>, Vec<Fault>> {
    Cloud::resolve(config, &Surroundings::here())
}

/// The Cinder of a cloud.
pub(super) fn cinder(cloud: Cloud, metrics: Metrics) -> Cinder {
    let session = cloud.session();
    let Cloud { http, endpoint_override: url, region, interface, .. } = cloud;
    Cinder::new(session, http, Endpoint { url, region, interface }, Patience::default(), metrics)
}

/// What may be done while Cinder is away, and how much is asked of it at once.
pub(super) fn policy(config: &Config) -> Policy {
    let last_known = match config.boot.when_cinder_is_away {
        WhenAway::LastKnown => Some(config.boot.last_known_max_age),
        WhenAway::Wait => None,
    };
    Policy { last_known, resolutions: config.cinder.resolutions as usize }
}
