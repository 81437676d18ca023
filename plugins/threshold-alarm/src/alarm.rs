//! One key's alarm: pure.

/// When an alarm is raised and cleared.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// Whether readings above the limit are alarming, or those below it.
    pub side: Side,
    /// The reading that is just not alarming.
    pub limit: f64,
    /// The reading that just clears the alarm.
    pub clear: f64,
    /// Alarming readings in a row that raise it.
    pub readings: u32,
}

/// On which side of the limit the trouble is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Above,
    Below,
}

/// What an alarm became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Raised,
    Cleared,
}

/// Between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alarm {
    raised: bool,
    /// Alarming readings in a row so far; 0 while raised.
    streak: u32,
}

impl Alarm {
    /// Takes a reading in.
    pub fn read(&mut self, value: f64, threshold: &Threshold) -> Option<Change> {
        let (alarming, clearing) = match threshold.side {
            Side::Above => (value > threshold.limit, value <= threshold.clear),
            Side::Below => (value < threshold.limit, value >= threshold.clear),
        };
        if self.raised {
            if !clearing {
                return None;
            }
            *self = Alarm::default();
            return Some(Change::Cleared);
        }
        if !alarming {
            self.streak = 0;
            return None;
        }
        self.streak += 1;
        if self.streak < threshold.readings {
            return None;
        }
        *self = Alarm { raised: true, streak: 0 };
        Some(Change::Raised)
    }

    /// Version, raised, streak (big-endian).
    pub fn encode(self) -> [u8; 6] {
        let [a, b, c, d] = self.streak.to_be_bytes();
        [1, u8::from(self.raised), a, b, c, d]
    }

    /// Reads what `encode` wrote; anything else is an alarm at rest.
    pub fn decode(bytes: &[u8]) -> Alarm {
        match *bytes {
            [1, raised, a, b, c, d] => Alarm { raised: raised != 0, streak: u32::from_be_bytes([a, b, c, d]) },
            _ => Alarm::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raises_after_k_readings_and_clears_behind_the_clear_limit() {
        // Readings, and what each is to cause: `R`aised, `C`leared, `.` nothing.
        let cases: &[(Side, &[i32], &str)] = &[
            (Side::Above, &[81, 82, 83, 84], "..R."),
            (Side::Above, &[81, 82, 80, 83, 84, 85], ".....R"),
            (Side::Above, &[81, 81, 81, 76, 75, 81], "..R.C."),
            (Side::Above, &[75, 70], ".."),
            (Side::Below, &[79, 79, 79, 81, 85, 79], "..R.C."),
        ];
        for (side, readings, want) in cases {
            let threshold = Threshold {
                side: *side,
                limit: 80.0,
                clear: if *side == Side::Above { 75.0 } else { 85.0 },
                readings: 3,
            };
            let mut alarm = Alarm::default();
            let got: String = readings
                .iter()
                .map(|&value| match alarm.read(f64::from(value), &threshold) {
                    Some(Change::Raised) => 'R',
                    Some(Change::Cleared) => 'C',
                    None => '.',
                })
                .collect();
            assert_eq!(&got, want, "{side:?} {readings:?}");
        }
    }

    #[test]
    fn state_survives_encoding() {
        for alarm in [Alarm { raised: true, streak: 0 }, Alarm { raised: false, streak: 70_000 }] {
            assert_eq!(Alarm::decode(&alarm.encode()), alarm);
        }
        assert_eq!(Alarm::decode(b"?"), Alarm::default());
    }
}
