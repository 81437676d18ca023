//! A merge patch (RFC 7396), and the difference between the halves.

use serde_json::{Map, Value};

use super::document::{Document, DocumentError};

/// The document after a patch: a member that is null goes, an object is patched in its turn, all else is replaced.
///
/// # Errors
/// When the outcome is over a document's bounds.
pub fn merge(target: &Document, patch: &Document) -> Result<Document, DocumentError> {
    let mut members = target.members().clone();
    merge_members(&mut members, patch.members());
    Document::new(Value::Object(members))
}

fn merge_members(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, change) in patch {
        match change {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(changes) => {
                let place = target.entry(name.as_str()).or_insert(Value::Null);
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                if let Value::Object(inner) = place {
                    merge_members(inner, changes);
                }
            }
            other => {
                target.insert(name.clone(), other.clone());
            }
        }
    }
}

/// What `desired` has that `reported` lacks or has otherwise. Objects are compared member by member, arrays as a whole,
/// numbers by their value (21 is 21.0). What only `reported` has is no difference. It is a part of `desired`, so that
/// it is never larger.
pub fn delta(desired: &Document, reported: &Document) -> Map<String, Value> {
    delta_of(desired.members(), reported.members())
}

fn delta_of(desired: &Map<String, Value>, reported: &Map<String, Value>) -> Map<String, Value> {
    let differing = desired.iter().filter_map(|(name, wanted)| {
        let left = match (wanted, reported.get(name)) {
            (Value::Object(wanted), Some(Value::Object(found))) => {
                let inner = delta_of(wanted, found);
                (!inner.is_empty()).then_some(Value::Object(inner))
            }
            (wanted, Some(found)) if is_same(wanted, found) => None,
            (wanted, _) => Some(wanted.clone()),
        };
        left.map(|left| (name.clone(), left))
    });
    differing.collect()
}

fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() || other.is_f64() => one.as_f64() == other.as_f64(),
        (Value::Array(some), Value::Array(others)) => {
            some.len() == others.len() && some.iter().zip(others).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(some), Value::Object(others)) => {
            let has = |(name, one): (&String, &Value)| others.get(name).is_some_and(|other| is_same(one, other));
            some.len() == others.len() && some.iter().all(has)
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(json: &str) -> Document {
        Document::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn patches_are_those_of_the_rfc() {
        // RFC 7396, appendix A, as far as target and outcome are objects.
        let cases = [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            (r#"{"a":1}"#, r#"{"a":{"b":2}}"#, r#"{"a":{"b":2}}"#),
        ];
        for (target, patch, expected) in cases {
            assert_eq!(merge(&document(target), &document(patch)).unwrap().to_json(), expected, "{target} {patch}");
        }
    }

    #[test]
    fn the_delta_is_what_is_left_to_do() {
        let cases = [
            ("{}", "{}", "{}"),
            (r#"{"a":1}"#, "{}", r#"{"a":1}"#),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, "{}"),
            (r#"{"a":1,"b":{"c":2,"d":3}}"#, r#"{"a":1,"b":{"c":0,"d":3}}"#, r#"{"b":{"c":2}}"#),
            (r#"{"a":{}}"#, r#"{"a":{"b":1}}"#, "{}"),
            (r#"{"a":{}}"#, "{}", r#"{"a":{}}"#),
            (r#"{"a":{"b":1}}"#, r#"{"a":5}"#, r#"{"a":{"b":1}}"#),
            (r#"{"a":[1,2]}"#, r#"{"a":[1,3]}"#, r#"{"a":[1,2]}"#),
            (r#"{"a":21,"b":[0.5]}"#, r#"{"a":21.0,"b":[0.5]}"#, "{}"),
            (r#"{"a":18446744073709551615}"#, r#"{"a":18446744073709551614}"#, r#"{"a":18446744073709551615}"#),
        ];
        for (desired, reported, expected) in cases {
            let left = delta(&document(desired), &document(reported));
            assert_eq!(Value::Object(left).to_string(), expected, "{desired} {reported}");
        }
    }

    #[test]
    fn an_outcome_over_the_bound_is_refused() {
        let half = |name: &str| document(&format!("{{\"{name}\":\"{}\"}}", "x".repeat(9_000)));
        assert!(matches!(merge(&half("a"), &half("b")), Err(DocumentError::TooLarge { bytes }) if bytes > 18_000));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..3_i64).prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn any_document() -> impl Strategy<Value = Document> {
        prop::collection::btree_map("[a-c]", value(), 0..4)
            .prop_map(|members| Document::new(Value::Object(members.into_iter().collect())).unwrap())
    }

    proptest! {
        #[test]
        fn a_device_that_takes_over_its_delta_has_none_left(desired in any_document(), reported in any_document()) {
            // As twins keep them: without nulls as members.
            let desired = merge(&Document::default(), &desired).unwrap();
            let reported = merge(&Document::default(), &reported).unwrap();
            let left = Document::new(Value::Object(delta(&desired, &reported))).unwrap();
            let after = merge(&reported, &left).unwrap();
            prop_assert!(delta(&desired, &after).is_empty());
        }

        #[test]
        fn a_patch_twice_is_as_once(target in any_document(), patch in any_document()) {
            let once = merge(&target, &patch).unwrap();
            prop_assert_eq!(merge(&once, &patch).unwrap(), once);
        }
    }
}
