//! Which due task goes first.
//!
//! Strictly by priority, then turn by turn of their fairness keys (`fair`), then by time; but every 16th task started is the one that has been due longest,
//! whatever its priority, so that nothing waits for ever: with n tasks due before it, a task is started after at most
//! 16 × (n + 1) starts.

/// 1 to 9; 1 is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Priority(u8);

impl Priority {
    /// The priority of a task whose submission and definition name none.
    pub const NORMAL: Self = Self(5);

    /// `None` outside 1 to 9.
    pub fn new(value: i64) -> Option<Self> {
        u8::try_from(value).ok().filter(|v| (1..=9).contains(v)).map(Self)
    }

    /// 1 to 9.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// How the next task to start is chosen among those that are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Lowest priority number, then earliest trigger time, then id.
    MostUrgent,
    /// Earliest trigger time, then id.
    LongestDue,
}

/// Every how many starts the longest due task is taken.
pub const FAIR_EVERY: u64 = 16;

/// The choice for the start that follows `started` others.
pub fn pick(started: u64) -> Pick {
    if started % FAIR_EVERY == FAIR_EVERY - 1 {
        Pick::LongestDue
    } else {
        Pick::MostUrgent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_1_to_9() {
        assert_eq!(
            (0..=10).filter_map(Priority::new).map(Priority::get).collect::<Vec<_>>(),
            (1..=9).collect::<Vec<_>>()
        );
    }

    #[test]
    fn every_sixteenth_start_is_the_longest_due() {
        let picks: Vec<u64> = (0..48).filter(|n| pick(*n) == Pick::LongestDue).collect();
        assert_eq!(picks, [15, 31, 47]);
    }
}
