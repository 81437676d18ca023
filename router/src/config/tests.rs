//! The example file says the defaults, all of them; mistakes are named with line and column.

use std::path::Path;

use toml::{Table, Value};

use super::*;

const EXAMPLE: &str = include_str!("../../../docs/edgeway.example.toml");

/// Every key of both sides with its value, as `table.key`.
fn keys(prefix: &str, table: &Table, into: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        match value {
            Value::Table(table) => keys(&format!("{path}."), table, into),
            value => into.push((path, value.clone())),
        }
    }
}

#[test]
fn the_example_says_exactly_the_defaults() {
    let (mut written, mut defaults) = (Vec::new(), Vec::new());
    keys("", &EXAMPLE.parse().unwrap(), &mut written);
    keys("", &Table::try_from(Config::default()).unwrap(), &mut defaults);
    assert_eq!(written, defaults);
    assert_eq!(parse(EXAMPLE, Path::new("example")).unwrap(), Config::default());
}

#[test]
fn the_example_explains_every_key() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for pair in lines.windows(2) {
        let (before, line) = (pair[0], pair[1]);
        assert!(!line.contains('=') || line.starts_with('#') || before.starts_with('#'), "{line:?} is not explained");
    }
}

#[test]
fn nothing_at_all_is_a_configuration() {
    assert_eq!(parse("", Path::new("empty")).unwrap(), Config::default());
}

#[test]
fn mistakes_are_named_with_their_place() {
    // (text, line, column, what the message must say)
    let cases = [
        ("[node]\nnam = 'x'", 2, 1, "unknown field `nam`, expected `name` or `data`"),
        ("[nodes]", 1, 2, "unknown field `nodes`, expected one of `node`"),
        ("[listen]\n\nhttp   = 7080", 3, 10, "integer `7080`, expected an address with a port"),
        ("[listen]\nhttp   = 'here'", 2, 10, "string \"here\", expected an address with a port"),
        ("[listen]\nquic   = 'on'", 2, 10, "string \"on\", expected \"off\", or an address with a port"),
        ("[quic]\nping_s = 31", 2, 10, "[quic] ping_s is 31, expected a number from 0 to 30"),
        ("[quic]\nkey_file = 'a'", 2, 12, "a file where certificate_file names one"),
        ("[quic]\ncertificate_file = 'a'", 1, 1, "a file where certificate_file names one"),
        ("[log.topics]\npartitions = 'four'", 2, 14, "invalid type: string \"four\", expected u32"),
        ("[log.topics]\npartitions = -1", 2, 14, "invalid value: integer `-1`, expected u32"),
        ("[log.topics]\ncompression = 'gzip'", 2, 15, "unknown variant `gzip`, expected one of `none`, `lz4`, `zstd`"),
        ("[log.topics]\npartitions = 0", 2, 14, "[log.topics] partitions is 0, expected a number from 1 to 256"),
        ("[node]\n  name = 'a b'", 2, 10, "[node] name is \"a b\", expected 1 to 64 letters"),
        ("[node]\ndata = ''", 2, 8, "expected the path of a folder"),
        ("[http]\nhosts = ['http://x']", 2, 9, "names without scheme, port or path"),
        ("[http]\nbody_bytes_max = 0", 2, 18, "expected a number from"),
        ("[routing]\nrules = [{pattern = 'a/#/b', topic = 't'}]", 2, 9, "routing pattern \"a/#/b\""),
        ("[[routing.rules]]\npattern = 'a'", 1, 1, "missing field `topic`"),
        ("[mqtt]\npacket_bytes_max = 10", 2, 20, "expected a number from 1024 to 16777216"),
        ("[node]\nname = ", 2, 8, "expected"),
        ("[node\n", 1, 6, "unclosed table"),
    ];
    for (text, line, column, expected) in cases {
        let error = parse(text, Path::new("a.toml")).unwrap_err();
        let ConfigError::Wrong { at, message, .. } = &error else { panic!("{error}") };
        assert_eq!(*at, (line, column), "{text:?}: {error}");
        assert!(message.contains(expected), "{text:?}: {message}");
        assert!(error.to_string().starts_with(&format!("a.toml:{line}:{column}: ")), "{error}");
    }
}

#[test]
fn quic_listens_where_it_is_told_to() {
    let listen = |text| parse(text, Path::new("a.toml")).unwrap().listen.quic;
    assert_eq!(listen("[listen]\nquic = 'off'"), None);
    assert_eq!(listen("[listen]\nquic = '[::]:14567'"), Some("[::]:14567".parse().unwrap()));
    assert!(parse("[quic]\ncertificate_file = 'a'\nkey_file = 'b'", Path::new("a.toml")).is_ok());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("/nowhere/edgeway.toml")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/edgeway.toml cannot be read: No such file"), "{error}");
}
