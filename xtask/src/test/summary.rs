//! The closing words of a test run: what was checked, and what was not.

use std::path::Path;

/// Prints the skipped checks and the verdict.
pub fn print(missing: &[&str], skipped: &Path, passed: bool) {
    let lines = std::fs::read_to_string(skipped).unwrap_or_default();
    print!("{}", text(missing, &lines, passed));
}

fn text(missing: &[&str], skipped: &str, passed: bool) -> String {
    let mut checks: Vec<&str> = skipped.lines().filter_map(|line| line.strip_prefix("skipped: ")).collect();
    checks.sort_unstable();
    checks.dedup();
    let mut text = String::from("\n");
    if !missing.is_empty() {
        text.push_str(&format!("not installed here: {}\n", missing.join(", ")));
    }
    match checks.len() {
        0 => text.push_str("no check was skipped\n"),
        count => text.push_str(&format!("{count} checks were skipped:\n")),
    }
    for check in checks {
        text.push_str(&format!("  {check}\n"));
    }
    text.push_str(if passed { "all tests passed\n" } else { "tests failed, see above\n" });
    text
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn each_skipped_check_is_told_once() {
        assert_eq!(text(&[], "", true), "\nno check was skipped\nall tests passed\n");
        let lines = "skipped: b: absent\nskipped: a: absent\nskipped: b: absent\n";
        let expected =
            "\nnot installed here: x\n2 checks were skipped:\n  a: absent\n  b: absent\ntests failed, see above\n";
        assert_eq!(text(&["x"], lines, false), expected);
    }
}
