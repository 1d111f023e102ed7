//! Performance targets of volboot, and whether the measured figures reach them.

/// Measured figures with their targets.
#[derive(Debug, Default)]
pub(crate) struct Targets(Vec<Target>);

#[derive(Debug)]
struct Target {
    name: String,
    figure: f64,
    bound: String,
    is_reached: bool,
}

impl Targets {
    pub(crate) fn at_most(&mut self, name: &str, figure: f64, bound: f64) {
        let is_reached = figure <= bound;
        self.0.push(Target { name: name.into(), figure, bound: format!("≤ {bound:.2}"), is_reached });
    }

    pub(crate) fn at_least(&mut self, name: &str, figure: f64, bound: f64) {
        let is_reached = figure >= bound;
        self.0.push(Target { name: name.into(), figure, bound: format!("≥ {bound:.2}"), is_reached });
    }

    pub(crate) fn print(&self) {
        println!("\n## Targets\n");
        println!("| figure | volboot | target | |");
        println!("|---|---|---|---|");
        for Target { name, figure, bound, is_reached } in &self.0 {
            println!(
                "| {name} | {figure:.2} | {bound} | {} |",
                if *is_reached { "reached" } else { "MISSED" }
            );
        }
    }
}
