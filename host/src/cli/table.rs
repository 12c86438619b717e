//! What a person sees: tables without borders, records line by line, short times in UTC.
//!
//! Nothing that a task wrote reaches a terminal as a control character.

use super::{Failure, json, print};
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// How a member is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum As {
    /// At most so many characters.
    Text(usize),
    /// A word with a colour.
    State,
    /// A short time.
    Time,
    /// Seconds.
    Seconds,
    /// Bytes, in units of 1,024.
    Bytes,
    /// The first characters of a digest.
    Digest,
    /// A cron expression, or an edge of a session.
    When,
    /// Which tasks a limit concerns.
    Match,
    /// How many in a time.
    Rate,
}

/// A column: its title, its members (the first that says something) and how they are shown.
pub(super) type Column = (&'static str, &'static [&'static str], As);

/// Prints a list.
pub(super) fn list(columns: &[Column], rows: &[Value]) -> Result<(), Failure> {
    print(&render(columns, rows))
}

fn render(columns: &[Column], rows: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if std::env::var_os("NO_COLOR").is_some() {
        table.force_no_tty();
    }
    table.set_header(columns.iter().map(|(title, _, _)| Cell::new(title).add_attribute(Attribute::Bold)));
    for row in rows {
        table.add_row(columns.iter().map(|(_, members, kind)| {
            let text = members
                .iter()
                .map(|member| shown(*kind, &row[*member]))
                .find(|text| !text.is_empty())
                .unwrap_or_default();
            let colour = (*kind == As::State).then(|| colour(&text)).flatten();
            let cell = Cell::new(text);
            match colour {
                Some(colour) => cell.fg(colour),
                None => cell,
            }
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// What tasks take and give.
const TASKS_OWN: [&str; 3] = ["payload", "result", "error_details"];

/// Prints one record, a JSON object, a member a line: those in `order` first, what is empty not at all, `without` not here.
pub(super) fn record(json: &[u8], order: &[&str], without: &[&str]) -> Result<(), Failure> {
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_slice(json).map_err(|_| Failure::Failed("the answer is no record; is --url that of a Taskhost?".to_owned()))?;
    let first = order.iter().filter_map(|name| members.get_key_value(*name));
    let rest = members.iter().filter(|(name, _)| !order.contains(&name.as_str()));
    let all = first
        .chain(rest)
        .filter(|(name, value)| !is_empty(name, value) && !without.contains(&name.as_str()));
    let lines: Vec<(String, String)> = all.map(|(name, value)| (name.replace('_', " "), member(name, value))).collect();
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = lines.iter().map(|(name, text)| format!("{name:width$}  {text}")).collect();
    print(&lines.join("\n"))
}

/// A member as its name lets expect. What tasks take and give keeps the digits it was written with.
fn member(name: &str, raw: &RawValue) -> String {
    let value = &serde_json::from_str(raw.get()).unwrap_or_default();
    match name {
        "execution_time" | "timeout" | "compile_time" | "oldest_wait" => shown(As::Seconds, value),
        "size" => shown(As::Bytes, value),
        name if TASKS_OWN.contains(&name) => cut(&json::pretty(raw.get()).replace('\n', "\n  "), 4_000),
        "progress" => progress(value),
        "session" => shown(As::When, value),
        _ if value.as_str().is_some_and(is_time) => shown(As::Time, value),
        _ => counts(value).unwrap_or_else(|| one_line(value)),
    }
}

/// A member that says something by being empty is what a task takes or gives.
fn is_empty(name: &str, raw: &RawValue) -> bool {
    raw.get() == "null" || (matches!(raw.get(), "{}" | "[]") && !TASKS_OWN.contains(&name))
}

fn progress(value: &Value) -> String {
    let total = value["total"].as_u64().map(|total| format!(" of {total}")).unwrap_or_default();
    plain(&format!(
        "{}{total} {}",
        value["done"],
        value["message"].as_str().unwrap_or_default()
    ))
    .trim_end()
    .to_owned()
}

fn is_time(text: &str) -> bool {
    text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T' && text.as_bytes()[..4].iter().all(u8::is_ascii_digit)
}

/// The text of a cell.
pub(super) fn shown(kind: As, value: &Value) -> String {
    match kind {
        _ if value.is_null() => String::new(),
        As::Text(most) => cut(&one_line(value), most),
        As::State => one_line(value),
        As::Time => value.as_str().map(short_time).unwrap_or_default(),
        As::Seconds => value.as_f64().map(seconds).unwrap_or_default(),
        As::Bytes => value.as_u64().map(bytes).unwrap_or_default(),
        As::Digest => value
            .as_str()
            .map(|text| text.trim_start_matches("sha256:").chars().take(12).collect())
            .unwrap_or_default(),
        As::When => session(value).unwrap_or_else(|| cut(&one_line(value), 32)),
        As::Match => cut(&matched(value), 60),
        As::Rate => format!("{}/{} s", value["count"], value["per"].as_f64().unwrap_or_default()),
    }
}

/// `close+1800`, as `--session` takes it.
fn session(value: &Value) -> Option<String> {
    let edge = value["edge"].as_str()?;
    let offset = value["offset"].as_i64().filter(|offset| *offset != 0);
    Some(plain(&format!(
        "{edge}{}",
        offset.map(|offset| format!("{offset:+}")).unwrap_or_default()
    )))
}

/// `nap`, `#nightly`, both, or `all`.
fn matched(value: &Value) -> String {
    let name = value["task_name"].as_str().map(str::to_owned);
    let tag = value["tag"].as_str().map(|tag| format!("#{tag}"));
    let both: Vec<String> = name.into_iter().chain(tag).collect();
    if both.is_empty() {
        "all".to_owned()
    } else {
        plain(&both.join(" "))
    }
}

/// `3: 12, 5: 1`, where all members are as short as that.
fn counts(value: &Value) -> Option<String> {
    let flat = value
        .as_object()
        .filter(|members| members.values().all(|value| !value.is_object() && !value.is_array()))?;
    let members = flat.iter().map(|(name, value)| match value.as_str() {
        Some(text) => plain(&format!("{name}: {}", short_time(text))),
        None => plain(&format!("{name}: {value}")),
    });
    Some(members.collect::<Vec<_>>().join(", "))
}

/// `2026-01-31T09:30:00.123456Z` as `2026-01-31 09:30:00Z`.
pub(super) fn short_time(text: &str) -> String {
    if is_time(text) && text.is_ascii() {
        format!("{} {}Z", &text[..10], &text[11..19])
    } else {
        plain(text)
    }
}

/// `0.0123` as `12 ms`, `75.5` as `1 m 15 s`.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3_600.0 => format!("{:.0} m {:.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.0} h {:.0} m", (s / 3_600.0).floor(), (s % 3_600.0 / 60.0).floor()),
    }
}

/// In units of 1,024.
pub(super) fn bytes(count: u64) -> String {
    bytesize::ByteSize::b(count).display().iec().to_string()
}

fn one_line(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        Value::Array(list) if list.iter().all(Value::is_string) => list.iter().map(one_line).collect::<Vec<_>>().join(", "),
        other => plain(&other.to_string()),
    }
}

/// Text without control characters: a line break is a space, others are shown as escapes.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

fn colour(word: &str) -> Option<Color> {
    match word {
        "success" | "loaded" | "ok" => Some(Color::Green),
        "failed" | "error" | "permanently_failed" | "task_failure" => Some(Color::Red),
        "running" | "retrying" => Some(Color::Yellow),
        "cancelled" => Some(Color::DarkGrey),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_short_and_in_utc() {
        for (text, expected) in [
            ("2026-01-31T09:30:00.123456Z", "2026-01-31 09:30:00Z"),
            ("2026-01-31T09:30:00Z", "2026-01-31 09:30:00Z"),
            ("2026-01-31T09:30:00+02:00", "2026-01-31T09:30:00+02:00"),
            ("äääääääääääääTZ", "äääääääääääääTZ"),
            ("", ""),
        ] {
            assert_eq!(short_time(text), expected);
        }
    }

    #[test]
    fn cells_are_short_and_harmless() {
        for (kind, value, expected) in [
            (As::Text(5), json!("abcdefgh"), "abcd…"),
            (As::Text(5), json!("äöüßé"), "äöüßé"),
            (As::Text(40), json!("red \u{1b}[31m\nline"), "red \\u{1b}[31m line"),
            (As::Text(40), json!(["a", "b"]), "a, b"),
            (As::Text(40), json!({"a": 1}), "{\"a\":1}"),
            (As::Text(40), Value::Null, ""),
            (As::Seconds, json!(0.0123), "12 ms"),
            (As::Seconds, json!(0.0000123), "12 µs"),
            (As::Seconds, json!(1.25), "1.2 s"),
            (As::Seconds, json!(75.5), "1 m 15 s"),
            (As::Seconds, json!(7_300), "2 h 1 m"),
            (As::Bytes, json!(1_536), "1.5 KiB"),
            (As::Digest, json!("sha256:0123456789abcdef"), "0123456789ab"),
            (As::When, json!("*/5 * * * *"), "*/5 * * * *"),
            (As::When, json!({"edge": "close", "offset": 1800}), "close+1800"),
            (As::When, json!({"edge": "open", "offset": -600}), "open-600"),
            (As::When, json!({"edge": "open", "offset": 0}), "open"),
            (As::Match, json!({"task_name": "nap", "tag": null}), "nap"),
            (As::Match, json!({"task_name": null, "tag": "desk"}), "#desk"),
            (As::Match, json!({"task_name": "nap", "tag": "desk"}), "nap #desk"),
            (As::Match, json!({"task_name": null, "tag": null}), "all"),
            (As::Rate, json!({"count": 5, "per": 60.0}), "5/60 s"),
        ] {
            assert_eq!(shown(kind, &value), expected, "{kind:?} {value}");
        }
    }

    #[test]
    fn counts_are_a_line_and_nothing_is_no_line() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(member("due_by_priority", &raw(r#"{"3":12,"5":1}"#)), "3: 12, 5: 1");
        assert_eq!(member("deep", &raw(r#"{"a":{"b":1}}"#)), r#"{"a":{"b":1}}"#);
        for (name, text, empty) in [
            ("due_by_priority", "{}", true),
            ("tags", "[]", true),
            ("payload", "{}", false),
            ("held", "0", false),
        ] {
            assert_eq!(is_empty(name, &raw(text)), empty, "{name} {text}");
        }
    }

    #[test]
    fn a_table_is_a_line_a_row() {
        let columns: &[Column] = &[
            ("ID", &["id"], As::Text(8)),
            ("STATUS", &["status"], As::State),
            ("NOTE", &["error", "held"], As::Text(9)),
        ];
        let rows = [
            json!({"id": "a", "status": "failed", "error": "no luck today"}),
            json!({"id": null, "status": "pending", "held": "no slot"}),
        ];
        assert_eq!(
            render(columns, &rows),
            "ID  STATUS   NOTE\na   failed   no luck …\n    pending  no slot"
        );
    }
}
