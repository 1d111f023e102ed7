//! The answer to a boot request without HTTP: identify, read, decide, render.

use std::sync::Arc;
use std::time::{Duration, Instant};

use volboot::attach::{Attach, Policy};
use volboot::boot::Boot;
use volboot::config::Config;
use volboot::model::BootRequest;
use volboot::script;
use volboot::store::{Attachments, Inventory, Store};
use volboot::telemetry::Metrics;
use volboot::timeline::Timeline;

use crate::history;
use crate::requests::sample;

/// Measures the answers from a store with this many nodes, one after another.
pub(crate) async fn measure_answers(store: &Arc<dyn Store>, nodes: u32) -> Vec<Duration> {
    let timeline = tokio::task::spawn_blocking(|| Timeline::open_blocking(None, Metrics::new()));
    let timeline = timeline.await.expect("opens");
    let config = Config::default();
    let attach = Attach::new(Attachments::new(Arc::clone(store)), None, Policy::default());
    let inventory = Inventory::new(Arc::clone(store));
    let boot = Boot::new(inventory, attach, timeline.loop_detector(), config.enabled_storage_interfaces);
    let mut times = Vec::new();
    for n in sample(nodes) {
        let request = BootRequest::new(history::mac(n));
        let started_at = Instant::now();
        let decision = boot.answer(&request).await;
        let script =
            script::build_script(&decision.answer, &request, config.boot).expect("the script is built");
        times.push(started_at.elapsed());
        let text = script.into_text();
        assert!(text.contains("sanboot"), "{text}");
    }
    tokio::task::spawn_blocking(move || timeline.close_blocking()).await.expect("closes");
    times
}
