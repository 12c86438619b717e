//! A store as it is after some weeks, written straight into the file of a host that is stopped: at the speed of the disk instead of that
//! of the product.
//!
//! Rows come in the order of their time, as they do in life. All of it is made up from row numbers, so two fillings are alike.

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, Statement, params};
use std::path::Path;
use std::time::Duration;
use taskhost::model::attempt::OutcomeKind;
use taskhost::model::hold::Hold;
use taskhost::model::metrics::Metrics;

/// Names of the tasks in it; none of them has a handler.
const NAMES: u64 = 20;
/// Rows of one transaction.
const CHUNK: u64 = 100_000;
/// How far back the history goes, in days: less than it is kept.
const DAYS: i64 = 20;
const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// How many rows there are of each kind.
#[derive(Clone, Copy)]
pub(crate) struct Amounts {
    /// Tasks dated ahead, from tomorrow on.
    pub(crate) ahead: u64,
    /// Tasks that are due and have no handler.
    pub(crate) held: u64,
    /// Schedules that fire in a month at the earliest.
    pub(crate) schedules: u64,
    /// Ended tasks.
    pub(crate) finished: u64,
}

/// What can be asked for by an id or a cursor: each from the middle of its list.
pub(crate) struct Middle {
    pub(crate) waiting: String,
    pub(crate) finished: String,
    /// As the lists' cursors are written.
    pub(crate) finished_cursor: String,
    pub(crate) waiting_cursor: String,
    pub(crate) schedule_cursor: String,
    pub(crate) completed_at: DateTime<Utc>,
}

type Id = [u8; 16];

/// The `number`-th row made, at a time.
fn id(at: i64, number: u64) -> Id {
    let millis = u128::from((at / 1_000).unsigned_abs());
    // A permutation of 62 bits: spread like random ones, and no two alike.
    let spread = u128::from(scatter(number) & (u64::MAX >> 2));
    (millis << 80 | 7 << 76 | u128::from(number & 0xfff) << 64 | 1 << 63 | spread).to_be_bytes()
}

fn scatter(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Some number below `below` that looks random.
fn pick(number: u64, salt: u64, below: u64) -> u64 {
    (scatter(number ^ salt << 40) >> 33) % below
}

fn name(number: u64) -> String {
    format!("import_{:02}", pick(number, 1, NAMES))
}

/// Every tenth has a common tag, every thousandth a rare one.
fn tag(number: u64) -> Option<&'static str> {
    match pick(number, 2, 1_000) {
        0 => Some("rare"),
        1..=100 => Some("nightly"),
        _ => None,
    }
}

fn payload(number: u64) -> String {
    format!(r#"{{"number":{number:012},"x":"{}"}}"#, "a".repeat(171))
}

/// Fills the database of a host that is stopped.
pub(crate) fn fill(database: &Path, amounts: Amounts, now: DateTime<Utc>) -> Result<Middle> {
    let db = Connection::open(database)?;
    db.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; PRAGMA locking_mode = EXCLUSIVE;")?;
    finished(&db, amounts.finished, now)?;
    waiting(&db, amounts, now)?;
    schedules(&db, amounts.schedules, now)?;
    sums(&db, now)?;
    let middle = middle(&db, amounts)?;
    drop(db);
    // What the kernel still has to write would be written while others measure.
    std::fs::File::open(database)?.sync_all()?;
    Ok(middle)
}

/// Runs a statement for each number below `count`.
fn each(db: &Connection, count: u64, mut row: impl FnMut(u64) -> Result<()>) -> Result<()> {
    for chunk in 0..count.div_ceil(CHUNK) {
        db.execute_batch("BEGIN")?;
        for number in chunk * CHUNK..count.min((chunk + 1) * CHUNK) {
            row(number)?;
        }
        db.execute_batch("COMMIT")?;
    }
    Ok(())
}

fn finished(db: &Connection, count: u64, now: DateTime<Utc>) -> Result<()> {
    let first = (now - TimeDelta::days(DAYS)).timestamp_micros();
    let span = TimeDelta::days(DAYS) - TimeDelta::hours(1);
    let step = span.num_microseconds().unwrap_or(0) / count.max(1).cast_signed();
    let mut insert = db.prepare(
        "INSERT INTO history (id, name, payload, priority, tags, trigger_at, submitted_at, started_at, attempt, retries, snoozes, losses,
           execution_time, last_failure, failure, plugin, origin_kind, status, completed_at, result, outcome, attempt_started_at, fuel_used,
           peak_memory, attempt_error, plugin_digest, node)
         VALUES (?1, ?2, ?3, 5, ?4, ?5, ?5, ?6, 1, 0, 0, 0, ?7, ?8, ?9, 'import', 0, ?10, ?11, ?12, ?13, ?6, 12345, 1114112, ?14, ?15, ?16)",
    )?;
    let mut tagged = db.prepare("INSERT INTO history_tag VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let node = id(first, u64::MAX);
    each(db, count, |number| {
        let submitted_at = first + step * number.cast_signed();
        let (started_at, completed_at) = (submitted_at + 500, submitted_at + 1_500);
        let id = id(submitted_at, number);
        let (status, outcome, error) = match pick(number, 3, 100) {
            0..=3 => (3, "error", Some("no such account")),
            4 => (4, "cancelled", Some("the task was cancelled")),
            _ => (2, "ok", None),
        };
        let failed = status == 3;
        insert.execute(params![
            id,
            name(number),
            payload(number),
            tag(number).map(|tag| format!("[\"{tag}\"]")),
            submitted_at,
            started_at,
            1_000,
            failed.then_some(completed_at),
            failed.then_some(r#"{"code":"fatal","error":"no such account"}"#),
            status,
            completed_at,
            (status == 2).then(|| format!(r#"{{"rows":{number:010}}}"#)),
            outcome,
            error,
            DIGEST,
            node,
        ])?;
        if let Some(tag) = tag(number) {
            tagged.execute(params![tag, completed_at, id, status, name(number)])?;
        }
        Ok(())
    })
}

fn waiting(db: &Connection, amounts: Amounts, now: DateTime<Utc>) -> Result<()> {
    let (hour, day) = (3_600_000_000, 86_400_000_000_i64);
    let now = now.timestamp_micros();
    let mut insert = db.prepare(
        "INSERT INTO task (id, name, payload, priority, tags, queue, held, held_key, trigger_at, due_at, submitted_at)
         VALUES (?1, ?2, ?3, 5, ?4, ?5, ?6, ?7, ?8, ?8, ?9)",
    )?;
    let mut tagged = db.prepare("INSERT INTO task_tag VALUES (?1, ?2)")?;
    // Numbers of ended tasks are below these.
    let mut add = |insert: &mut Statement<'_>, number: u64, queue: u8, due_at: i64, name: String| -> Result<()> {
        let number = number + amounts.finished;
        let id = id(now - hour, number);
        let tags = tag(number).map(|tag| format!("[\"{tag}\"]"));
        let held = (queue == 2).then_some("handler missing");
        let key = held.map(|_| Hold::Handler.key(&name, ""));
        insert.execute(params![id, name, payload(number), tags, queue, held, key, due_at, now - hour])?;
        if let Some(tag) = tag(number) {
            tagged.execute(params![tag, id])?;
        }
        Ok(())
    };
    each(db, amounts.ahead, |number| {
        let due_at = now + day + pick(number, 4, 300 * 86_400).cast_signed() * 1_000_000;
        add(&mut insert, number, 0, due_at, name(number))
    })?;
    each(db, amounts.held, |number| {
        let due_at = now - hour + pick(number, 5, 3_600).cast_signed() * 1_000_000;
        let name = format!("missing_{}", pick(number, 6, 5));
        add(&mut insert, number + amounts.ahead, 2, due_at, name)
    })
}

fn schedules(db: &Connection, count: u64, now: DateTime<Utc>) -> Result<()> {
    let created_at = now - TimeDelta::days(DAYS);
    let mut insert = db.prepare(
        "INSERT INTO schedule (id, name, task_name, declared, created_at, next_fire, planned_at, revision)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, 1)",
    )?;
    each(db, count, |number| {
        let created_at = (created_at + TimeDelta::seconds(number.cast_signed())).timestamp_micros();
        let next_fire = now + TimeDelta::days(31) + TimeDelta::seconds(pick(number, 7, 86_400).cast_signed());
        insert.execute(params![
            id(created_at, number),
            format!("schedule_{number}"),
            name(number),
            format!(r#"{{"cron_expression":"0 3 1 * *","payload":{{}},"task_name":"{}"}}"#, name(number)),
            created_at,
            next_fire.timestamp_micros()
        ])?;
        Ok(())
    })
}

/// The metrics and one alert of each name.
fn sums(db: &Connection, now: DateTime<Utc>) -> Result<()> {
    for number in 0..NAMES {
        let mut metrics = Metrics::default();
        for attempt in 0..10_000 {
            let outcome = if attempt % 25 == 0 { OutcomeKind::Error } else { OutcomeKind::Ok };
            metrics.add(outcome, Duration::from_micros(100 + pick(attempt, number, 100_000)));
        }
        let name = format!("import_{number:02}");
        db.execute(
            "INSERT INTO metric VALUES (?1, ?2)",
            params![name, serde_json::to_string(&metrics)?],
        )?;
        let at = now.timestamp_micros() - 3_600_000_000;
        db.execute(
            "INSERT INTO alert VALUES (?1, 'task_failure', ?2, ?1, 'no such account', 1000, ?3, ?3, 20000)",
            params![id(at, number), name, at],
        )?;
    }
    Ok(())
}

fn middle(db: &Connection, amounts: Amounts) -> Result<Middle> {
    let row = |table: &str, sort: &str, condition: &str, place: u64| -> Result<(i64, Id)> {
        let sql = format!("SELECT {sort}, id FROM {table} WHERE {condition} ORDER BY {sort}, id LIMIT 1 OFFSET ?1");
        Ok(db.query_row(&sql, [place.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?)))?)
    };
    let written = |id: Id| {
        let text = format!("{:032x}", u128::from_be_bytes(id));
        [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
    };
    let cursor = |(sort, id): (i64, Id)| format!("{:016x}{:032x}", sort.cast_unsigned(), u128::from_be_bytes(id));
    let ended: (i64, Id) = db.query_row(
        "SELECT completed_at, id FROM history WHERE seq = ?1",
        [amounts.finished.cast_signed() / 2],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let waits = row("task", "due_at", "queue = 0", amounts.ahead / 2)?;
    let fire = row("schedule", "next_fire", "next_fire IS NOT NULL", amounts.schedules / 2)?;
    Ok(Middle {
        waiting: written(waits.1),
        finished: written(ended.1),
        finished_cursor: cursor(ended),
        schedule_cursor: format!("{}.-", cursor(fire)),
        waiting_cursor: format!(".{}", cursor(waits)),
        completed_at: DateTime::from_timestamp_micros(ended.0).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskhost::store::sqlite::Sqlite;
    use taskhost::store::{Calendars, Filter, Listing, PageRequest, Store, read_schedule};

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_filled_in_is_what_the_store_reads() {
        let folder = tempfile::tempdir().expect("a folder");
        Sqlite::open(folder.path()).expect("a store").close().await;
        let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().expect("a time");
        let amounts = Amounts {
            ahead: 3,
            held: 4,
            schedules: 5,
            finished: 6,
        };
        fill(&folder.path().join("taskhost.sqlite"), amounts, now).expect("filled");
        let store = Sqlite::open(folder.path()).expect("a store");
        let page = || PageRequest { limit: 100, cursor: None };
        let waiting = store.tasks(Listing::Waiting, page()).await.expect("a list").items;
        let ended = store
            .tasks(Listing::History(Filter::default()), page())
            .await
            .expect("a list")
            .items;
        let schedules = store.schedules(page()).await.expect("a list").items;
        assert_eq!((waiting.len(), ended.len(), schedules.len()), (7, 6, 5));
        for schedule in &schedules {
            let (request, _) = read_schedule(&store, schedule, &mut Calendars::new()).await.expect("a schedule");
            assert_eq!(request.task_name, schedule.task_name);
        }
        let held_by = store.queue().await.expect("the queue").held_by;
        assert_eq!(held_by, [(Hold::Handler, 4)], "by the key under which its handler releases it");
    }
}
