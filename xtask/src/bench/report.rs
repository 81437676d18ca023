//! The table at the end of a run, and the same as JSON.

use serde_json::{Value, json};

/// The median of a figure's repetitions, with the least and the most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` where nothing was measured.
    pub fn of(mut samples: Vec<f64>) -> Option<Spread> {
        samples.sort_by(f64::total_cmp);
        let median = *samples.get(samples.len() / 2)?;
        Some(Spread { median, min: *samples.first()?, max: *samples.last()? })
    }

    /// A figure that was taken once.
    pub fn once(sample: f64) -> Option<Spread> {
        Spread::of(vec![sample])
    }
}

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    PerSecond,
    Milliseconds,
    Microseconds,
    Bytes,
    Plain,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// At least this many times mosquitto's figure of the same run.
    TimesMosquitto(f64),
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub name: String,
    pub unit: Unit,
    pub edgeway: Option<Spread>,
    pub mosquitto: Option<Spread>,
    pub goal: Option<Goal>,
}

impl Row {
    pub fn new(name: impl Into<String>, unit: Unit, edgeway: Option<Spread>) -> Row {
        Row { name: name.into(), unit, edgeway, mosquitto: None, goal: None }
    }

    pub fn goal(mut self, goal: Goal) -> Row {
        self.goal = Some(goal);
        self
    }

    pub fn beside(mut self, mosquitto: Option<Spread>) -> Row {
        self.mosquitto = mosquitto;
        self
    }

    /// How many times mosquitto's figure ours is; `None` where that is nothing.
    pub fn ratio(&self) -> Option<f64> {
        let ratio = self.edgeway?.median / self.mosquitto?.median;
        ratio.is_finite().then_some(ratio)
    }

    /// Whether the goal was reached; `None` without a goal or a figure.
    pub fn reached(&self) -> Option<bool> {
        let median = self.edgeway?.median;
        Some(match self.goal? {
            Goal::AtLeast(goal) => median >= goal,
            Goal::AtMost(goal) => median <= goal,
            Goal::TimesMosquitto(goal) => self.ratio()? >= goal,
        })
    }

    fn cells(&self) -> [String; 6] {
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtLeast(goal)) => format!(">= {}", self.unit.text(goal)),
            Some(Goal::AtMost(goal)) => format!("<= {}", self.unit.text(goal)),
            Some(Goal::TimesMosquitto(goal)) => format!(">= {goal} x"),
        };
        let reached = match self.reached() {
            None => "",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        [
            self.name.clone(),
            self.unit.spread(self.edgeway),
            self.unit.spread(self.mosquitto),
            self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            goal,
            reached.to_owned(),
        ]
    }

    fn json(&self) -> Value {
        let spread = |spread: Option<Spread>| spread.map(|s| json!({"median": s.median, "min": s.min, "max": s.max}));
        json!({
            "name": self.name,
            "unit": self.unit.name(),
            "edgeway": spread(self.edgeway),
            "mosquitto": spread(self.mosquitto),
            "ratio": self.ratio(),
            "reached": self.reached(),
        })
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::PerSecond => "1/s",
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "us",
            Unit::Bytes => "bytes",
            Unit::Plain => "",
        }
    }

    fn text(self, figure: f64) -> String {
        match self {
            Unit::PerSecond if figure >= 1e6 => format!("{:.2}M/s", figure / 1e6),
            Unit::PerSecond if figure >= 1e4 => format!("{:.0}k/s", figure / 1e3),
            Unit::PerSecond => format!("{figure:.0}/s"),
            Unit::Milliseconds => format!("{figure:.2} ms"),
            Unit::Microseconds => format!("{figure:.2} us"),
            Unit::Bytes if figure < 1e6 => format!("{:.1} kB", figure / 1e3),
            Unit::Bytes => format!("{:.1} MB", figure / 1e6),
            Unit::Plain => format!("{figure:.2}"),
        }
    }

    fn spread(self, spread: Option<Spread>) -> String {
        match spread {
            None => String::new(),
            Some(Spread { median, min, max }) if min == max => self.text(median),
            Some(s) => format!("{} ({} - {})", self.text(s.median), self.text(s.min), self.text(s.max)),
        }
    }
}

/// The table as Markdown, columns aligned.
pub fn table(rows: &[Row]) -> String {
    let head = ["figure", "edgeway", "mosquitto", "ratio", "to reach", "reached"].map(str::to_owned);
    let mut lines = vec![head];
    lines.extend(rows.iter().map(Row::cells));
    let mut widths = [3usize; 6];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if index == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text.push_str(&format!("|-{}-|\n", rules.join("-|-")));
        }
    }
    text
}

/// The run as JSON.
pub fn json(rows: &[Row], machine: &str, seconds: u64) -> Value {
    json!({
        "machine": machine,
        "seconds": seconds,
        "figures": rows.iter().map(Row::json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_between_least_and_most() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!(spread, Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn a_goal_is_judged_by_what_was_measured() {
        let row = |goal| Row::new("x", Unit::PerSecond, Spread::once(30.0)).goal(goal);
        let cases = [
            (row(Goal::AtLeast(30.0)), Some(true)),
            (row(Goal::AtLeast(31.0)), Some(false)),
            (row(Goal::AtMost(29.0)), Some(false)),
            (row(Goal::TimesMosquitto(3.0)).beside(Spread::once(10.0)), Some(true)),
            (row(Goal::TimesMosquitto(3.1)).beside(Spread::once(10.0)), Some(false)),
            (row(Goal::TimesMosquitto(3.0)), None),
            (Row::new("x", Unit::Plain, None).goal(Goal::AtLeast(1.0)), None),
        ];
        for (row, reached) in cases {
            assert_eq!(row.reached(), reached, "{row:?}");
        }
    }

    #[test]
    fn every_line_of_the_table_is_as_long_as_the_first() {
        let rows = [Row::new("a", Unit::Bytes, None), Row::new("b", Unit::PerSecond, Spread::of(vec![1.0, 2e6]))];
        let text = table(&rows);
        let mut lengths = text.lines().map(|line| line.chars().count());
        let first = lengths.next();
        assert!(lengths.all(|length| Some(length) == first), "{text}");
    }
}
