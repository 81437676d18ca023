//! Moments and spans of time as they are typed (pure): `2h`, `10m`, `-2h`, RFC 3339, offsets.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Where a tail begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the oldest event that is kept.
    Start,
    /// With the next one to come.
    End,
    /// At an offset, in each partition.
    Offset(u64),
    /// At a moment: milliseconds since 1970.
    TimeMs(i64),
    /// So long ago.
    Ago(Duration),
}

impl From {
    /// As it is typed, where it is to mean the same later; `now_ms` is the wall clock.
    pub fn absolute(self, now_ms: i64) -> String {
        let query = self.to_query(now_ms);
        let moment = query.strip_prefix('@').and_then(|ms| Timestamp::from_millisecond(ms.parse().ok()?).ok());
        moment.map_or(query, |at| at.to_string())
    }

    /// As the API takes it; `now_ms` is the wall clock.
    pub fn to_query(self, now_ms: i64) -> String {
        match self {
            Self::Start => "start".to_owned(),
            Self::End => "end".to_owned(),
            Self::Offset(offset) => offset.to_string(),
            Self::TimeMs(ms) => format!("@{ms}"),
            Self::Ago(span) => {
                let ago = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                format!("@{}", now_ms.saturating_sub(ago))
            }
        }
    }
}

/// Reads a tail's beginning.
///
/// # Errors
/// What would be right.
pub fn parse_from(text: &str) -> Result<From, String> {
    let wrong =
        || "expected start, end, an offset, a time such as 2026-11-21T08:00:00Z, or an age such as -2h".to_owned();
    match text {
        "start" => return Ok(From::Start),
        "end" => return Ok(From::End),
        _ => {}
    }
    if let Some(age) = text.strip_prefix('-') {
        return parse_span(age).map(From::Ago).map_err(|_| wrong());
    }
    if let Ok(offset) = text.parse() {
        return Ok(From::Offset(offset));
    }
    text.parse::<Timestamp>().map(|at| From::TimeMs(at.as_millisecond())).map_err(|_| wrong())
}

/// Reads a tail's end: a moment.
///
/// # Errors
/// What would be right.
pub fn parse_to(text: &str) -> Result<From, String> {
    match parse_from(text) {
        Ok(from @ (From::TimeMs(_) | From::Ago(_))) => Ok(from),
        _ => Err("expected a time such as 2026-11-21T08:00:00Z, or an age such as -1h".to_owned()),
    }
}

/// Reads a span: numbers with units, from days to milliseconds, such as `1h30m`.
///
/// # Errors
/// What would be right.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a span of time such as 30s, 10m, 2h, 7d or 500ms".to_owned();
    let mut total_ms = 0u64;
    let mut rest = text;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(factor).ok_or_else(wrong)?;
        total_ms = total_ms.checked_add(part).ok_or_else(wrong)?;
        rest = next;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads a span of one millisecond to `most`.
///
/// # Errors
/// What would be right.
pub fn parse_span_to(text: &str, most: Duration) -> Result<Duration, String> {
    let span = parse_span(text)?;
    let fits = !span.is_zero() && span <= most;
    if fits { Ok(span) } else { Err(format!("it is between 1ms and {}", show_span(most))) }
}

/// A span as people read it: its two largest units.
pub fn show_span(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let Some(at) = units.iter().position(|(_, length)| seconds >= *length) else {
        return format!("{}ms", span.as_millis());
    };
    let mut text = String::new();
    let mut rest = seconds;
    for (unit, length) in units.iter().skip(at).take(2) {
        if rest >= *length {
            text.push_str(&format!("{}{unit}", rest / length));
        }
        rest %= length;
    }
    text
}

/// A moment as people read it, in UTC, as `--from` takes it; `-` where there is none.
pub fn show_ms(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(at) => at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// The wall clock, in milliseconds since 1970.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_read() {
        let cases = [
            ("start", Ok(From::Start)),
            ("end", Ok(From::End)),
            ("0", Ok(From::Offset(0))),
            ("18446744073709551615", Ok(From::Offset(u64::MAX))),
            ("1970-01-01T00:00:01.5Z", Ok(From::TimeMs(1_500))),
            ("2026-11-21T09:00:00+01:00", Ok(From::TimeMs(1_795_248_000_000))),
            ("-2h", Ok(From::Ago(Duration::from_secs(7_200)))),
            ("-1h30m", Ok(From::Ago(Duration::from_secs(5_400)))),
            ("-", Err(())),
            ("-5", Err(())),
            ("", Err(())),
            ("2026-11-21", Err(())),
            ("18446744073709551616", Err(())),
            ("beginning", Err(())),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_from(text).map_err(|_| ()), expected, "{text:?}");
        }
        assert!(parse_from("x").unwrap_err().contains("-2h"));
    }

    #[test]
    fn beginnings_are_sent_as_the_api_takes_them() {
        assert_eq!(From::Ago(Duration::from_millis(5)).to_query(1_000), "@995");
        assert_eq!(From::TimeMs(-7).to_query(0), "@-7");
        assert_eq!(From::Offset(3).to_query(0), "3");
    }

    #[test]
    fn spans_are_read() {
        let cases = [
            ("500ms", Ok(500)),
            ("30s", Ok(30_000)),
            ("10m", Ok(600_000)),
            ("1h30m", Ok(5_400_000)),
            ("7d", Ok(604_800_000)),
            ("0s", Ok(0)),
            ("", Err(())),
            ("30", Err(())),
            ("s", Err(())),
            ("1 s", Err(())),
            ("-1s", Err(())),
            ("1w", Err(())),
            ("18446744073709551615d", Err(())),
            ("99999999999999999999s", Err(())),
        ];
        for (text, expected) in cases {
            let read = parse_span(text).map(|span| span.as_millis()).map_err(|_| ());
            assert_eq!(read, expected, "{text:?}");
        }
    }

    #[test]
    fn spans_are_shown_as_they_are_typed() {
        let cases = [
            (0, "0ms"),
            (999, "999ms"),
            (30_000, "30s"),
            (5_400_000, "1h30m"),
            (604_800_000, "7d"),
            (90_061_000, "1d1h"),
        ];
        for (ms, text) in cases {
            assert_eq!(show_span(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn moments_outside_of_the_calendar_are_shown_as_none() {
        assert_eq!(show_ms(i64::MAX), "-");
        assert_eq!(show_ms(0), "1970-01-01 00:00:00Z");
        assert_eq!(parse_from(&show_ms(5_000)), Ok(From::TimeMs(5_000)), "what is shown can be typed");
    }
}
