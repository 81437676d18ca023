//! What is published: 100-byte readings as JSON, or bytes that do not compress.

/// The length of every payload, in bytes.
pub const PAYLOAD_BYTES: usize = 100;

/// What a payload is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// A reading as JSON, with varying numbers.
    Reading,
    /// Random bytes.
    Random,
}

/// A small generator of numbers (SplitMix64), the same in every run.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end - 1`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

impl Payload {
    /// Appends one payload of [`PAYLOAD_BYTES`] for the device's `seq`-th reading.
    pub fn write(self, out: &mut Vec<u8>, device: &str, seq: u64, numbers: &mut Numbers) {
        match self {
            Payload::Reading => write_reading(out, device, seq, numbers),
            Payload::Random => {
                let end = out.len() + PAYLOAD_BYTES;
                while out.len() < end {
                    out.extend_from_slice(&numbers.next().to_le_bytes());
                }
                out.truncate(end);
            }
        }
    }
}

/// A reading whose temperature stays below the alarm's limit of 80.
fn write_reading(out: &mut Vec<u8>, device: &str, seq: u64, numbers: &mut Numbers) {
    let temperature = 1_500 + numbers.below(6_000);
    let humidity = 300 + numbers.below(400);
    let battery = 3_000 + numbers.below(1_200);
    let text = format!(
        r#"{{"device":"{device}","seq":{seq},"temperature":{}.{:02},"humidity":{}.{},"battery_mv":{battery}"#,
        temperature / 100,
        temperature % 100,
        humidity / 10,
        humidity % 10,
    );
    out.extend_from_slice(text.as_bytes());
    // Spaces are legal before the last brace, and make all readings one length.
    let padding = PAYLOAD_BYTES.saturating_sub(text.len() + 1);
    out.resize(out.len() + padding, b' ');
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_has_the_length_and_readings_are_json() {
        let mut numbers = Numbers::new(7);
        for seq in 0..10_000 {
            let mut out = Vec::new();
            Payload::Reading.write(&mut out, "dev-73", seq, &mut numbers);
            assert_eq!(out.len(), PAYLOAD_BYTES);
            let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            assert!(json["temperature"].as_f64().is_some_and(|t| t < 80.0));
            out.clear();
            Payload::Random.write(&mut out, "dev-73", seq, &mut numbers);
            assert_eq!(out.len(), PAYLOAD_BYTES);
        }
    }
}
