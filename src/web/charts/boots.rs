//! [`BootsChart`]: the boots of the last hour, day and week by result, and their times until *up*.

use super::{BarPart, stack};
use crate::timeline::{BootResult, BootSummary, BootWindows};
use crate::web::format;

/// The boots within three windows.
pub(in crate::web) struct BootsChart {
    pub(in crate::web) windows: Vec<WindowChart>,
    /// From when the times until *up* are measured.
    pub(in crate::web) start: Option<String>,
}

/// The boots within one window.
pub(in crate::web) struct WindowChart {
    pub(in crate::web) heading: &'static str,
    /// The number of boots, as a phrase.
    pub(in crate::web) total: String,
    pub(in crate::web) parts: Vec<BarPart>,
    /// Median and 95th percentile of the time until *up*.
    pub(in crate::web) up: Option<UpTimes>,
}

/// The times until *up*.
pub(in crate::web) struct UpTimes {
    pub(in crate::web) p50: String,
    pub(in crate::web) p95: String,
}

impl BootsChart {
    /// The chart; `None` if there was no boot.
    pub(in crate::web) fn new(windows: &BootWindows) -> Option<Self> {
        let up = &windows.week.up;
        let start = match (up.from_power_on, up.boots) {
            (_, 0) => None,
            (0, _) => Some("The time until up counts from the first sign of the boot.".to_owned()),
            (some, all) if some == all => {
                Some("The time until up counts from the power-on by volboot.".to_owned())
            }
            (some, all) => Some(format!(
                "The time until up counts from the power-on by volboot ({some} of {all} in the last week), else from the first \
                 sign of the boot."
            )),
        };
        let has_boots = windows.week.results.values().any(|count| *count > 0);
        let windows =
            [("Last hour", &windows.hour), ("Last day", &windows.day), ("Last week", &windows.week)];
        let windows =
            windows.into_iter().map(|(heading, summary)| WindowChart::new(heading, summary)).collect();
        has_boots.then_some(Self { windows, start })
    }
}

impl WindowChart {
    fn new(heading: &'static str, summary: &BootSummary) -> Self {
        let count = |result| summary.results.get(&result).copied().unwrap_or_default();
        let total: u64 = summary.results.values().sum();
        let parts = stack(&BootResult::ALL.map(|result| (label(result), class(result), count(result))));
        let total = match total {
            0 => "no boots".to_owned(),
            1 => "1 boot".to_owned(),
            many => format!("{} boots", format::grouped_number(usize::try_from(many).unwrap_or(usize::MAX))),
        };
        let up = &summary.up;
        let times = up
            .p50_ms
            .zip(up.p95_ms)
            .map(|(p50, p95)| UpTimes { p50: format::duration(p50), p95: format::duration(p95) });
        Self { heading, total, parts, up: times }
    }
}

fn label(result: BootResult) -> &'static str {
    match result {
        BootResult::Up => "up",
        BootResult::HandedOver => "handed over",
        BootResult::LocalDisk => "local disk",
        BootResult::Failed => "failed",
        BootResult::Open => "under way",
    }
}

/// The CSS class of a result.
fn class(result: BootResult) -> &'static str {
    match result {
        BootResult::Up => "up",
        BootResult::HandedOver => "handed-over",
        BootResult::LocalDisk => "local-disk",
        BootResult::Failed => "failed",
        BootResult::Open => "open",
    }
}
