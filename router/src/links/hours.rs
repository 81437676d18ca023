//! The hours of a day in which topics may go, as `22:00-06:00`, in UTC (pure).

/// Minutes of a day.
const DAY_MINUTES: i64 = 24 * 60;
/// Milliseconds of a minute.
const MINUTE_MS: i64 = 60_000;

/// Hours of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// The minute of the day in which they begin.
    from: i64,
    /// The one in which they have ended; at most `from` where midnight is between.
    to: i64,
}

impl Hours {
    /// Reads `HH:MM-HH:MM`; `None` where it is something else, or no time at all.
    pub fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minute(from)?, minute(to)?);
        (from != to).then_some(Self { from, to })
    }

    /// Whether a moment is within them, Unix milliseconds.
    pub fn contain(self, at_ms: i64) -> bool {
        let minute = at_ms.div_euclid(MINUTE_MS).rem_euclid(DAY_MINUTES);
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }
}

/// The minute of the day that `HH:MM` says; `24:00` is its end, which is its beginning.
fn minute(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| {
        let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { digits.parse::<i64>().ok() } else { None }
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY_MINUTES).then_some(all % DAY_MINUTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_go_over_midnight() {
        // hours, HH:MM of a day, whether it is within
        let cases = [
            ("22:00-06:00", "21:59", false),
            ("22:00-06:00", "22:00", true),
            ("22:00-06:00", "00:00", true),
            ("22:00-06:00", "05:59", true),
            ("22:00-06:00", "06:00", false),
            ("09:30-17:00", "09:29", false),
            ("09:30-17:00", "16:59", true),
            ("09:30-17:00", "17:00", false),
            ("18:00-24:00", "23:59", true),
            ("18:00-24:00", "00:00", false),
        ];
        for (hours, at, within) in cases {
            let hours = Hours::parse(hours).unwrap();
            let of_day = minute(at).unwrap() * MINUTE_MS;
            for day in [-1, 0, 20_000] {
                assert_eq!(hours.contain(day * DAY_MINUTES * MINUTE_MS + of_day), within, "{hours:?} {at} {day}");
            }
        }
        for wrong in ["", "22:00", "22-06", "24:01-06:00", "22:60-23:00", "6:00-7:00", "+6:00-07:00", "06:00-06:00"] {
            assert_eq!(Hours::parse(wrong), None, "{wrong}");
        }
    }
}
