//! What a task, plugin, schedule, trigger or tag may be called.

/// The longest name, in bytes.
pub const MAX_NAME: usize = 128;

/// Whether `name` matches `[A-Za-z0-9._-]{1,128}`, which every name of a task or plugin does.
pub fn is_valid(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The sentence for a name that is not valid.
pub fn why_invalid(what: &str, name: &str) -> String {
    let shown: String = name.chars().take(40).collect();
    format!("{what} {shown:?} must be 1 to {MAX_NAME} characters of A-Z a-z 0-9 . _ -")
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn names_are_plain() {
        for good in ["a", "backtest", "desk-1.risk_scan", &"x".repeat(128)] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "a b", "<script>", "ä", "a/b", &"x".repeat(129)] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
