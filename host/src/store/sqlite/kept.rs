//! How much is kept: sums by kind and task name, so that no question has to count.
//!
//! A commit adds to them once, whatever ended in it. What goes takes off what it was counted with, which is worked out from its own row by
//! the same expressions: so no sum drifts, and a transaction that is taken back takes its part of them with it. Each row counts with its
//! texts and with about what else it takes on the disk, in indexes too: a million tasks without results take room as well.

use super::Failed;
use super::rows::from_micros;
use crate::store::{Kept, Result, Sum};
use rusqlite::{Connection, params};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Bytes of a row of `history`.
pub(super) const TASK: &str = "(384 + octet_length(name) + octet_length(payload) + COALESCE(octet_length(result), 0)
   + COALESCE(octet_length(failure), 0) + COALESCE(octet_length(attempt_error), 0) + COALESCE(octet_length(progress), 0)
   + IIF(tags IS NULL, 0, 3 * octet_length(tags) + 96 * json_array_length(tags)))";
/// Bytes of a row of `attempt`, of one of `log` and of one of `event`: what [`KeptBook`] adds for them, in the words of SQL.
const ATTEMPT: &str = "(256 + COALESCE(octet_length(error), 0))";
const LOG: &str = "(64 + octet_length(lines))";
pub(super) const EVENT: &str = "(192 + octet_length(type) + octet_length(data)
   + 2 * (COALESCE(octet_length(source), 0) + COALESCE(octet_length(source_id), 0)))";

/// What is counted; the numbers are those of the table `kept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Task = 0,
    Attempt = 1,
    Log = 2,
    // 3: checkpoints, which count themselves.
    Event = 4,
}

/// What a commit adds and takes off; less than nothing, where it forgets.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Change {
    count: i64,
    bytes: i64,
}

/// By kind.
type Changes = [Change; 5];

/// What a commit does to the sums.
#[derive(Default)]
pub(super) struct KeptBook {
    /// The last row of `history` that is counted; none where that has to be read. What comes after it has ended in this commit.
    counted: Cell<Option<i64>>,
    changes: RefCell<HashMap<String, Changes>>,
}

impl KeptBook {
    /// So many more, of so many bytes together.
    pub(super) fn add(&self, kind: Kind, name: &str, count: i64, bytes: i64) {
        let mut changes = self.changes.borrow_mut();
        if !changes.contains_key(name) {
            changes.insert(name.to_owned(), Changes::default());
        }
        if let Some(change) = changes.get_mut(name).and_then(|changes| changes.get_mut(kind as usize)) {
            change.count += count;
            change.bytes += bytes;
        }
    }

    /// An attempt after which its task goes on, with this error.
    pub(super) fn add_attempt(&self, name: &str, error: Option<&str>) {
        self.add(Kind::Attempt, name, 1, 256 + length(error.unwrap_or_default()));
    }

    /// A piece of a log.
    pub(super) fn add_log(&self, name: &str, lines: &str) {
        self.add(Kind::Log, name, 1, 64 + length(lines));
    }

    /// An event: its type, its data, and where it came from.
    pub(super) fn add_event(&self, event_type: &str, data: &str, source: Option<[&str; 2]>) {
        let source: i64 = source.iter().flatten().map(|text| length(text)).sum();
        self.add(Kind::Event, "", 1, 192 + length(event_type) + length(data) + 2 * source);
    }

    /// Before anything is written.
    pub(super) fn begin(&self, db: &Connection) -> Result<()> {
        if self.counted.get().is_none() {
            self.begin_anew(db)?;
        }
        Ok(())
    }

    /// After rows of `history` went: their numbers may be given again.
    pub(super) fn begin_anew(&self, db: &Connection) -> Result<()> {
        let last = db
            .prepare_cached("SELECT COALESCE(MAX(seq), 0) FROM history")
            .and_then(|mut s| s.query_row([], |row| row.get(0)))
            .failed()?;
        self.counted.set(Some(last));
        Ok(())
    }

    /// Counts what has ended since it was asked last.
    pub(super) fn count_ended(&self, db: &Connection) -> Result<()> {
        static ENDED: LazyLock<String> = LazyLock::new(|| format!("SELECT seq, name, {TASK} FROM history WHERE seq > ?1 ORDER BY seq"));
        let Some(mut counted) = self.counted.get() else { return Ok(()) };
        let mut ended = db.prepare_cached(&ENDED).failed()?;
        let mut rows = ended.query([counted]).failed()?;
        while let Some(row) = rows.next().failed()? {
            counted = row.get(0).failed()?;
            let name = row.get_ref(1).failed()?.as_str().map_err(rusqlite::Error::from).failed()?;
            self.add(Kind::Task, name, 1, row.get(2).failed()?);
        }
        self.counted.set(Some(counted));
        Ok(())
    }

    /// Writes what the commit did.
    pub(super) fn flush(&self, db: &Connection) -> Result<()> {
        self.count_ended(db)?;
        let mut changes = self.changes.borrow_mut();
        if changes.is_empty() {
            return Ok(());
        }
        let mut write = db
            .prepare_cached(
                "INSERT INTO kept VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (kind, name) DO UPDATE SET count = count + excluded.count, bytes = bytes + excluded.bytes",
            )
            .failed()?;
        let mut has_forgotten = false;
        for (name, changes) in changes.drain() {
            for (kind, change) in (0_i64..).zip(changes).filter(|(_, change)| *change != Change::default()) {
                write.execute(params![kind, name, change.count, change.bytes]).failed()?;
                has_forgotten |= change.count < 0;
            }
        }
        if has_forgotten {
            // Task names come and go.
            db.prepare_cached("DELETE FROM kept WHERE count = 0")
                .and_then(|mut s| s.execute([]))
                .failed()?;
        }
        Ok(())
    }
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

/// Number and bytes of the pieces of a task's log.
pub(super) fn log_of(db: &Connection, task: &[u8; 16]) -> Result<(i64, i64)> {
    static SUM: LazyLock<String> = LazyLock::new(|| format!("SELECT COUNT(*), COALESCE(SUM({LOG}), 0) FROM log WHERE task = ?1"));
    sum_of(db, &SUM, task)
}

/// Number and bytes of the attempts after which a task went on.
pub(super) fn attempts_of(db: &Connection, task: &[u8; 16]) -> Result<(i64, i64)> {
    static SUM: LazyLock<String> = LazyLock::new(|| format!("SELECT COUNT(*), COALESCE(SUM({ATTEMPT}), 0) FROM attempt WHERE task = ?1"));
    sum_of(db, &SUM, task)
}

fn sum_of(db: &Connection, sql: &str, task: &[u8; 16]) -> Result<(i64, i64)> {
    db.prepare_cached(sql)
        .and_then(|mut s| s.query_row([task], |row| Ok((row.get(0)?, row.get(1)?))))
        .failed()
}

/// The sums, and since when there is anything.
pub(super) fn kept(db: &Connection) -> Result<Kept> {
    let mut kept = Kept::default();
    let mut sums = db.prepare_cached("SELECT kind, name, count, bytes FROM kept").failed()?;
    let mut rows = sums.query([]).failed()?;
    while let Some(row) = rows.next().failed()? {
        let (kind, name): (i64, String) = (row.get(0).failed()?, row.get(1).failed()?);
        let unsigned = |column| row.get::<_, i64>(column).failed().map(i64::unsigned_abs);
        let sum = Sum {
            count: unsigned(2)?,
            bytes: unsigned(3)?,
        };
        let of_kind = match kind {
            0 => &mut kept.tasks,
            1 => &mut kept.attempts,
            2 => &mut kept.logs,
            3 => &mut kept.checkpoints,
            _ => &mut kept.events,
        };
        of_kind.count += sum.count;
        of_kind.bytes += sum.bytes;
        if kind < 3 {
            let of_name = kept.by_name.entry(name).or_default();
            of_name.count += if kind == 0 { sum.count } else { 0 };
            of_name.bytes += sum.bytes;
        }
    }
    let oldest = |sql| {
        let mut oldest = db.prepare_cached(sql)?;
        oldest.query_row([], |row| row.get::<_, Option<i64>>(0))
    };
    let ended = "SELECT MIN(at) FROM (SELECT MIN(completed_at) AS at FROM history WHERE status = 2
       UNION ALL SELECT MIN(completed_at) FROM history WHERE status = 3 UNION ALL SELECT MIN(completed_at) FROM history WHERE status = 4)";
    kept.oldest_ended_at = oldest(ended).failed()?.map(from_micros);
    kept.oldest_event_at = oldest("SELECT MIN(at) FROM event").failed()?.map(from_micros);
    Ok(kept)
}
