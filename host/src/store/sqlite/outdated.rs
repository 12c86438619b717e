//! What may be forgotten next: looked for among readers, so that whoever writes does not wait for it.
//!
//! A walk in two parts. Name by name, the oldest ended tasks first: what its rule does not keep. Then, where all together is too much, the
//! oldest of all: tasks, events, and workflows as a whole, whose tasks are free to go from then on. No part of it looks at what stays, but
//! for the newest task of each schedule and the steps of workflows.

use super::Failed;
use super::kept::{self, EVENT, TASK};
use super::rows::{from_micros, micros};
use crate::model::Time;
use crate::model::ids::TaskId;
use crate::store::{EndedAt, Keep, Kept, Outdated, Place, Result};
use rusqlite::{Connection, Row, Rows, params};
use std::collections::{HashSet, VecDeque};
use std::sync::LazyLock;

/// How far one look goes.
#[derive(Clone, Copy)]
struct Bounds {
    /// Of tasks, of events, and of workflows.
    most: usize,
    /// About how many bytes of them.
    bytes: u64,
    /// Ended tasks that are looked at.
    looks: usize,
}

/// Bytes of payloads and results that one commit forgets, about: their pages have to be read to be freed.
const PRUNED_BYTES: u64 = 32 << 20;

/// Ended tasks that are looked at for each that one commit may forget: those that stay are passed over.
const WALKED: usize = 20;

/// For whoever only wants to know.
const SHOWN: Bounds = Bounds {
    most: 10_000,
    bytes: u64::MAX,
    looks: 50_000,
};

/// An ended task that may be forgotten.
pub(super) struct EndedTask {
    pub(super) seq: i64,
    pub(super) id: [u8; 16],
    pub(super) tagged: bool,
    name: String,
    ended_at: i64,
    /// With its log and its attempts.
    bytes: u64,
    /// Whether it has to stay, whatever its age and size.
    stays: bool,
    has_attempts: bool,
}

impl EndedTask {
    fn place(&self) -> EndedAt {
        (from_micros(self.ended_at), TaskId::from_bytes(self.id))
    }
}

/// What may be forgotten.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) tasks: Vec<EndedTask>,
    pub(super) workflows: Vec<[u8; 16]>,
    /// With their bytes.
    pub(super) events: Vec<([u8; 16], u64)>,
    /// Names and bytes of the tasks of those workflows that were chosen for their bytes.
    steps: Vec<(String, u64)>,
    /// Of the tasks and events.
    bytes: u64,
    /// Where to go on; none where there is nothing more.
    pub(super) after: Option<Place>,
}

impl Plan {
    fn is_full(&self, bounds: Bounds) -> bool {
        let most = self.tasks.len().max(self.events.len()).max(self.workflows.len());
        most >= bounds.most || self.bytes >= bounds.bytes
    }
}

/// What one commit is to forget, from a place on.
pub(super) fn piece(db: &Connection, keep: &Keep, limit: usize, after: Option<Place>) -> Result<Plan> {
    let bounds = Bounds {
        most: limit,
        bytes: PRUNED_BYTES,
        looks: WALKED * limit,
    };
    plan(db, keep, bounds, after)
}

/// Looks for what may be forgotten, from a place on.
fn plan(db: &Connection, keep: &Keep, bounds: Bounds, after: Option<Place>) -> Result<Plan> {
    let mut walk = Walk {
        db,
        keep,
        kept: kept::kept(db)?,
        bounds,
        looks: 0,
        plan: Plan::default(),
    };
    walk.aged(micros(keep.before))?;
    let place = after.unwrap_or(Place::Name {
        name: String::new(),
        after: earliest(),
        stay: 0,
    });
    // They go first: what they hold would be looked at in vain.
    walk.plan.after = if walk.plan.is_full(bounds) {
        Some(place)
    } else {
        walk.from(place)?
    };
    Ok(walk.plan)
}

/// What would be forgotten now.
pub(super) fn outdated(db: &Connection, keep: &Keep) -> Result<Outdated> {
    let plan = plan(db, keep, SHOWN, None)?;
    let mut outdated = Outdated {
        workflows: plan.workflows.len() as u64,
        at_least: plan.after.is_some(),
        ..Outdated::default()
    };
    plan.events.iter().for_each(|(_, bytes)| outdated.events.add(*bytes));
    let tasks = plan.tasks.into_iter().map(|task| (task.name, task.bytes));
    for (name, bytes) in tasks.chain(plan.steps) {
        outdated.by_name.entry(name).or_default().add(bytes);
    }
    Ok(outdated)
}

/// Before all that ever ended.
fn earliest() -> EndedAt {
    (Time::MIN_UTC, no_id())
}

/// Before all tasks that ended at the same time.
fn no_id() -> TaskId {
    TaskId::from_bytes([0; 16])
}

struct Walk<'a> {
    db: &'a Connection,
    keep: &'a Keep,
    kept: Kept,
    bounds: Bounds,
    looks: usize,
    plan: Plan,
}

/// A workflow or an event, and when it ended or came.
struct Other {
    at: i64,
    what: What,
}

enum What {
    Workflow { id: [u8; 16], submitted_at: i64 },
    Event { id: [u8; 16], bytes: u64 },
}

impl Walk<'_> {
    /// Workflows and events that are too old.
    fn aged(&mut self, before: i64) -> Result<()> {
        for other in self.others(i64::MIN, before)? {
            self.take(other);
        }
        Ok(())
    }

    fn take(&mut self, other: Other) {
        match other.what {
            What::Workflow { id, .. } => self.plan.workflows.push(id),
            What::Event { id, bytes } => {
                self.plan.events.push((id, bytes));
                self.plan.bytes += bytes;
            }
        }
    }

    /// Of workflows and events the oldest in this time, at most so many of each.
    fn others(&self, from: i64, to: i64) -> Result<VecDeque<Other>> {
        static EVENTS: LazyLock<String> = LazyLock::new(|| {
            format!("SELECT at, id, {EVENT} FROM event INDEXED BY event_by_time WHERE at >= ?1 AND at < ?2 ORDER BY at LIMIT ?3")
        });
        let bounds = params![from, to, i64::try_from(self.bounds.most).unwrap_or(i64::MAX)];
        let mut workflows = self
            .db
            .prepare_cached(
                "SELECT completed_at, id, submitted_at FROM workflow WHERE completed_at >= ?1 AND completed_at < ?2 ORDER BY completed_at LIMIT ?3",
            )
            .failed()?;
        let workflow = |row: &Row<'_>| {
            let (id, submitted_at) = (row.get(1)?, row.get(2)?);
            Ok(Other {
                at: row.get(0)?,
                what: What::Workflow { id, submitted_at },
            })
        };
        let event = |row: &Row<'_>| {
            let (id, bytes) = (row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs());
            Ok(Other {
                at: row.get(0)?,
                what: What::Event { id, bytes },
            })
        };
        let mut events = self.db.prepare_cached(&EVENTS).failed()?;
        let mut all: Vec<Other> = workflows.query_map(bounds, workflow).and_then(Iterator::collect).failed()?;
        let events: Vec<Other> = events.query_map(bounds, event).and_then(Iterator::collect).failed()?;
        all.extend(events);
        all.sort_by_key(|other| other.at);
        Ok(all.into())
    }

    /// Goes on from a place; returns where the next look does.
    fn from(&mut self, place: Place) -> Result<Option<Place>> {
        let after = match place {
            Place::All { after } => after,
            Place::Name { name, after, stay } => {
                let names: Vec<String> = self.kept.by_name.range(name.clone()..).map(|(name, _)| name.clone()).collect();
                for other in names {
                    let (after, stay) = if other == name { (after, stay) } else { (earliest(), 0) };
                    if let Some((after, stay)) = self.name(&other, after, stay)? {
                        return Ok(Some(Place::Name { name: other, after, stay }));
                    }
                }
                earliest()
            }
        };
        self.all(after)
    }

    /// The ended tasks of one name; where to go on, if not at the next one.
    fn name(&mut self, name: &str, mut after: EndedAt, mut stay: u64) -> Result<Option<(EndedAt, u64)>> {
        static TASKS: LazyLock<String> = LazyLock::new(|| tasks("history_by_name", "name = ?4 AND"));
        let of = self.keep.of_name(name);
        let sum = self.kept.by_name.get(name).copied().unwrap_or_default();
        let mut over = sum.bytes.saturating_sub(of.bytes.unwrap_or(u64::MAX));
        let mut left = sum.count.saturating_sub(stay);
        let last_to_go = self.last_to_go()?;
        let mut tasks = self.db.prepare_cached(&TASKS).failed()?;
        let (at, id) = (micros(after.0), after.1);
        let mut rows = tasks.query(params![at, id.as_bytes(), micros(self.keep.before), name]).failed()?;
        while let Some(row) = rows.next().failed()? {
            if self.plan.is_full(self.bounds) || self.looks >= self.bounds.looks {
                return Ok(Some((after, stay)));
            }
            let task = task(row).failed()?;
            let is_old = task.ended_at < micros(of.before);
            if !is_old && over == 0 {
                break;
            }
            self.looks += 1;
            let is_new = of.newest.map_or(task.seq > last_to_go, |newest| left <= newest);
            after = task.place();
            left = left.saturating_sub(1);
            if task.stays || (over == 0 && (!is_old || is_new)) {
                stay += 1;
            } else {
                over = over.saturating_sub(self.forget(task)?);
            }
        }
        Ok(None)
    }

    /// The row of history after which the last ones that ended follow, which are kept for their number.
    fn last_to_go(&self) -> Result<i64> {
        let last: i64 = self
            .db
            .prepare_cached("SELECT COALESCE(MAX(seq), 0) FROM history")
            .and_then(|mut s| s.query_row([], |row| row.get(0)))
            .failed()?;
        Ok(last.saturating_sub_unsigned(self.keep.newest))
    }

    /// Chooses a task; returns its bytes.
    fn forget(&mut self, mut task: EndedTask) -> Result<u64> {
        task.bytes += self.beside(&task.id, task.has_attempts)?;
        let bytes = task.bytes;
        self.plan.bytes += bytes;
        self.plan.tasks.push(task);
        Ok(bytes)
    }

    /// Bytes of a task's log and attempts.
    fn beside(&self, id: &[u8; 16], has_attempts: bool) -> Result<u64> {
        let (_, log) = kept::log_of(self.db, id)?;
        let (_, attempts) = if has_attempts { kept::attempts_of(self.db, id)? } else { (0, 0) };
        Ok(log.unsigned_abs() + attempts.unsigned_abs())
    }

    /// The oldest of all, where all together is too much.
    fn all(&mut self, mut after: EndedAt) -> Result<Option<Place>> {
        static TASKS: LazyLock<String> = LazyLock::new(|| tasks("history_by_end", ""));
        let mut over = self.kept.bytes().saturating_sub(self.keep.bytes).saturating_sub(self.plan.bytes);
        if over == 0 {
            return Ok(None);
        }
        let chosen: HashSet<i64> = self.plan.tasks.iter().map(|task| task.seq).collect();
        let mut others = self.others(micros(self.keep.before), i64::MAX)?;
        let mut tasks = self.db.prepare_cached(&TASKS).failed()?;
        let (at, id) = (micros(after.0), after.1);
        let mut rows = tasks.query(params![at, id.as_bytes(), micros(self.keep.before)]).failed()?;
        let mut next = self.next(&mut rows, &chosen, &mut after)?;
        // Tasks of workflows that go are behind the place then.
        let mut back = None;
        while over > 0 && self.looks < self.bounds.looks && !self.plan.is_full(self.bounds) {
            let is_task = match (&next, others.front()) {
                (Some(task), Some(other)) => task.ended_at <= other.at,
                (task, None) => task.is_some(),
                (None, Some(_)) => false,
            };
            let freed = if is_task {
                let Some(task) = next.take() else { break };
                after = task.place();
                let freed = self.forget(task)?;
                next = self.next(&mut rows, &chosen, &mut after)?;
                freed
            } else {
                let Some(other) = others.pop_front() else {
                    return Ok(back.map(|after| Place::All { after }));
                };
                let freed = match &other.what {
                    What::Event { bytes, .. } => *bytes,
                    What::Workflow { id, submitted_at } => {
                        let from = (from_micros(*submitted_at), no_id());
                        back = Some(back.map_or(from, |back: EndedAt| back.min(from)));
                        self.steps(id)?
                    }
                };
                self.take(other);
                freed
            };
            over = over.saturating_sub(freed);
        }
        let goes_on = (over > 0).then_some(after);
        Ok(back.map(|back| back.min(after)).or(goes_on).map(|after| Place::All { after }))
    }

    /// The next task that may go; passes over those that stay.
    fn next(&mut self, rows: &mut Rows<'_>, chosen: &HashSet<i64>, after: &mut EndedAt) -> Result<Option<EndedTask>> {
        while self.looks < self.bounds.looks {
            let Some(row) = rows.next().failed()? else { return Ok(None) };
            self.looks += 1;
            let task = task(row).failed()?;
            if !task.stays && !chosen.contains(&task.seq) {
                return Ok(Some(task));
            }
            *after = task.place();
        }
        Ok(None)
    }

    /// The tasks of a workflow that goes; returns their bytes.
    fn steps(&mut self, workflow: &[u8; 16]) -> Result<u64> {
        static STEPS: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT history.name, {TASK}, history.id, attempt > 1 FROM step JOIN history ON history.id = step.task WHERE step.workflow = ?1"
            )
        });
        let mut steps = self.db.prepare_cached(&STEPS).failed()?;
        let mut rows = steps.query([workflow]).failed()?;
        let mut all = 0;
        while let Some(row) = rows.next().failed()? {
            let read = || Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            let (name, bytes, id, has_attempts): (String, i64, [u8; 16], bool) = read().failed()?;
            let bytes = bytes.unsigned_abs() + self.beside(&id, has_attempts)?;
            all += bytes;
            self.plan.steps.push((name, bytes));
        }
        Ok(all)
    }
}

/// Ended tasks after `?1`, `?2` in the order in which they ended: three ranges of an index, one a status.
fn tasks(index: &str, condition: &str) -> String {
    let of = |status: u8| {
        format!(
            "SELECT seq, id, name, completed_at, {TASK}, tags IS NOT NULL, attempt > 1,
               (workflow IS NOT NULL AND EXISTS (SELECT 1 FROM workflow WHERE workflow.id = history.workflow
                  AND (workflow.completed_at IS NULL OR workflow.completed_at >= ?3)))
               OR (origin_kind = 1 AND EXISTS (SELECT 1 FROM schedule WHERE schedule.id = history.origin)
                  AND NOT EXISTS (SELECT 1 FROM history AS later INDEXED BY history_of_schedule
                    WHERE later.origin_kind = 1 AND later.origin = history.origin AND later.seq > history.seq))
             FROM history INDEXED BY {index} WHERE {condition} status = {status} AND (completed_at, id) > (?1, ?2)"
        )
    };
    format!("{} UNION ALL {} UNION ALL {} ORDER BY 4, 2", of(2), of(3), of(4))
}

/// Reads [`tasks`].
fn task(row: &Row<'_>) -> rusqlite::Result<EndedTask> {
    Ok(EndedTask {
        seq: row.get(0)?,
        id: row.get(1)?,
        name: row.get(2)?,
        ended_at: row.get(3)?,
        bytes: row.get::<_, i64>(4)?.unsigned_abs(),
        tagged: row.get(5)?,
        has_attempts: row.get(6)?,
        stays: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_goes_along_indexes_and_sorts_nothing() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("../../../migrations/sqlite/V1__first_light.sql"))
            .unwrap();
        for (sql, index) in [
            (
                tasks("history_by_name", "name = ?4 AND"),
                "history_by_name (name=? AND status=? AND",
            ),
            (tasks("history_by_end", ""), "history_by_end (status=? AND"),
        ] {
            let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let nothing = vec![rusqlite::types::Null; explain.parameter_count()];
            let steps = explain
                .query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3))
                .unwrap();
            let plan = steps.map(std::result::Result::unwrap).collect::<Vec<_>>().join("\n");
            assert_eq!(plan.matches(index).count(), 3, "{plan}");
            assert!(
                !plan.contains("TEMP B-TREE") && plan.contains("history_of_schedule (origin=? AND rowid>?)"),
                "{plan}"
            );
        }
    }
}
