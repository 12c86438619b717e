//! What a manifest grants by name: patterns of event types and of task names.

use crate::executor::capabilities::Pattern;

/// What kind of name it is.
pub(super) struct Named {
    key: &'static str,
    verb: &'static str,
    /// Bytes of a pattern.
    longest: usize,
    /// What a name holds besides letters and digits.
    others: &'static str,
}

/// Types of events that a plugin may emit.
pub(super) const EVENTS: Named = Named {
    key: "capabilities.events",
    verb: "may emit events",
    longest: 256,
    others: "._:/-",
};
/// Tasks that a plugin may submit.
pub(super) const SUBMIT: Named = Named {
    key: "capabilities.submit",
    verb: "may submit",
    longest: 128,
    others: "._-",
};

/// Reads at most so many. A pattern that no name can fit is a mistake, and whoever made it would look for it elsewhere.
pub(super) fn read(named: &Named, texts: &[String], most: usize) -> Result<Vec<Pattern>, String> {
    let Named { key, longest, others, .. } = named;
    if texts.len() > most {
        return Err(format!("{key} may have {most} entries; it has {}", texts.len()));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '*' || others.contains(c);
    match texts
        .iter()
        .find(|text| text.is_empty() || text.len() > *longest || !text.chars().all(fits))
    {
        Some(text) => Err(format!(
            "{key} names {:?}; an entry has 1 to {longest} characters of A-Z a-z 0-9 {others}, and * for any of them",
            text.chars().take(*longest).collect::<String>()
        )),
        None => Ok(texts.iter().map(Pattern::new).collect()),
    }
}

/// What is granted, for people.
pub(super) fn sentences(named: &Named, patterns: &[Pattern]) -> impl Iterator<Item = String> {
    patterns.iter().map(|pattern| format!("{} {}", named.verb, pattern.as_str()))
}
