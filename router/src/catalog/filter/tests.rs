//! The language of filters: what is taken, and what is wrong where.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A device to ask about: pump-7 with tags pump and north, connected, seen a minute ago.
struct Pump {
    tags: BTreeSet<String>,
    attributes: BTreeMap<String, Value>,
}

impl Pump {
    fn new() -> Self {
        let attributes = [
            ("pressure", Value::Number(5.5)),
            ("floor", Value::Number(-2.0)),
            ("serial", Value::Text("0042".into())),
            ("spare", Value::Flag(false)),
            ("device", Value::Text("inner".into())),
            ("and", Value::Text("both".into())),
        ];
        Self {
            tags: ["pump", "north/hall-2"].map(str::to_owned).into(),
            attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            device: "pump-7",
            tags: &self.tags,
            attributes: &self.attributes,
            enrolled: true,
            connected: true,
            protocol: Some("mqtt-5"),
            seen_ago_ms: Some(60_000),
        }
    }
}

#[test]
fn what_is_taken() {
    let pump = Pump::new();
    // (filter, does it take the pump)
    let cases = [
        ("", true),
        ("  ", true),
        ("device = pump-7", true),
        ("device=pump-7", true),
        ("device = 'pump-*'", true),
        ("device = pump-*", true),
        ("device != \"fan-*\"", true),
        ("device < q and device >= pump-7", true),
        ("device = PUMP-7", false),
        ("tag = pump", true),
        ("tag = \"north/*\"", true),
        ("tag = north", false),
        ("tag != south", true),
        ("tag != pump", false),
        ("connected = true", true),
        ("connected != true", false),
        ("connected = FALSE or enrolled = true", true),
        ("protocol = mqtt-*", true),
        ("pressure > 5", true),
        ("attribute.pressure > 5 and pressure <= 5.5", true),
        ("pressure = 5.50", true),
        ("pressure < 5e-1", false),
        ("floor < -1", true),
        ("pressure = \"5.5\"", false),
        ("pressure = *", true),
        ("humidity = *", false),
        ("humidity != 5", true),
        ("humidity < 5 or humidity >= 5", false),
        ("serial = 0042", true),
        ("serial = 42", false),
        ("serial > 0041", true),
        ("spare = false", true),
        ("spare != true", true),
        ("spare = \"false\"", false),
        ("attribute.device = inner", true),
        ("attribute.and = both", true),
        ("last_seen < 5m", true),
        ("last_seen > 1h", false),
        ("last_seen <= 60s and last_seen >= 60000ms", true),
        ("not tag = pump", false),
        ("not not tag = pump", true),
        ("not (connected = false or device = 'fan-*')", true),
        ("tag = pump and pressure > 5 and not (connected = false or device = \"fan-*\")", true),
        ("connected = false and tag = pump or pressure > 5", true),
        ("connected = false and (tag = pump or pressure > 5)", false),
        ("TAG = pump", false),
        ("tag = pump AND NOT tag = fan", true),
    ];
    for (text, expected) in cases {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(filter.takes(&pump.facts()), expected, "{text}");
    }
}

#[test]
fn what_was_never_seen_is_in_no_order() {
    let pump = Pump::new();
    let facts = Facts { protocol: None, seen_ago_ms: None, connected: false, ..pump.facts() };
    for (text, expected) in [
        ("last_seen > 0ms", false),
        ("last_seen < 9999d", false),
        ("not last_seen < 5m", true),
        ("protocol = *", false),
        ("protocol != mqtt-5", true),
    ] {
        assert_eq!(Filter::parse(text).unwrap().takes(&facts), expected, "{text}");
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    // (filter, position, expected, found)
    let cases = [
        ("tag", 4, "= or != after tag", "the end"),
        ("tag > pump", 5, "= or != after tag", "`>`"),
        ("tag =", 6, "a value", "the end"),
        ("tag = )", 7, "a value", "`)`"),
        ("tag = pump fan", 12, "`and`, `or` or the end", "`fan`"),
        ("tag = pump and", 15, "a name such as", "the end"),
        ("and tag = pump", 1, "a name such as", "`and`"),
        ("'tag' = pump", 1, "a name such as", "the text \"tag\""),
        ("= pump", 1, "a name such as", "`=`"),
        ("(tag = pump", 12, "`and`, `or` or `)`", "the end"),
        ("tag = pump)", 11, "`and`, `or` or the end", "`)`"),
        ("()", 2, "a name such as", "`)`"),
        ("connected = yes", 13, "true or false", "`yes`"),
        ("connected < true", 11, "= or != after connected", "`<`"),
        ("connected = 'true'", 13, "true or false", "the text"),
        ("pressure 5", 10, "a comparison", "`5`"),
        ("pressure == 5", 11, "a value", "`=`"),
        ("pressure > true", 12, "a number or text", "`true`"),
        ("device > pump-*", 10, "a value without `*`", "`pump-*`"),
        ("last_seen = 5m", 11, "<, <=, > or >= after last_seen", "`=`"),
        ("last_seen < 5", 13, "a span such as", "`5`"),
        ("last_seen < 99999999999999999999d", 13, "a span such as", "`99"),
        ("attribute. = 5", 1, "a name such as", "`attribute.`"),
        ("a* = 5", 1, "a name such as", "`a*`"),
        ("device = 'pump", 15, "a closing ' for the ' at position 10", "the end"),
        ("ä = \"x\" & b = 1", 9, "a name, a comparison", "`&`"),
        ("a ! b", 3, "a name, a comparison", "`!`"),
    ];
    for (text, at, expected, found) in cases {
        let error = Filter::parse(text).unwrap_err();
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.expected.starts_with(expected) && error.found.starts_with(found), "{text}: {error}");
    }
}

#[test]
fn a_filter_is_bounded() {
    let deep = |depth: usize| format!("{}tag = a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&deep(FILTER_DEPTH_MAX - 1)).is_ok());
    let error = Filter::parse(&deep(FILTER_DEPTH_MAX)).unwrap_err();
    assert_eq!(error.at, FILTER_DEPTH_MAX + 1);
    assert!(Filter::parse(&format!("{}tag = a", "not ".repeat(1_000))).is_err());
    let wide = |count: usize| vec!["a=1"; count].join(" or ");
    assert!(Filter::parse(&wide(FILTER_COMPARISONS_MAX)).is_ok());
    assert!(Filter::parse(&wide(FILTER_COMPARISONS_MAX + 1)).unwrap_err().expected.contains("256 comparisons"));
    assert!(Filter::parse(&"(".repeat(FILTER_BYTES_MAX + 1)).unwrap_err().found.contains("4097 bytes"));
}

#[test]
fn no_text_makes_it_panic() {
    let pieces = ["tag", "=", "(", ")", "not", "and", "or", "'", "\"", "\\", "*", "5", "<=", "ä", " ", "last_seen"];
    let mut state = 7u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..state % 12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        state = state.wrapping_add(1).wrapping_mul(6_364_136_223_846_793_005) >> 1;
        if let Err(error) = Filter::parse(&text) {
            assert!(error.at >= 1 && error.at <= text.chars().count() + 1, "{text}: {error}");
        }
    }
}

#[test]
fn filters_are_joined() {
    let pump = Pump::new();
    let joined = |text: &str| Filter::parse(text).unwrap().and(Filter::with_tag("pump")).and(Filter::connected(true));
    assert!(joined("").takes(&pump.facts()));
    assert!(!joined("tag = south or tag = west").takes(&pump.facts()));
    assert!(!Filter::with_tag("*").takes(&pump.facts()));
    assert!(Filter::default().and(Filter::default()).takes_all());
}
