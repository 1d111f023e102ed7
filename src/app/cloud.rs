//! Builds the Cinder client and the outage policy from the configuration.

use crate::attach::Policy;
use crate::cinder::{Cinder, CinderEndpoint, Timeouts};
use crate::config::{Config, OutagePolicy};
use crate::keystone::Cloud;
use crate::telemetry::Metrics;

/// Builds the Cinder client of a cloud.
pub(super) fn build_cinder(cloud: Cloud, metrics: Metrics) -> Cinder {
    let session = cloud.session();
    let Cloud { http, endpoint_override: url, region, interfaces, .. } = cloud;
    Cinder::new(session, http, CinderEndpoint { url, region, interfaces }, Timeouts::default(), metrics)
}

/// Builds the policy for Cinder outages, with the limit of concurrent resolutions.
pub(super) fn build_policy(config: &Config) -> Policy {
    let last_known = match config.boot.when_cinder_is_away {
        OutagePolicy::LastKnown => Some(config.boot.last_known_max_age),
        OutagePolicy::Wait => None,
    };
    Policy {
        last_known_max_age: last_known,
        resolutions: config.cinder.resolutions as usize,
        when_store_is_away: config.boot.when_store_is_away,
        store_max_age: config.boot.last_known_max_age,
    }
}
