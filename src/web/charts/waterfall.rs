//! [`Waterfall`]: the phases of a machine's last boot, one below the other, beside the median of its boots before.

use super::WIDTH;
use crate::timeline::{BootMilestones, BootPhase, BootTrace, MedianPhases, PhaseSpan};
use crate::web::format;

/// A phase is slow if it takes this many times its median, and a second more.
const SLOW_FACTOR: u32 = 2;
const SLOW_MS: u32 = 1000;

/// The last boot of a machine.
pub(in crate::web) struct Waterfall {
    pub(in crate::web) rows: Vec<PhaseRow>,
    /// The duration of the last boot, and of the median.
    pub(in crate::web) total: String,
    pub(in crate::web) median_total: Option<String>,
    /// What the picture shows.
    pub(in crate::web) caption: String,
}

/// A phase.
pub(in crate::web) struct PhaseRow {
    pub(in crate::web) label: &'static str,
    /// The bar of the last boot; `None` if it has not come so far.
    pub(in crate::web) last: Option<PhaseBar>,
    pub(in crate::web) median: Option<PhaseBar>,
    pub(in crate::web) is_slow: bool,
}

/// A bar with its duration.
pub(in crate::web) struct PhaseBar {
    pub(in crate::web) x: u64,
    pub(in crate::web) width: u64,
    pub(in crate::web) duration: String,
}

impl Waterfall {
    /// The picture of a machine's last boot; `None` if no phase of it has ended.
    pub(in crate::web) fn new(last: &BootMilestones, earlier: &[BootTrace]) -> Option<Self> {
        let (phases, median) = (last.phases(), MedianPhases::new(earlier));
        let median_phases = median.as_ref().map(|median| median.phases.as_slice()).unwrap_or_default();
        let total = phases.last()?.end_ms;
        let scale = total.max(median_phases.last().map_or(0, |span| span.end_ms)).max(1);
        let rows = BootPhase::ALL.into_iter().filter_map(|phase| {
            let find = |phases: &[PhaseSpan]| phases.iter().find(|span| span.phase == phase).copied();
            let (last, median) = (find(&phases), find(median_phases));
            let is_slow = last.zip(median).is_some_and(|(last, median)| is_slow(&last, &median));
            (last.is_some() || median.is_some()).then(|| PhaseRow {
                label: label(phase),
                last: last.map(|span| PhaseBar::new(&span, scale)),
                median: median.map(|span| PhaseBar::new(&span, scale)),
                is_slow,
            })
        });
        let mut caption = match last.up {
            Some(_) => "From the first sign of the boot to up".to_owned(),
            None => "From the first sign of the boot".to_owned(),
        };
        if let Some(before) = last.powered_on_before {
            caption += &format!(", {} after the power-on", format::duration(before.into()));
        }
        if let Some(MedianPhases { boots, .. }) = &median {
            let boots = if *boots == 1 { "boot".to_owned() } else { format!("{boots} boots") };
            caption += &format!("; thin: the median of the {boots} before");
        }
        Some(Self {
            rows: rows.collect(),
            total: format::duration(total.into()),
            median_total: median_phases.last().map(|span| format::duration(span.end_ms.into())),
            caption: caption + ".",
        })
    }
}

impl PhaseBar {
    fn new(span: &PhaseSpan, scale: u32) -> Self {
        let position = |at: u32| u64::from(at) * WIDTH / u64::from(scale);
        let x = position(span.start_ms).min(WIDTH - 3);
        let width = position(span.end_ms).saturating_sub(x).max(3);
        Self { x, width, duration: format::duration(span.duration_ms().into()) }
    }
}

fn is_slow(last: &PhaseSpan, median: &PhaseSpan) -> bool {
    let (last, median) = (last.duration_ms(), median.duration_ms());
    last > median.saturating_mul(SLOW_FACTOR) && last > median.saturating_add(SLOW_MS)
}

fn label(phase: BootPhase) -> &'static str {
    match phase {
        BootPhase::Address => "Address",
        BootPhase::Files => "Files",
        BootPhase::Script => "Script",
        BootPhase::Volumes => "Volumes found",
        BootPhase::Login => "Login",
        BootPhase::System => "Loader to up",
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn boot(login: u32, up: Option<u32>) -> BootMilestones {
        BootMilestones {
            files: Some(2000),
            script: Some(3000),
            volumes: Some(3400),
            login: Some(login),
            up,
            ..BootMilestones::default()
        }
    }

    #[test]
    fn the_last_boot_stands_beside_the_median_of_those_before() {
        let earlier: Vec<_> = [4000, 5000, 4200]
            .into_iter()
            .map(|login| BootTrace {
                started_at: Timestamp::UNIX_EPOCH,
                milestones: boot(login, Some(10_000)),
            })
            .collect();
        let chart = Waterfall::new(&boot(8000, None), &earlier).expect("a picture");
        let rows: Vec<_> = chart.rows.iter().map(|row| (row.label, row.is_slow)).collect();
        let expected = [
            ("Files", false),
            ("Script", false),
            ("Volumes found", false),
            ("Login", true),
            ("Loader to up", false),
        ];
        assert_eq!(rows, expected);
        let login = &chart.rows[3];
        assert_eq!(login.last.as_ref().map(|bar| bar.duration.as_str()), Some("4.6 s"));
        assert_eq!(login.median.as_ref().map(|bar| bar.duration.as_str()), Some("0.8 s"));
        assert!(chart.rows[4].last.is_none() && chart.rows[4].median.is_some());
        assert_eq!((chart.total.as_str(), chart.median_total.as_deref()), ("8.0 s", Some("10.0 s")));
        assert_eq!(chart.caption, "From the first sign of the boot; thin: the median of the 3 boots before.");
        let fits = |bar: &PhaseBar| bar.x + bar.width <= WIDTH;
        assert!(chart.rows.iter().flat_map(|row| row.last.iter().chain(&row.median)).all(fits));
        assert!(Waterfall::new(&BootMilestones::default(), &earlier).is_none());
    }
}
