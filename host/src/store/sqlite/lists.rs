//! Lists of tasks, paged by key.
//!
//! A list is a merge of streams: ranges of an index, each in the list's order. The streams give keys and rows' numbers out of the index
//! alone; only the rows that a page shows are read. So a page costs the same however many tasks there are.

use super::page::{self, Key};
use super::{Failed, rows};
use crate::model::attempt::LogLine;
use crate::model::ids::TaskId;
use crate::model::task::{Status, Task};
use crate::store::{Filter, Listing, Page, PageRequest, Result, StoreError};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use std::sync::LazyLock;

/// Task names that a search by prefix looks through, at most.
const MAX_NAMES: usize = 100;
/// Ended tasks that a search by the beginning of an id looks through, newest first, at most: ids begin with their time.
const MAX_IDS: usize = 2_000;

/// A range of an index, in the order of a list.
#[derive(Clone)]
struct Stream {
    ended: bool,
    /// What it reads: a table and, where it matters, the index.
    from: &'static str,
    /// The columns that sort: the key and the id.
    order: (&'static str, &'static str),
    descending: bool,
    conditions: Vec<String>,
    values: Vec<Value>,
}

/// A row that a stream found.
struct Found {
    ended: bool,
    seq: i64,
    key: Key,
}

/// Waiting and running tasks by their id alone, newest first.
const LIVE_ORDER: (&str, &str) = ("0", "task.id");

impl Stream {
    fn new(ended: bool, from: &'static str, order: (&'static str, &'static str), descending: bool) -> Self {
        Self {
            ended,
            from,
            order,
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

    /// Up to `limit` rows after `cursor`.
    fn read(mut self, db: &Connection, cursor: Option<Key>, limit: usize, found: &mut Vec<Found>) -> Result<()> {
        let (sort, id) = self.order;
        let (order, beyond) = if self.descending { ("DESC", '<') } else { ("ASC", '>') };
        if let Some((key, after)) = cursor {
            self = match sort {
                "0" => self.and(&format!("{id} {beyond} ?"), [Value::from(after.to_vec())]),
                _ => self.and(
                    &format!("({sort}, {id}) {beyond} (?, ?)"),
                    [Value::from(key), Value::from(after.to_vec())],
                ),
            };
        }
        let table = if self.ended { "history" } else { "task" };
        let conditions = if self.conditions.is_empty() {
            "1".to_owned()
        } else {
            self.conditions.join(" AND ")
        };
        let by = if sort == "0" {
            format!("{id} {order}")
        } else {
            format!("{sort} {order}, {id} {order}")
        };
        let sql = format!(
            "SELECT {sort}, {id}, {table}.seq FROM {} WHERE {conditions} ORDER BY {by} LIMIT {limit}",
            self.from
        );
        let mut query = db.prepare_cached(&sql).failed()?;
        let rows = query.query_map(params_from_iter(self.values), |row| {
            Ok(Found {
                ended: self.ended,
                key: (row.get(0)?, row.get(1)?),
                seq: row.get(2)?,
            })
        });
        for row in rows.failed()? {
            found.push(row.failed()?);
        }
        Ok(())
    }
}

/// What sorts a list.
fn key(listing: &Listing, task: &Task) -> Key {
    let time = match listing {
        Listing::Running => task.started_at,
        Listing::Waiting => task.due_at,
        Listing::Failed => task.last_failure,
        Listing::History(_) | Listing::All(_) => task.completed_at,
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
    let found = match listing {
        Listing::All(filter) => all(db, filter, request)?,
        _ => merged(
            db,
            streams(db, listing)?,
            page::decode(request.cursor.as_deref())?,
            request.limit + 1,
        )?,
    };
    // One task more than a page shows tells that there is a next page.
    let (mut items, mut bytes, mut more) = (Vec::new(), 0, false);
    for row in found {
        if items.len() == request.limit || bytes >= page::BYTES {
            more = true;
            break;
        }
        let Some(task) = whole(db, &row)? else { continue };
        bytes += task.payload.len() + task.result.as_ref().map_or(0, String::len);
        items.push(task);
    }
    let next = items.last().filter(|_| more).map(|last| cursor(listing, last));
    Ok(Page { items, next })
}

/// The streams' rows in one order, each once.
fn merged(db: &Connection, streams: Vec<Stream>, cursor: Option<Key>, limit: usize) -> Result<Vec<Found>> {
    let descending = streams.first().is_some_and(|stream| stream.descending);
    let mut found = Vec::new();
    for stream in streams {
        stream.read(db, cursor, limit, &mut found)?;
    }
    found.sort_by(|a, b| if descending { b.key.cmp(&a.key) } else { a.key.cmp(&b.key) });
    found.dedup_by(|a, b| a.key == b.key);
    found.truncate(limit);
    Ok(found)
}

fn whole(db: &Connection, row: &Found) -> Result<Option<Task>> {
    static LIVE: LazyLock<String> = LazyLock::new(|| format!("SELECT {}, {} FROM task WHERE seq = ?1", rows::SHARED, rows::LIVE));
    static ENDED: LazyLock<String> = LazyLock::new(|| format!("SELECT {}, {} FROM history WHERE seq = ?1", rows::SHARED, rows::ENDED));
    db.prepare_cached(if row.ended { &ENDED } else { &LIVE })
        .and_then(|mut s| s.query_row([row.seq], rows::task).optional())
        .failed()
}

fn streams(db: &Connection, listing: &Listing) -> Result<Vec<Stream>> {
    let live = |order, descending| Stream::new(false, "task", order, descending);
    Ok(match listing {
        Listing::All(_) => Vec::new(),
        Listing::Running => vec![live(("started_at", "task.id"), false).and("queue = 3", [])],
        Listing::Waiting => {
            let by_time = Stream::new(false, "task INDEXED BY task_by_time", ("due_at", "task.id"), false);
            [0, 1, 2]
                .map(|queue| by_time.clone().and("queue < 3 AND queue = ?", [Value::from(queue)]))
                .into()
        }
        Listing::Failed => vec![
            live(("last_failure", "task.id"), true).and("retries > 0 AND queue < 3", []),
            // Left to itself, SQLite takes the index by end, reads every failed task there is, and sorts them.
            Stream::new(true, "history INDEXED BY history_failed", ("last_failure", "history.id"), true)
                .and("status = 3 AND dismissed = 0", []),
        ],
        Listing::History(filter) => ended(db, filter)?,
    })
}

/// Waiting and running tasks, newest first, then ended ones, latest first.
fn all(db: &Connection, filter: &Filter, request: &PageRequest) -> Result<Vec<Found>> {
    let cursor = request.cursor.as_deref();
    let live_cursor = cursor.and_then(|cursor| cursor.strip_prefix('w'));
    let ended_cursor = cursor.and_then(|cursor| cursor.strip_prefix('e'));
    if cursor.is_some() && live_cursor.is_none() && ended_cursor.is_none() {
        return Err(StoreError::BadCursor);
    }
    let limit = request.limit + 1;
    let mut found = Vec::new();
    if ended_cursor.is_none() && filter.status.is_none_or(|status| !status.is_final()) {
        found = merged(db, live(db, filter)?, page::decode(live_cursor)?, limit)?;
    }
    if found.len() < limit && filter.status.is_none_or(Status::is_final) {
        let rest = limit - found.len();
        found.extend(merged(db, ended(db, filter)?, page::decode(ended_cursor)?, rest)?);
    }
    Ok(found)
}

/// Waiting and running tasks by id. Running ones are few, and in no index by name.
fn live(db: &Connection, filter: &Filter) -> Result<Vec<Stream>> {
    let queue = match filter.status {
        Some(Status::Running) => "queue = 3",
        Some(Status::Pending) => "queue < 3",
        _ => "1",
    };
    let plain = |from: &'static str| Stream::new(false, from, LIVE_ORDER, true);
    if let Some(batch) = filter.batch {
        let from = match filter.status {
            Some(Status::Running) => "task INDEXED BY task_running",
            _ => "task INDEXED BY task_by_batch",
        };
        let mut stream = plain(from)
            .and(queue, [])
            .and("batch = ?", [Value::from(batch.as_bytes().to_vec())]);
        if let Some(tag) = &filter.tag {
            let tagged = "EXISTS (SELECT 1 FROM task_tag WHERE task_tag.tag = ? AND task_tag.id = task.id)";
            stream = stream.and(tagged, [Value::from(tag.clone())]);
        }
        return Ok(vec![rest(stream, filter)]);
    }
    if let Some(tag) = &filter.tag {
        let tagged = Stream::new(
            false,
            "task_tag CROSS JOIN task ON task.id = task_tag.id",
            ("0", "task_tag.id"),
            true,
        );
        let tagged = tagged.and("task_tag.tag = ?", [Value::from(tag.clone())]).and(queue, []);
        return Ok(vec![rest(tagged, filter)]);
    }
    let names = names(db, filter, "task", "queue < 3 AND ")?;
    let Some(names) = names else {
        let from = if queue == "queue = 3" {
            "task INDEXED BY task_running"
        } else {
            "task"
        };
        return Ok(vec![plain(from).and(queue, [])]);
    };
    let mut streams = Vec::new();
    if filter.status != Some(Status::Running) {
        let of = |name: String| plain("task INDEXED BY task_by_name").and("queue < 3 AND name = ?", [Value::from(name)]);
        streams.extend(names.into_iter().map(of));
    }
    if filter.status != Some(Status::Pending) {
        streams.push(rest(plain("task INDEXED BY task_running").and("queue = 3", []), filter));
    }
    if let Some((low, high)) = ids(filter) {
        let by_id = plain("task").and(queue, []).and("task.id BETWEEN ? AND ?", [low, high]);
        streams.push(rest(by_id, filter));
    }
    Ok(streams)
}

/// Ended tasks by their end.
fn ended(db: &Connection, filter: &Filter) -> Result<Vec<Stream>> {
    const ORDER: (&str, &str) = ("completed_at", "history.id");
    let within = |mut stream: Stream| {
        let completed = stream.order.0;
        if let Some(since) = filter.since {
            stream = stream.and(&format!("{completed} >= ?"), [Value::from(rows::micros(since))]);
        }
        if let Some(until) = filter.until {
            stream = stream.and(&format!("{completed} < ?"), [Value::from(rows::micros(until))]);
        }
        stream
    };
    let statuses: Vec<Status> = Status::ALL
        .into_iter()
        .filter(|status| status.is_final() && filter.status.is_none_or(|wanted| wanted == *status))
        .collect();
    let of = |status: Status, from| {
        let stream = within(Stream::new(true, from, ORDER, true));
        stream.and("status = ?", [Value::from(rows::status_number(status))])
    };
    if let Some(batch) = filter.batch {
        let of_batch = statuses.into_iter().map(|status| {
            let stream = of(status, "history INDEXED BY history_by_batch").and("batch = ?", [Value::from(batch.as_bytes().to_vec())]);
            let tagged = "EXISTS (SELECT 1 FROM history_tag WHERE tag = ? AND history_tag.completed_at = history.completed_at
                 AND history_tag.id = history.id)";
            match &filter.tag {
                Some(tag) => rest(stream.and(tagged, [Value::from(tag.clone())]), filter),
                None => rest(stream, filter),
            }
        });
        return Ok(of_batch.collect());
    }
    if let Some(tag) = &filter.tag {
        let from = match filter.status {
            Some(_) => "history_tag INDEXED BY history_tag_by_status CROSS JOIN history ON history.id = history_tag.id",
            None => "history_tag CROSS JOIN history ON history.id = history_tag.id",
        };
        let mut tagged = Stream::new(true, from, ("history_tag.completed_at", "history_tag.id"), true);
        tagged = within(tagged.and("history_tag.tag = ?", [Value::from(tag.clone())]));
        if let Some(status) = filter.status {
            tagged = tagged.and("history_tag.status = ?", [Value::from(rows::status_number(status))]);
        }
        if let Some(name) = &filter.task_name {
            tagged = tagged.and("history_tag.name = ?", [Value::from(name.clone())]);
        }
        return Ok(vec![rest(tagged, filter)]);
    }
    let Some(names) = names(db, filter, "history", "")? else {
        return Ok(statuses
            .into_iter()
            .map(|status| of(status, "history INDEXED BY history_by_end"))
            .collect());
    };
    let mut streams: Vec<Stream> = names
        .into_iter()
        .flat_map(|name| statuses.iter().map(move |status| (name.clone(), *status)))
        .map(|(name, status)| of(status, "history INDEXED BY history_by_name").and("name = ?", [Value::from(name)]))
        .collect();
    if let Some((low, high)) = ids(filter) {
        // By id, whatever SQLite thinks: by their end it would walk over all that ended since.
        let from = "history INDEXED BY sqlite_autoindex_history_1";
        let newest = format!("history.id IN (SELECT id FROM history WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT {MAX_IDS})");
        let by_id = statuses
            .iter()
            .map(|status| rest(of(*status, from).and(&newest, [low.clone(), high.clone()]), filter));
        streams.extend(by_id);
    }
    Ok(streams)
}

/// What of a filter a stream does not have in its index: the name, or the beginning of a name or an id.
fn rest(mut stream: Stream, filter: &Filter) -> Stream {
    let table = if stream.ended { "history" } else { "task" };
    if let Some(name) = &filter.task_name {
        stream = stream.and(&format!("{table}.name = ?"), [Value::from(name.clone())]);
    }
    if let Some(prefix) = &filter.prefix {
        let mut values = vec![Value::from(prefix.clone()), Value::from(prefix.clone())];
        let mut condition = format!("substr({table}.name, 1, length(?)) = ?");
        if let Some((low, high)) = ids(filter) {
            condition = format!("({condition} OR {table}.id BETWEEN ? AND ?)");
            values.extend([low, high]);
        }
        stream = stream.and(&condition, values);
    }
    stream
}

/// The ids that begin as the filter says.
fn ids(filter: &Filter) -> Option<(Value, Value)> {
    let (low, high) = TaskId::range_of_prefix(filter.prefix.as_deref()?)?;
    let value = |id: TaskId| Value::from(id.as_bytes().to_vec());
    Some((value(low), value(high)))
}

/// The task names that a filter lets pass; `None` where it lets all pass. Names are found by leaps through the index.
fn names(db: &Connection, filter: &Filter, table: &str, queue: &str) -> Result<Option<Vec<String>>> {
    if let Some(name) = &filter.task_name {
        let fits = filter.prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix.as_str()));
        return Ok(Some(if fits { vec![name.clone()] } else { Vec::new() }));
    }
    let Some(prefix) = &filter.prefix else { return Ok(None) };
    let index = if table == "task" { "task_by_name" } else { "history_by_name" };
    let leap = |beyond: &str| format!("SELECT MIN(name) FROM {table} INDEXED BY {index} WHERE {queue}name {beyond} ?1");
    let ask = |sql: &str, from: &str| -> Result<Option<String>> {
        db.prepare_cached(sql)
            .and_then(|mut s| s.query_row([from], |row| row.get(0)))
            .failed()
    };
    let mut found = Vec::new();
    let mut next = ask(&leap(">="), prefix)?;
    while let Some(name) = next.filter(|name| name.starts_with(prefix.as_str())) {
        if found.len() == MAX_NAMES {
            break;
        }
        next = ask(&leap(">"), &name)?;
        found.push(name);
    }
    Ok(Some(found))
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
