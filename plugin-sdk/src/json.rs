//! Finds one member of a JSON text without building a tree; quotes texts.

/// Nesting up to which values are skipped.
const DEPTH_MAX: usize = 64;

/// Where a value stands: member names, outermost first. Empty for the text's
/// own value, so that a payload of `21.5` is a reading too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<String>);

impl Path {
    /// Reads `engine.temperature`; an empty text or `.` is the whole value.
    #[must_use]
    pub fn new(text: &str) -> Path {
        let names = text.split('.').filter(|name| !name.is_empty());
        Path(names.map(str::to_owned).collect())
    }
}

/// Why no value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The text is not JSON, at this byte.
    NotJson(usize),
    /// A member of the path is absent.
    Absent,
    /// The value is there, but of another kind.
    NotNumber,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::NotJson(at) => write!(f, "not JSON at byte {at}"),
            Problem::Absent => f.write_str("the reading is absent"),
            Problem::NotNumber => f.write_str("the reading is not a number"),
        }
    }
}

/// The number at `path`. What follows it is not looked at; names are compared
/// as written, so that an escaped name does not match.
///
/// # Errors
/// See [`Problem`].
pub fn number_at(text: &[u8], path: &Path) -> Result<f64, Problem> {
    let token = token_at(text, path)?;
    match token.first() {
        Some(b'-' | b'0'..=b'9') => {
            std::str::from_utf8(token).ok().and_then(|token| token.parse().ok()).ok_or(Problem::NotNumber)
        }
        _ => Err(Problem::NotNumber),
    }
}

/// The text at `path`, between its quotes, escapes as written.
///
/// # Errors
/// See [`Problem`]; a value that is not a string is [`Problem::Absent`].
pub fn text_at<'a>(text: &'a [u8], path: &Path) -> Result<&'a str, Problem> {
    match token_at(text, path)? {
        [b'"', inner @ .., b'"'] => std::str::from_utf8(inner).map_err(|_| Problem::Absent),
        _ => Err(Problem::Absent),
    }
}

/// Appends `text` to `out` as a JSON string, with its quotes.
pub fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The value at `path` as it is written.
fn token_at<'a>(text: &'a [u8], path: &Path) -> Result<&'a [u8], Problem> {
    let mut scanner = Scanner { text, at: 0 };
    for name in &path.0 {
        scanner.enter_member(name.as_bytes())?;
    }
    scanner.skip_space();
    let start = scanner.at;
    scanner.skip_value()?;
    Ok(&text[start..scanner.at])
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn bad<T>(&self) -> Result<T, Problem> {
        Err(Problem::NotJson(self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Problem> {
        self.skip_space();
        if self.peek() != Some(byte) {
            return self.bad();
        }
        self.at += 1;
        Ok(())
    }

    /// Goes to the value of the object's member `name`.
    fn enter_member(&mut self, name: &[u8]) -> Result<(), Problem> {
        self.skip_space();
        if self.peek() != Some(b'{') {
            // Some other value; whether it is JSON at all decides the error.
            self.skip_value()?;
            return Err(Problem::Absent);
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            return Err(Problem::Absent);
        }
        loop {
            self.skip_space();
            let start = self.at + 1;
            self.skip_string()?;
            let matches = &self.text[start..self.at - 1] == name;
            self.expect(b':')?;
            if matches {
                return Ok(());
            }
            self.skip_space();
            self.skip_value()?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => return Err(Problem::Absent),
                _ => return self.bad(),
            }
        }
    }

    fn skip_string(&mut self) -> Result<(), Problem> {
        self.expect(b'"')?;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') if self.at + 1 < self.text.len() => self.at += 2,
                Some(byte) if byte != b'\\' && byte >= 0x20 => self.at += 1,
                _ => return self.bad(),
            }
        }
    }

    /// Skips a number, `true`, `false` or `null`.
    fn skip_scalar(&mut self) -> Result<(), Problem> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E')) {
            self.at += 1;
        }
        let token = &self.text[start..self.at];
        let word = matches!(token, b"true" | b"false" | b"null");
        let number = matches!(token, [b'-' | b'0'..=b'9', ..]);
        if word || number { Ok(()) } else { self.bad() }
    }

    /// Skips the value that begins here; brackets need to be paired by number
    /// and depth, not by kind.
    fn skip_value(&mut self) -> Result<(), Problem> {
        let mut depth = 0usize;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'"') => self.skip_string()?,
                Some(b'{' | b'[') if depth < DEPTH_MAX => {
                    self.at += 1;
                    depth += 1;
                }
                Some(b'}' | b']') if depth > 0 => {
                    self.at += 1;
                    depth -= 1;
                }
                Some(b',' | b':') if depth > 0 => self.at += 1,
                _ => self.skip_scalar()?,
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_or_the_reason_is_told() {
        let cases: &[(&str, &str, Result<f64, Problem>)] = &[
            ("21.5", "", Ok(21.5)),
            (" -3 ", "", Ok(-3.0)),
            (r#"{"t":21.5}"#, "t", Ok(21.5)),
            (r#"{ "a" : {"t": 1}, "t" : 2e3 }"#, "t", Ok(2000.0)),
            (r#"{"a":{"t":1},"t":2}"#, "a.t", Ok(1.0)),
            (r#"{"a":[1,{"t":5}],"s":"}\"","t":2}"#, "t", Ok(2.0)),
            (r#"{"t":1"#, "t", Ok(1.0)),
            (r#"{"t":"1"}"#, "t", Err(Problem::NotNumber)),
            (r#"{"t":null}"#, "t", Err(Problem::NotNumber)),
            (r#"{"t":1-2}"#, "t", Err(Problem::NotNumber)),
            (r#"{}"#, "t", Err(Problem::Absent)),
            (r#"{"u":1}"#, "t", Err(Problem::Absent)),
            (r#"[1]"#, "t", Err(Problem::Absent)),
            (r#"{"a":1}"#, "a.t", Err(Problem::Absent)),
            ("", "", Err(Problem::NotJson(0))),
            ("", "t", Err(Problem::NotJson(0))),
            ("hello", "t", Err(Problem::NotJson(5))),
            (r#"{"u" 1}"#, "t", Err(Problem::NotJson(5))),
            (r#"{"u":"x"#, "t", Err(Problem::NotJson(7))),
            (r#"{"u":"\"#, "t", Err(Problem::NotJson(6))),
        ];
        for (text, path, want) in cases {
            assert_eq!(&number_at(text.as_bytes(), &Path::new(path)), want, "{text} at {path}");
        }
    }

    #[test]
    fn texts_are_found() {
        let path = Path::new("device");
        assert_eq!(text_at(br#"{"device":"pump-1"}"#, &path), Ok("pump-1"));
        assert_eq!(text_at(br#"{"device":1}"#, &path), Err(Problem::Absent));
    }

    #[test]
    fn quoting_escapes_what_must_be() {
        let mut out = String::new();
        push_quoted(&mut out, "a\"\\\nb");
        assert_eq!(out, "\"a\\\"\\\\\\u000ab\"");
    }

    #[test]
    fn no_text_makes_the_scanner_panic() {
        let valid = br#"{"a":[1,{"t":-5e1}],"s":"}\"","t":2}"#;
        for cut in 0..valid.len() {
            for byte in 0..=255u8 {
                let mut text = valid.to_vec();
                text[cut] = byte;
                let _ = number_at(&text, &Path::new("t"));
                let _ = number_at(&text[..=cut], &Path::new("t"));
            }
        }
        let deep = "[".repeat(1000);
        assert_eq!(number_at(deep.as_bytes(), &Path::new("")), Err(Problem::NotJson(DEPTH_MAX)));
    }
}
