//! Boot requests and boot reports of machines.

use std::net::IpAddr;
use std::time::Instant;

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::origin::RequestOrigin;
use super::rate_limit::RateDecision;
use super::request::{BootReport, RequestError, parse_boot_request};
use super::respond::{NO_STORE, respond_script, respond_script_error};
use super::second_look::Look;
use super::{HttpState, events};
use crate::boot::{Decision, VolumeResolution};
use crate::model::{BootAnswer, BootRequest, BootStep, BootWindowStage, Mac, NeighbourCheck, RequesterFault};
use crate::script;

/// The wait of a machine over the rate limit, in seconds.
pub(super) const RATE_LIMIT_WAIT: u32 = 15;

/// Answers a boot request with the machine's script.
///
/// The path lacks the address if iPXE has none for the boot card; the query lists the other cards.
pub(super) async fn answer_boot_request(
    state: &HttpState,
    origin: RequestOrigin,
    method: &Method,
    address: &str,
    query: &str,
) -> Result<Response, RequestError> {
    let started_at = Instant::now();
    let peer = origin.peer;
    let mut request = parse_boot_request(address, query)?;
    let remote = peer.remote.ip().to_canonical();
    let decision = state.rate_limiter.check_address(remote);
    if let Some(response) = respond_rate_limited(state, decision, &request, remote) {
        return Ok(response);
    }
    request.neighbour_check = state.check_requester(origin).await;
    if let NeighbourCheck::Redirected { address, gateway } = &request.neighbour_check {
        let gateway = gateway.map(tracing::field::display);
        tracing::warn!(%address, gateway, mac = %request.mac(), "ICMP redirect changed the route to a requester");
    }
    let decision = state.rate_limiter.check_mac(remote, request.neighbour_check.mac());
    if let Some(response) = respond_rate_limited(state, decision, &request, remote) {
        return Ok(response);
    }
    // HEAD is safe: the script is previewed, and no volume is attached.
    let boots = *method != Method::HEAD;
    let mut decision =
        if boots { state.boot.answer(&request).await } else { state.boot.preview(&request).await };
    if boots && let Some(delay) = decision.held.filter(|delay| delay.is_first) {
        state.timeline.record(events::loop_delay(peer, &request, delay));
    }
    if let Some(fault) = &decision.fault {
        state.record_fault(origin, &format!("/boot/{}", request.mac()), fault);
    }
    if boots && let Some(refusal) = decision.window_refusal {
        state.metrics().count_window_refusal(refusal);
    }
    let mut script = script::build_script(&decision.answer, &request, state.config);
    if script.is_err() {
        // The types of `model` should have prevented this. The console and the log line below say so.
        decision.answer = BootAnswer::Refused {
            reason: "a value in this node's records cannot be written into an iPXE script".into(),
        };
        script = script::build_script(&decision.answer, &request, state.config);
    }
    if boots {
        state.timeline.record(events::boot_request(
            peer,
            &request,
            &decision,
            state.config.tries,
            started_at,
        ));
    }
    let Decision { answer, node, resolutions: resolved, attached_card, ended_once, .. } = decision;
    if let (true, Some(once)) = (boots && script.is_ok(), ended_once) {
        // The response does not wait for the store.
        let boot = state.boot.clone();
        tokio::spawn(async move { boot.end_once(&once).await });
    }
    if let (BootAnswer::Boot(plan), Some(card)) = (&answer, attached_card) {
        let look = Look { peer, node: plan.node, card };
        let (neighbours, boot) = (state.neighbours.clone(), state.boot.clone());
        state.second_looks.schedule(look, neighbours, boot, state.metrics().clone());
    }
    for VolumeResolution { volume, source, duration: took, server } in &resolved {
        let duration_ms = took.as_millis() as u64;
        let server = server.map(tracing::field::display);
        tracing::info!(
            mac = %request.mac(), volume, source = source.as_str(), duration_ms, server, "volume resolved"
        );
    }
    tracing::info!(
        mac = %request.mac(),
        %remote,
        node = node.map(tracing::field::display),
        attempt = request.attempt,
        tls = peer.tls,
        outcome = answer.outcome().as_str(),
        reason = answer.reason(),
        duration_us = started_at.elapsed().as_micros() as u64,
        "boot request"
    );
    Ok(script.map_or_else(|error| respond_script_error(&error), respond_script))
}

/// Takes a boot report. An unclear place of the sender gets 503, on which the sender repeats the report.
pub(super) async fn take_boot_report(
    state: &HttpState,
    origin: RequestOrigin,
    method: &Method,
    address: &str,
    query: &str,
) -> Result<Response, RequestError> {
    let peer = origin.peer;
    let report = BootReport::parse(address, query)?;
    // HEAD is safe: a report by it does not count, so none is lost.
    let counts = *method == Method::GET;
    // Responses without Retry-After: iPXE would honour it and hold up the boot.
    if state.rate_limiter.check_address(peer.remote.ip().to_canonical()) != RateDecision::Allowed {
        state.count_rate_limited();
        if counts {
            note_dropped_report(state, origin, report.mac).await;
        }
        return Ok((StatusCode::TOO_MANY_REQUESTS, "volboot: rate limit exceeded\n").into_response());
    }
    let BootReport { mac, step, rc, attempt } = &report;
    let step = step.as_ref().map(BootStep::to_string);
    let check = state.check_requester(origin).await;
    if let Err(fault) = state.boot.verify_report(*mac, &check).await {
        tracing::info!(%mac, sender = check.mac().map(tracing::field::display), step, rc, attempt, reason = %fault, "boot report rejected");
        if counts && may_be_machine(&fault) {
            state.boot.note_dropped_report(*mac);
        }
        state.record_fault(origin, &format!("/boot/{mac}/event"), &fault);
        let status = if fault.is_unclear() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::FORBIDDEN };
        return Ok((status, format!("volboot: {mac}: {fault}\n")).into_response());
    }
    tracing::info!(%mac, step, rc, attempt, tls = peer.tls, "boot report");
    if counts {
        state.boot.note_report(*mac, report.step.as_ref(), rc.as_deref());
        let success = report.step.as_ref().filter(|step| step.is_success(report.rc.as_deref()));
        let reported = success.and_then(|step| match step {
            BootStep::Hooked => Some(BootWindowStage::Hooked),
            BootStep::Up => Some(BootWindowStage::Up),
            BootStep::Hook(_) | BootStep::Boot | BootStep::Other(_) => None,
        });
        if let Some(reported) = reported {
            // The response does not wait for the store.
            let (boot, card) = (state.boot.clone(), *mac);
            tokio::spawn(async move { boot.note_boot(card, reported).await });
        }
        state.timeline.record(events::boot_report(peer, report));
    }
    // A body with its length: after a 204, iPXE would wait for the connection to close.
    Ok((NO_STORE, "noted\n").into_response())
}

/// Notes that a report over the rate limit was dropped, unless its sender is another machine than the one it names.
async fn note_dropped_report(state: &HttpState, origin: RequestOrigin, card: Mac) {
    let check = state.check_requester(origin).await;
    let fault = state.boot.verify_report(card, &check).await.err();
    if fault.as_ref().is_none_or(may_be_machine) {
        state.boot.note_dropped_report(card);
    }
}

/// Whether the sender of a rejected report may still be the machine itself.
fn may_be_machine(fault: &RequesterFault) -> bool {
    !matches!(fault, RequesterFault::OtherCard { .. })
}

/// The response to a request over the rate limit; `None` for allowed requests.
///
/// Logged at debug level only: at any other, one broken machine would flood the log.
fn respond_rate_limited(
    state: &HttpState,
    decision: RateDecision,
    request: &BootRequest,
    remote: IpAddr,
) -> Option<Response> {
    if decision != RateDecision::Allowed {
        state.count_rate_limited();
    }
    match decision {
        RateDecision::Allowed => None,
        RateDecision::OverLimit => {
            tracing::debug!(mac = %request.mac(), %remote, "rate limit exceeded");
            let reason = format!(
                "requests from {} or {remote} exceed the rate limit ([http] requests_per_second)",
                request.mac()
            );
            let answer = BootAnswer::Wait { reason, seconds: RATE_LIMIT_WAIT };
            let script = script::build_script(&answer, request, state.config);
            Some(script.map_or_else(|error| respond_script_error(&error), respond_script))
        }
        // iPXE honours Retry-After by itself, without a line on the console.
        RateDecision::TableFull => {
            let headers = [(header::RETRY_AFTER, RATE_LIMIT_WAIT.to_string())];
            Some((StatusCode::SERVICE_UNAVAILABLE, headers, "volboot: too many requests\n").into_response())
        }
    }
}
