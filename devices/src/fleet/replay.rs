//! Recorded series: CSV of `timestamp,value`, played again with the times that it holds; pure.

use thiserror::Error;

/// Most points of one series.
pub const POINTS_MAX: usize = 1_000_000;

/// One recorded value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When it was recorded: milliseconds since 1970, the text read as UTC.
    pub at_ms: i64,
    /// The value.
    pub value: f64,
}

/// A recorded series in the order of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    points: Vec<Point>,
}

/// Why a text is no series.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// A line that is not `timestamp,value`.
    #[error("line {line}: expected `YYYY-MM-DD HH:MM:SS,number` or `milliseconds,number`, found {found:?}")]
    Line {
        /// The line's number, from 1.
        line: usize,
        /// What it holds, at most 80 characters.
        found: String,
    },
    /// More lines than a series may have.
    #[error("more than {POINTS_MAX} points")]
    TooLong,
    /// No line of data.
    #[error("no points")]
    Empty,
}

impl Series {
    /// Reads a CSV text; a first line that is no data is taken for the head.
    pub fn parse(text: &str) -> Result<Self, ReplayError> {
        let mut points = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            match parse_line(line) {
                Some(point) => points.push(point),
                None if index == 0 => {}
                None => {
                    let found = line.chars().take(80).collect();
                    return Err(ReplayError::Line { line: index + 1, found });
                }
            }
            if points.len() > POINTS_MAX {
                return Err(ReplayError::TooLong);
            }
        }
        if points.is_empty() {
            return Err(ReplayError::Empty);
        }
        Ok(Self { points })
    }

    /// The points.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// How long after the start a point is due, in milliseconds, at a speed (2: twice as fast as
    /// recorded; 0: at once). `None` beyond the end.
    pub fn due_ms(&self, index: usize, speed: f64) -> Option<f64> {
        let (first, point) = (self.points.first()?, self.points.get(index)?);
        if speed <= 0.0 {
            return Some(0.0);
        }
        Some((point.at_ms - first.at_ms).max(0) as f64 / speed)
    }
}

fn parse_line(line: &str) -> Option<Point> {
    let (time, value) = line.split_once(',')?;
    let value: f64 = value.trim().parse().ok()?;
    if !value.is_finite() {
        return None;
    }
    let time = time.trim();
    let at_ms = match time.parse::<i64>() {
        Ok(ms) => ms,
        Err(_) => parse_time(time)?,
    };
    Some(Point { at_ms, value })
}

/// `YYYY-MM-DD HH:MM:SS` (or with a `T`; with a fraction, which is cut to milliseconds).
fn parse_time(text: &str) -> Option<i64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.split('-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.trim_end_matches('Z').split(':');
    let hour: i64 = time.next()?.parse().ok()?;
    let minute: i64 = time.next()?.parse().ok()?;
    let second: f64 = time.next().unwrap_or("0").parse().ok()?;
    let valid = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..10_000).contains(&year)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0.0..61.0).contains(&second);
    if !valid || date.next().is_some() || time.next().is_some() {
        return None;
    }
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute;
    Some(minutes * 60_000 + (second * 1_000.0) as i64)
}

/// Days since 1970-01-01 in the Gregorian calendar: years begin in March, so that leap days end them.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days_before_month = (153 * month + 2) / 5;
    365 * year + leaps + days_before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_utc() {
        let cases = [
            ("1970-01-01 00:00:00", 0),
            ("1969-12-31T23:59:59Z", -1_000),
            ("2000-02-29 12:00:00", 951_825_600_000),
            ("2013-12-02 21:15:00", 1_386_018_900_000),
            ("2024-03-01T00:00:00.250", 1_709_251_200_250),
            ("2100-03-01 00:00", 4_107_542_400_000),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_time(text), Some(ms), "{text}");
        }
        for text in ["", "2013-13-01 00:00:00", "2013-12-02", "2013-12-02 24:00:00", "2013-12-02 1:2:3:4", "x-1-1 0:0"]
        {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn a_file_is_read_with_or_without_a_head() {
        let text = "timestamp,value\n2013-12-02 21:15:00,73.5\r\n\n2013-12-02 21:20:00,-1e1\n";
        let series = Series::parse(text).unwrap();
        let point = |at_ms, value| Point { at_ms, value };
        assert_eq!(series.points(), [point(1_386_018_900_000, 73.5), point(1_386_019_200_000, -10.0)]);
        assert_eq!(Series::parse("5,1\n").unwrap().points(), [point(5, 1.0)]);
    }

    #[test]
    fn speed_divides_the_recorded_time() {
        let series = Series::parse("0,1\n1000,2\n500,3\n").unwrap();
        assert_eq!(series.due_ms(1, 1.0), Some(1_000.0));
        assert_eq!(series.due_ms(1, 60.0), Some(1_000.0 / 60.0));
        assert_eq!(series.due_ms(2, 0.0), Some(0.0));
        assert_eq!(series.due_ms(3, 1.0), None);
    }

    #[test]
    fn bad_files_name_the_line() {
        let line = |text: &str| match Series::parse(text) {
            Err(ReplayError::Line { line, .. }) => line,
            other => panic!("{other:?}"),
        };
        assert_eq!(line("1,2\nx\n"), 2);
        assert_eq!(line("a,b\n1,2\n2,NaN\n"), 3);
        assert_eq!(Series::parse("a,b\n"), Err(ReplayError::Empty));
    }
}
