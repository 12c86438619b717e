//! What keeps a due task from workers, and the key under which it waits.
//!
//! A key is a word, a name and a value, each with a slash between: `limit/desks/"fx"`. No name has a slash, so that all keys of one word
//! and name are a range of texts. What a key stands for becomes free for all that wait under it, or for so many of them.

use std::fmt;

/// What holds a due task: the word of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// No loaded plugin handles its name.
    Handler,
    /// Its name is paused.
    Pause,
    /// As many of its name run as its definition allows.
    Definition,
    /// A limit's places are taken, those of one value where the limit has a key.
    Limit,
    /// A limit's rate is used up.
    Rate,
    /// The task of its schedule's fire before has not ended.
    Schedule,
    /// A step that it needs has not ended. Nothing is released by this key: each such task is by its id.
    Needs,
}

/// The character after a slash: where the range of keys with one name ends.
const BEYOND: char = '0';

impl Hold {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::Handler,
        Self::Pause,
        Self::Definition,
        Self::Limit,
        Self::Rate,
        Self::Schedule,
        Self::Needs,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Pause => "pause",
            Self::Definition => "task",
            Self::Limit => "limit",
            Self::Rate => "rate",
            Self::Schedule => "schedule",
            Self::Needs => "needs",
        }
    }

    /// The key for a name, and for one of its values where they count by themselves, else for an empty one.
    pub fn key(self, name: impl fmt::Display, value: &str) -> String {
        format!("{}/{name}/{value}", self.as_str())
    }

    /// All keys of a name: from the first, up to the second and without it.
    pub fn range(self, name: impl fmt::Display) -> (String, String) {
        let word = self.as_str();
        (format!("{word}/{name}/"), format!("{word}/{name}{BEYOND}"))
    }

    /// The first key after all of this word.
    pub fn beyond(self) -> String {
        format!("{}{BEYOND}", self.as_str())
    }

    /// Whether a key is one of its own.
    pub fn has(self, key: &str) -> bool {
        Self::of(key).is_some_and(|(hold, _)| hold == self)
    }

    /// What a key holds, and its name.
    pub fn of(key: &str) -> Option<(Self, &str)> {
        let mut parts = key.split('/');
        let word = parts.next()?;
        let hold = Self::ALL.into_iter().find(|hold| hold.as_str() == word)?;
        Some((hold, parts.next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_it_was_made_of_and_lies_in_the_range_of_its_name() {
        for hold in Hold::ALL {
            let key = hold.key("a-b", "\"x/y\"");
            assert_eq!(Hold::of(&key), Some((hold, "a-b")));
            assert_eq!(Hold::ALL.into_iter().filter(|other| other.has(&key)).collect::<Vec<_>>(), [hold]);
            let (from, to) = hold.range("a-b");
            assert!(from <= key && key < to && to < hold.beyond());
            for other in ["a-b0", "a-", "a-b.", "b"] {
                let other = hold.key(other, "");
                assert!(other < from || other >= to, "{other} is of another name");
            }
        }
        assert_eq!(Hold::of("weather/x/"), None);
    }
}
