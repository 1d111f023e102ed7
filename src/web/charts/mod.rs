//! Pictures, drawn on the server as SVG inside tables and lists that show the same numbers as text.
//!
//! Each picture is a bar without text in it, so that it fits any width, and is hidden from screen readers: the numbers are
//! beside it. Colours come from the style sheet, by class.

mod boots;
mod storm;
mod waterfall;

pub(super) use boots::BootsChart;
pub(super) use storm::StormChart;
pub(super) use waterfall::Waterfall;

/// The width of a bar in its own units.
const WIDTH: u64 = 1000;

/// A part of a stacked bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BarPart {
    pub(super) label: &'static str,
    pub(super) count: String,
    /// The CSS class.
    pub(super) class: &'static str,
    pub(super) x: u64,
    pub(super) width: u64,
}

/// Stacks counts, each with label and CSS class, into a bar of full width. Parts of zero are left out, and no other part is too thin to be seen.
fn stack(counts: &[(&'static str, &'static str, u64)]) -> Vec<BarPart> {
    /// The least width of a part.
    const LEAST: u64 = 6;
    let total: u64 = counts.iter().map(|(_, _, count)| count).sum();
    let used: Vec<_> = counts.iter().filter(|(_, _, count)| *count > 0).collect();
    let room = WIDTH - LEAST * used.len() as u64;
    let mut x = 0;
    let part = |(label, class, count): &&(&'static str, &'static str, u64)| {
        let width = LEAST + room * count / total.max(1);
        let count = super::format::grouped_number(usize::try_from(*count).unwrap_or(usize::MAX));
        let part = BarPart { label, count, class, x, width };
        x += width;
        part
    };
    used.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_a_visible_part_for_each_count_and_fits() {
        let counts = [("up", "up", 9_990), ("under way", "open", 0), ("failed", "failed", 1)];
        let parts = stack(&counts);
        let shown: Vec<_> = parts.iter().map(|part| (part.label, part.count.as_str())).collect();
        assert_eq!(shown, [("up", "9\u{202f}990"), ("failed", "1")]);
        assert_eq!((parts[0].x, parts[1].x), (0, parts[0].width));
        assert!(parts[1].width >= 6 && parts[1].x + parts[1].width <= WIDTH, "{parts:?}");
        assert_eq!(stack(&[("up", "up", 0)]), []);
    }
}
