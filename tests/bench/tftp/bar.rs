//! What volboot is to reach, and whether it did.

/// Figures beside their bounds.
#[derive(Debug, Default)]
pub(crate) struct Bar(Vec<Line>);

#[derive(Debug)]
struct Line {
    what: String,
    figure: f64,
    bound: String,
    holds: bool,
}

impl Bar {
    pub(crate) fn at_most(&mut self, what: &str, figure: f64, bound: f64) {
        let line =
            Line { what: what.into(), figure, bound: format!("≤ {bound:.2}"), holds: figure <= bound };
        self.0.push(line);
    }

    pub(crate) fn at_least(&mut self, what: &str, figure: f64, bound: f64) {
        let line =
            Line { what: what.into(), figure, bound: format!("≥ {bound:.2}"), holds: figure >= bound };
        self.0.push(line);
    }

    pub(crate) fn print(&self) {
        println!("\n## The bar\n");
        println!("| what | volboot | bar | |");
        println!("|---|---|---|---|");
        for Line { what, figure, bound, holds } in &self.0 {
            println!("| {what} | {figure:.2} | {bound} | {} |", if *holds { "reached" } else { "MISSED" });
        }
    }
}
