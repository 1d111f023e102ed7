//! [`StormChart`]: how far the machines are that boot now.

use super::{BarPart, stack};
use crate::timeline::BootStorm;

/// The fewest boots under way that make a storm. A picture of fewer says no more than the list.
const LEAST: usize = 5;

/// A storm as it runs.
pub(in crate::web) struct StormChart {
    pub(in crate::web) parts: Vec<BarPart>,
}

impl StormChart {
    /// The chart; `None` without a storm.
    pub(in crate::web) fn new(storm: &BootStorm) -> Option<Self> {
        let BootStorm { waiting, resolving, booting, up, failed } = *storm;
        let counts = [
            ("up", up),
            ("booting", booting),
            ("resolving", resolving),
            ("waiting", waiting),
            ("failed", failed),
        ];
        let counts = counts.map(|(name, count)| (name, name, count as u64));
        (storm.under_way() >= LEAST).then(|| Self { parts: stack(&counts) })
    }
}
