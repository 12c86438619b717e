//! Lists of tasks, paged by key. Where a list spans waiting and ended tasks, the waiting come first.

use super::page::{self, Key};
use super::{Failed, rows};
use crate::model::attempt::LogLine;
use crate::model::ids::TaskId;
use crate::model::task::{Status, Task};
use crate::store::{Filter, Listing, Page, PageRequest, Result, StoreError};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

/// Bytes of payloads and results after which a page ends early, with a cursor: a thousand tasks of some megabytes each would be
/// more than a host has.
const PAGE_BYTES: usize = 16 << 20;

fn bytes(task: &Task) -> usize {
    task.payload.len() + task.result.as_ref().map_or(0, String::len)
}

/// How many of the tasks a page shows: at most `limit`, and none after [`PAGE_BYTES`] are reached.
fn shown(tasks: &[Task], limit: usize) -> usize {
    let mut before = 0;
    let fits = |task: &&Task| {
        let fits = before < PAGE_BYTES;
        before += bytes(task);
        fits
    };
    tasks.iter().take(limit).take_while(fits).count()
}

/// One table in one order.
struct Query {
    ended: bool,
    /// The column that sorts; the id breaks ties.
    sort: &'static str,
    descending: bool,
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Query {
    fn new(ended: bool, sort: &'static str, descending: bool) -> Self {
        Self {
            ended,
            sort,
            descending,
            conditions: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Adds a condition; each `?` in it stands for the next of `values`.
    fn and(mut self, condition: &str, values: impl IntoIterator<Item = Value>) -> Self {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
        self
    }

    fn filtered(mut self, filter: &Filter) -> Self {
        let (table, tags) = if self.ended {
            ("history", "history_tag")
        } else {
            ("task", "task_tag")
        };
        if let Some(name) = &filter.task_name {
            self = self.and("name = ?", [Value::from(name.clone())]);
        }
        if let Some(tag) = &filter.tag {
            let completed = if self.ended {
                " AND completed_at = history.completed_at"
            } else {
                ""
            };
            let condition = format!("EXISTS (SELECT 1 FROM {tags} WHERE tag = ? AND {tags}.id = {table}.id{completed})");
            self = self.and(&condition, [Value::from(tag.clone())]);
        }
        if let Some(prefix) = &filter.prefix {
            self = match TaskId::range_of_prefix(prefix) {
                Some((low, high)) => self.and(
                    "(id BETWEEN ? AND ? OR substr(name, 1, length(?)) = ?)",
                    [
                        Value::from(low.as_bytes().to_vec()),
                        Value::from(high.as_bytes().to_vec()),
                        Value::from(prefix.clone()),
                        Value::from(prefix.clone()),
                    ],
                ),
                None => self.and(
                    "substr(name, 1, length(?)) = ?",
                    [Value::from(prefix.clone()), Value::from(prefix.clone())],
                ),
            };
        }
        if self.ended {
            if let Some(status) = filter.status {
                self = self.and("status = ?", [Value::from(rows::status_number(status))]);
            }
            if let Some(since) = filter.since {
                self = self.and("completed_at >= ?", [Value::from(rows::micros(since))]);
            }
            if let Some(until) = filter.until {
                self = self.and("completed_at < ?", [Value::from(rows::micros(until))]);
            }
        } else if let Some(status) = filter.status {
            self = self.and(if status == Status::Running { "queue = 3" } else { "queue < 3" }, []);
        }
        self
    }

    /// Up to `limit` rows after `cursor`.
    fn run(mut self, db: &Connection, cursor: Option<Key>, limit: usize) -> Result<Vec<Task>> {
        let (table, columns) = if self.ended {
            ("history", rows::ENDED)
        } else {
            ("task", rows::LIVE)
        };
        let (order, beyond) = if self.descending { ("DESC", '<') } else { ("ASC", '>') };
        let sort = self.sort;
        if let Some((key, id)) = cursor {
            self = self.and(
                &format!("({sort}, id) {beyond} (?, ?)"),
                [Value::from(key), Value::from(id.to_vec())],
            );
        }
        let condition = if self.conditions.is_empty() {
            "1".to_owned()
        } else {
            self.conditions.join(" AND ")
        };
        let sql = format!(
            "SELECT {shared}, {columns} FROM {table} WHERE {condition} ORDER BY {sort} {order}, id {order} LIMIT {limit}",
            shared = rows::SHARED
        );
        let mut query = db.prepare_cached(&sql).failed()?;
        let mut found = query.query(params_from_iter(self.values)).failed()?;
        let (mut tasks, mut before) = (Vec::new(), 0);
        // One task more than a page shows tells that there is a next page.
        while before < PAGE_BYTES
            && let Some(row) = found.next().failed()?
        {
            before += tasks.last().map_or(0, bytes);
            tasks.push(rows::task(row).failed()?);
        }
        Ok(tasks)
    }
}

/// What sorts a list.
fn key(listing: &Listing, task: &Task) -> Key {
    let time = match listing {
        Listing::Running => task.started_at,
        Listing::Waiting => task.due_at,
        Listing::Failed => task.last_failure,
        Listing::History(_) => task.completed_at,
        Listing::All(_) => task.completed_at.or(Some(task.submitted_at)),
    };
    (time.map_or(0, rows::micros), *task.id.as_bytes())
}

/// The cursor for what comes after a task. In the list of all its first letter tells whether it is among those that ended.
pub(super) fn cursor(listing: &Listing, task: &Task) -> String {
    let part = match listing {
        Listing::All(_) if task.completed_at.is_some() => "e",
        Listing::All(_) => "w",
        _ => "",
    };
    format!("{part}{}", page::encode(key(listing, task)))
}

pub(super) fn tasks(db: &Connection, listing: &Listing, request: &PageRequest) -> Result<Page<Task>> {
    let one = |query: Query| {
        let tasks = query.run(db, page::decode(request.cursor.as_deref())?, request.limit + 1)?;
        Ok(cut(tasks, listing, request.limit))
    };
    match listing {
        Listing::Running => one(Query::new(false, "started_at", false).and("queue = 3", [])),
        Listing::Waiting => one(Query::new(false, "due_at", false).and("queue < 3", [])),
        Listing::History(filter) => one(Query::new(true, "completed_at", true).filtered(filter)),
        Listing::Failed => {
            let waiting = Query::new(false, "last_failure", true).and("retries > 0 AND queue < 3", []);
            let dead = Query::new(true, "last_failure", true).and("status = 3 AND dismissed = 0", []);
            let cursor = page::decode(request.cursor.as_deref())?;
            let mut tasks = waiting.run(db, cursor, request.limit + 1)?;
            tasks.extend(dead.run(db, cursor, request.limit + 1)?);
            tasks.sort_by_key(|task| std::cmp::Reverse(key(listing, task)));
            Ok(cut(tasks, listing, request.limit))
        }
        Listing::All(filter) => Ok(cut(all(db, filter, request)?, listing, request.limit)),
    }
}

/// The page of what was found: the rest is dropped, and the last one shown becomes the cursor.
fn cut(mut items: Vec<Task>, listing: &Listing, limit: usize) -> Page<Task> {
    let shown = shown(&items, limit);
    let more = items.len() > shown;
    items.truncate(shown);
    let next = items.last().filter(|_| more).map(|last| cursor(listing, last));
    Page { items, next }
}

/// Waiting and running tasks, newest first, then ended ones, latest first.
fn all(db: &Connection, filter: &Filter, request: &PageRequest) -> Result<Vec<Task>> {
    let cursor = request.cursor.as_deref();
    let live_cursor = cursor.and_then(|cursor| cursor.strip_prefix('w'));
    let ended_cursor = cursor.and_then(|cursor| cursor.strip_prefix('e'));
    if cursor.is_some() && live_cursor.is_none() && ended_cursor.is_none() {
        return Err(StoreError::BadCursor);
    }
    let wants_live = ended_cursor.is_none() && filter.status.is_none_or(|status| !status.is_final());
    let wants_ended = filter.status.is_none_or(Status::is_final);
    let mut items = Vec::new();
    if wants_live {
        items = Query::new(false, "submitted_at", true)
            .filtered(filter)
            .run(db, page::decode(live_cursor)?, request.limit + 1)?;
    }
    if wants_ended && shown(&items, request.limit) == items.len() {
        let limit = request.limit + 1 - items.len();
        items.extend(
            Query::new(true, "completed_at", true)
                .filtered(filter)
                .run(db, page::decode(ended_cursor)?, limit)?,
        );
    }
    Ok(items)
}

/// Lines of a task's log. The cursor holds the piece's row and how many of its lines were shown.
pub(super) fn log(db: &Connection, id: TaskId, request: &PageRequest) -> Result<Page<LogLine>> {
    let (from, skip) = page::decode(request.cursor.as_deref())?.map_or((0, 0), |(seq, shown)| (seq, u128::from_be_bytes(shown)));
    let mut skip = usize::try_from(skip).map_err(|_| StoreError::BadCursor)?;
    let mut pieces = db
        .prepare_cached("SELECT seq, lines FROM log WHERE task = ?1 AND seq >= ?2 ORDER BY seq")
        .failed()?;
    let mut rows = pieces.query(rusqlite::params![id.as_bytes(), from]).failed()?;
    let mut items = Vec::new();
    while let Some(row) = rows.next().failed()? {
        let seq: i64 = row.get(0).failed()?;
        let text: String = row.get(1).failed()?;
        let lines: Vec<LogLine> = serde_json::from_str(&text).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        if seq != from {
            skip = 0;
        }
        for (index, line) in lines.into_iter().enumerate().skip(skip) {
            if items.len() == request.limit {
                return Ok(Page {
                    items,
                    next: Some(page::encode((seq, (index as u128).to_be_bytes()))),
                });
            }
            items.push(line);
        }
    }
    if items.is_empty() {
        super::tasks::task(db, id)?;
    }
    Ok(Page { items, next: None })
}
