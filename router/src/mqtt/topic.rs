//! MQTT topic names and topic filters: what is valid, and which filter matches which name (section 4.7).

use super::codec::rules;
use super::codec::{Parsed, Version};

/// What a shared subscription's filter begins with (5.0 section 4.8.2).
const SHARE_PREFIX: &str = "$share/";

/// Refuses an empty name, U+0000 and wildcards.
pub(crate) fn check_name(name: &str) -> Parsed<()> {
    if name.is_empty() { Err(rules::NAME_EMPTY) } else { check_characters(name) }
}

/// Refuses U+0000 and wildcards; one pass without a branch for each byte.
#[inline]
pub(crate) fn check_characters(name: &str) -> Parsed<()> {
    let suspect = name.bytes().fold(false, |found, byte| found | matches!(byte, 0 | b'#' | b'+'));
    if suspect { Err(refused_character(name)) } else { Ok(()) }
}

#[cold]
fn refused_character(name: &str) -> &'static rules::Rule {
    if name.contains('\0') { rules::NUL } else { rules::NAME_WILDCARD }
}

/// Whether `name` can be published to: not empty, no wildcards, no U+0000, at most 65,535 bytes.
pub fn is_name(name: &str) -> bool {
    name.len() <= usize::from(u16::MAX) && check_name(name).is_ok()
}

/// Whether `filter` can be subscribed to without being shared.
pub fn is_filter(filter: &str) -> bool {
    filter.len() <= usize::from(u16::MAX) && !filter.contains('\0') && check_levels(filter).is_ok()
}

/// Refuses a filter that is not well-formed; says whether it is a shared subscription's. `$share` has no meaning in
/// MQTT 3.1.1.
pub(crate) fn check_filter(filter: &str, version: Version) -> Parsed<bool> {
    match (version, shared(filter)) {
        (Version::V5, Some(shared)) => {
            let Shared { group, filter } = shared?;
            if group.is_empty() {
                return Err(rules::SHARE_EMPTY);
            }
            if group.contains(['+', '#']) {
                return Err(rules::SHARE_NAME);
            }
            check_levels(filter)?;
            Ok(true)
        }
        _ => check_levels(filter).map(|()| false),
    }
}

fn check_levels(filter: &str) -> Parsed<()> {
    if filter.is_empty() {
        return Err(rules::FILTER_EMPTY);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level.len() > 1 || levels.peek().is_some()) {
            return Err(rules::FILTER_HASH);
        }
        if level.contains('+') && level.len() > 1 {
            return Err(rules::FILTER_PLUS);
        }
    }
    Ok(())
}

/// A shared subscription's two parts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Shared<'a> {
    /// The share name.
    pub group: &'a str,
    /// The topic filter.
    pub filter: &'a str,
}

/// Splits `$share/{group}/{filter}`: `None` where it is not shared, an error where a part is absent.
pub(crate) fn shared(filter: &str) -> Option<Parsed<Shared<'_>>> {
    let rest = filter.strip_prefix(SHARE_PREFIX)?;
    Some(match rest.split_once('/') {
        Some((_, "")) => Err(rules::SHARE_FILTER),
        Some((group, filter)) => Ok(Shared { group, filter }),
        None => Err(rules::SHARE_FILTER),
    })
}

/// Whether `filter` matches `name`. A leading wildcard does not match a name that begins with `$` ([MQTT-4.7.2-1]);
/// `a/#` matches `a` as well (section 4.7.1.2).
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = name.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_follows_section_4_7() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/#", "sports", false),
            ("#", "a/b/c", true),
            ("#", "/", true),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("+/#", "$SYS", false),
            ("$SYS/#", "$SYS/monitor/Clients", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a/$x/+", "a/$x/$y", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("+", "", true),
            ("a/+/#", "a", false),
            ("a/+/#", "a/b", true),
            ("A/b", "a/b", false),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
            ("a/b", "a/b/", false),
        ];
        for (filter, name, expected) in cases {
            assert_eq!(matches(filter, name), expected, "{filter} on {name}");
        }
    }

    #[test]
    fn names_and_filters_are_told_from_what_is_neither() {
        for name in ["a", "/", "a b", "$SYS/x", "ä/€", "a//b"] {
            assert!(is_name(name) && is_filter(name), "{name}");
        }
        for name in ["", "a/+", "#", "a\0", &"x".repeat(65_536)] {
            assert!(!is_name(name), "{name}");
        }
        for filter in ["#", "+", "+/+/#", "/+", "a/+/b", "$share/g/x"] {
            assert!(is_filter(filter), "{filter}");
        }
        for filter in ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a\0", "a/##", "++"] {
            assert!(!is_filter(filter), "{filter}");
        }
    }

    #[test]
    fn shared_filters_are_split_in_5_0_alone() {
        assert_eq!(shared("$share/g/a/#").map(|found| found.ok()), Some(Some(Shared { group: "g", filter: "a/#" })));
        assert!(shared("a/b").is_none() && shared("$shared/g/a").is_none());
        let cases = [
            ("$share/g/a", Ok(true)),
            ("$share/g//", Ok(true)),
            ("$share/g", Err(rules::SHARE_FILTER)),
            ("$share/", Err(rules::SHARE_FILTER)),
            ("$share/g/", Err(rules::SHARE_FILTER)),
            ("$share//a", Err(rules::SHARE_EMPTY)),
            ("$share/g#/a", Err(rules::SHARE_NAME)),
            ("$share/g/a#", Err(rules::FILTER_HASH)),
            ("a", Ok(false)),
        ];
        for (filter, expected) in cases {
            assert_eq!(check_filter(filter, Version::V5), expected, "{filter}");
        }
        assert_eq!(check_filter("$share/g", Version::V311), Ok(false));
    }
}
