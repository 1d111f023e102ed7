//! The task that announces this instance, lists the others, and runs a follower for each.

use std::time::Duration;

use reqwest::Client;

use super::follower::follow;
use super::membership::Membership;

/// Interval of announcements and lists.
const INTERVAL: Duration = Duration::from_secs(2);

/// Announces this instance, and follows the others with this client. Without a client, the others are listed only. Runs
/// until the task is aborted.
pub async fn run(membership: Membership, client: Option<Client>) {
    let mut interval = tokio::time::interval(INTERVAL);
    let mut is_failing = false;
    loop {
        interval.tick().await;
        let result = membership.exchange_announcements(client.is_some()).await;
        if let Err(error) = &result
            && !is_failing
        {
            tracing::warn!(%error, "cannot exchange announcements with the other instances");
        }
        is_failing = result.is_err();
        if let Some(client) = &client {
            membership.update_followers(|peer, url| {
                let following = follow(membership.clone(), client.clone(), peer.clone(), url.to_owned());
                tokio::spawn(following).abort_handle()
            });
        }
        membership.log_changes();
    }
}
