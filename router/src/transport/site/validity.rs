//! Until when a certificate is good, as it says itself (pure). It is read after its signature was judged: what is here makes sure of no
//! more than that nothing breaks on garbage.

use rustls::pki_types::CertificateDer;

/// From then on a certificate is good for ever, seconds since 1970: the year 9999, which means that it has no end.
const FOR_EVER_S: u64 = 253_370_764_800;
/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Until when it is good, seconds since 1970; `None`: for ever, or it does not say.
pub(super) fn until_s(certificate: &CertificateDer<'_>) -> Option<u64> {
    let mut certificate = certificate.as_ref();
    let mut certificate = inside(&mut certificate, SEQUENCE)?;
    let mut signed = inside(&mut certificate, SEQUENCE)?;
    if signed.first() == Some(&VERSION) {
        any(&mut signed)?;
    }
    // Number, algorithm, issuer.
    for _ in 0..3 {
        any(&mut signed)?;
    }
    let mut validity = inside(&mut signed, SEQUENCE)?;
    any(&mut validity)?;
    let (tag, time) = any(&mut validity)?;
    seconds(tag, time).filter(|until| *until < FOR_EVER_S)
}

/// The next element's content, where it has this tag.
fn inside<'a>(bytes: &mut &'a [u8], expected: u8) -> Option<&'a [u8]> {
    let (tag, content) = any(bytes)?;
    (tag == expected).then_some(content)
}

/// The next element: its tag and its content.
fn any<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let [tag, first, rest @ ..] = *bytes else { return None };
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some((*tag, content))
}

/// A time as certificates have it: `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn seconds(tag: u8, time: &[u8]) -> Option<u64> {
    let time = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = time.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            // Certificates with two digits end with 2049.
            (if year < 50 { 2_000 + year } else { 1_900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = time.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = part(4)? * 3_600 + part(6)? * 60 + part(8)?;
    u64::try_from(days(year, month, day) * 86_400 + seconds).ok()
}

/// Days from 1970 to a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin with March, so that the odd day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        // tag, text, seconds
        let cases = [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "260101000000Z", Some(1_767_225_600)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (GENERALIZED_TIME, "20240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "20240301000000Z", Some(1_709_251_200)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "99991231000000Z", Some(253_402_214_400)),
            (GENERALIZED_TIME, "19690101000000Z", None),
            (GENERALIZED_TIME, "20241301000000Z", None),
            (GENERALIZED_TIME, "2024030100000Z", None),
            (GENERALIZED_TIME, "20240301000000", None),
            (GENERALIZED_TIME, "2024-301000000Z", None),
            (UTC_TIME, "é", None),
            (2, "260101000000Z", None),
        ];
        for (tag, text, expected) in cases {
            assert_eq!(seconds(tag, text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn garbage_has_no_end() {
        let all: [&[u8]; 7] =
            [b"", b"0", b"garbage", &[0x30, 0x84, 1, 1, 1, 1], &[0x30, 0x82, 0xff], &[0x30, 2, 0x30, 9], &[0x30, 0x80]];
        for bytes in all {
            assert_eq!(until_s(&CertificateDer::from(bytes.to_vec())), None, "{bytes:?}");
        }
    }
}
