//! The store in one SQLite file: no set-up, one node.
//!
//! Write-ahead log with `synchronous=FULL`: a commit that returned is on the disk. One thread writes ([`writer`]); readers have
//! connections of their own, on blocking threads, and neither waits for the other. The lock on the data directory keeps a
//! second process out, and so proves at the start that whoever held a lease is dead.

mod batch;
mod buckets;
mod calendars;
mod claim;
mod counts;
mod enqueue;
mod events;
mod fires;
mod follow;
mod gates;
mod held;
mod kept;
mod lanes;
mod limits;
mod lists;
mod monitor;
mod once;
mod outbox;
mod outdated;
mod page;
mod places;
mod prune;
mod queue;
mod ring;
mod rows;
mod rules;
mod schedules;
mod settle;
mod tasks;
mod timers;
mod workflow;
mod workflow_view;
mod writer;

use super::{
    AlertFilter, Claim, Claimed, Delivery, FireEvent, FireSchedule, Fired, Handlers, Lease, Listened, Listing, MadeFires, MakeFires,
    NamedCalendar, Observer, Offer, Orphan, Page, PageRequest, Publish, PutSchedule, Result, Settle, Stage, Store, StoreError,
};
use super::{Batch, CancelledSome, Keep, Kept, Outdated, Place, Pruned, Queue, RequestKey, Rung, StepRetried, Swept, Waiting, Workflow};
use crate::model::Time;
use crate::model::alert::{Alert, AlertType, NewAlert};
use crate::model::attempt::LogLine;
use crate::model::calendar::Calendar;
use crate::model::ids::{BatchId, NodeId, ScheduleId, TaskId, TriggerId, WorkflowId};
use crate::model::limit::Limit;
use crate::model::metrics::Metrics;
use crate::model::outbox::Undelivered;
use crate::model::overrides::Override;
use crate::model::schedule::{Fire, Schedule};
use crate::model::task::{NewTask, Task};
use crate::model::trigger::{Patch, Trigger};
use crate::model::workflow::NewWorkflow;
use async_trait::async_trait;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use writer::{Tx, Writer};

/// Readers at once; more wait.
const READERS: usize = 4;
const FILE: &str = "taskhost.sqlite";

mod embedded {
    refinery::embed_migrations!("migrations/sqlite");
}

/// Turns the driver's errors into the store's.
trait Failed<T> {
    fn failed(self) -> Result<T>;
}

impl<T> Failed<T> for rusqlite::Result<T> {
    fn failed(self) -> Result<T> {
        self.map_err(|error| StoreError::Unavailable(error.to_string()))
    }
}

/// The open database.
pub struct Sqlite {
    writer: Writer,
    readers: Arc<Readers>,
    /// For what the scheduler and running attempts ask, so that slow lists do not stop them.
    own_reader: Arc<Readers>,
    calendars: calendars::Read,
    /// Held as long as the store is open.
    _lock: File,
}

/// Connections that only read. There are as many permits as connections.
struct Readers {
    free: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

/// A connection on loan: given back when dropped, whether the question was answered or panicked, and with it the permit.
struct Reader {
    readers: Arc<Readers>,
    db: Option<Connection>,
    _permit: OwnedSemaphorePermit,
}

impl Readers {
    fn open(path: &Path, count: usize) -> Result<Arc<Self>> {
        let mut free = Vec::with_capacity(count);
        for _ in 0..count {
            let reader = connect(path)?;
            reader.pragma_update(None, "query_only", true).failed()?;
            free.push(reader);
        }
        Ok(Arc::new(Self {
            free: Mutex::new(free),
            permits: Arc::new(Semaphore::new(count)),
        }))
    }

    fn free(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reader(self: &Arc<Self>) -> Result<Reader> {
        let closed = || StoreError::Unavailable("the store is closed".into());
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| closed())?;
        let db = self.free().pop();
        Ok(Reader {
            readers: self.clone(),
            db,
            _permit: permit,
        })
    }

    /// Asks a question on a blocking thread. All that it reads is of one moment.
    async fn ask<T, F>(self: &Arc<Self>, question: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let reader = self.reader().await?;
        let asked = tokio::task::spawn_blocking(move || {
            let db = reader
                .db
                .as_ref()
                .ok_or_else(|| StoreError::Unavailable("no reader is free".into()))?;
            let _moment = db.unchecked_transaction().failed()?;
            question(db)
        });
        asked.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(db) = self.db.take() {
            self.readers.free().push(db);
        }
    }
}

impl Sqlite {
    /// Opens the database in `data`, creates or migrates it, and keeps other processes out until it is dropped. Blocks.
    pub fn open(data: &Path) -> Result<Self> {
        let cannot = |error: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("the data directory {} cannot be used: {error}", data.display()))
        };
        create_private(data).map_err(|error| cannot(&error))?;
        let lock = lock(data)?;
        let path = data.join(FILE);
        let mut db = connect(&path)?;
        embedded::migrations::runner()
            .run(&mut db)
            .map_err(|error| cannot(&explain_migration(&error)))?;
        let (readers, own_reader) = (Readers::open(&path, READERS)?, Readers::open(&path, 1)?);
        let writer = Writer::start(db).map_err(|error| cannot(&error))?;
        Ok(Self {
            writer,
            readers,
            own_reader,
            calendars: calendars::Read::default(),
            _lock: lock,
        })
    }

    async fn read<T, F>(&self, question: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.readers.ask(question).await
    }
}

fn create_private(data: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data)
}

/// One process a data directory.
fn lock(data: &Path) -> Result<File> {
    let path = data.join("lock");
    let unusable = |error: std::io::Error| StoreError::Unavailable(format!("{} cannot be locked: {error}", path.display()));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Conflict(format!(
            "another taskhost uses the data directory {}; stop it, or give this one its own with --data",
            data.display()
        ))),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let db = Connection::open(path).failed()?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; PRAGMA temp_store = MEMORY;
         PRAGMA busy_timeout = 10000; PRAGMA cache_size = -32768; PRAGMA journal_size_limit = 67108864;",
    )
    .failed()?;
    // Plans do not hang on what is bound: SQLite, which is built with STAT4, would prepare a statement anew at each value of a bound.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).failed()?;
    db.set_prepared_statement_cache_capacity(128);
    Ok(db)
}

fn explain_migration(error: &refinery::Error) -> String {
    match error.kind() {
        refinery::error::Kind::MissingVersion(_) | refinery::error::Kind::DivergentVersion(..) => {
            format!("it was written by another version of Taskhost ({error}); use that version, or another data directory")
        }
        _ => error.to_string(),
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn enqueue(&self, task: NewTask, key: Option<RequestKey>, offer: Option<Offer>) -> Result<TaskId> {
        let offer = offer.map(Arc::new);
        let durable = offer.clone();
        let tell = move |(id, leased)| {
            if let Some(offer) = durable {
                (offer.kept)(leased);
            }
            id
        };
        self.writer
            .offer_then(move |tx| enqueue::submit(tx, &task, key.as_ref(), offer.as_deref()), tell)
            .await
    }
    async fn admit(&self, key: RequestKey, now: Time) -> Result<()> {
        self.read(move |db| once::admit(db, &key, now)).await
    }
    async fn ring(&self, now: Time) -> Result<Rung> {
        self.writer.write(move |tx| timers::ring(tx, now)).await
    }
    async fn sweep(&self, handlers: Arc<Handlers>, after: Swept, now: Time) -> Result<Swept> {
        self.writer.write(move |tx| gates::sweep(tx, &handlers, after.clone(), now)).await
    }
    async fn pause(&self, name: &str, now: Time) -> Result<bool> {
        let name = name.to_owned();
        self.writer.write(move |tx| limits::pause(tx, &name, now)).await
    }
    async fn resume(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.writer.write(move |tx| limits::resume(tx, &name)).await
    }
    async fn pauses(&self) -> Result<Vec<(String, Time)>> {
        self.read(limits::pauses).await
    }
    async fn waiting(&self, id: TaskId) -> Result<Waiting> {
        self.read(move |db| queue::waiting(db, id)).await
    }
    async fn queue(&self) -> Result<Queue> {
        self.read(queue::queue).await
    }
    async fn put_limit(&self, limit: Limit) -> Result<bool> {
        self.writer.write(move |tx| limits::put(tx, &limit)).await
    }
    async fn remove_limit(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.writer.write(move |tx| limits::remove(tx, &name)).await
    }
    async fn limits(&self) -> Result<Vec<Limit>> {
        self.read(limits::limits).await
    }
    async fn stage(&self, stage: Stage) -> Result<()> {
        self.writer.write(move |tx| batch::stage(tx, &stage)).await
    }
    async fn publish(&self, publish: Publish) -> Result<()> {
        self.writer.write(move |tx| batch::publish(tx, &publish)).await
    }
    async fn discard(&self, batch: BatchId) -> Result<bool> {
        self.writer.write(move |tx| batch::discard(tx, batch)).await
    }
    async fn half_staged(&self, node: NodeId) -> Result<Vec<BatchId>> {
        self.own_reader.ask(move |db| batch::half_staged(db, node)).await
    }
    async fn unfold(&self, now: Time) -> Result<u64> {
        self.writer.write(move |tx| batch::unfold(tx, now)).await
    }
    async fn batch(&self, id: BatchId) -> Result<Batch> {
        self.read(move |db| counts::batch(db, id)).await
    }
    async fn batches(&self, page: PageRequest) -> Result<Page<Batch>> {
        self.read(move |db| counts::batches(db, &page)).await
    }
    async fn cancel_batch(&self, id: BatchId, now: Time) -> Result<()> {
        self.writer.write(move |tx| counts::cancel_batch(tx, id, now)).await
    }
    async fn cancel_some(&self, now: Time) -> Result<CancelledSome> {
        self.writer.write(move |tx| counts::cancel_some(tx, now)).await
    }

    async fn submit_workflow(&self, workflow: NewWorkflow, key: Option<RequestKey>) -> Result<()> {
        self.writer
            .offer(move |tx| once::carried_out(tx, key.as_ref(), workflow.submitted_at, |tx| workflow::submit(tx, &workflow)))
            .await
    }
    async fn workflow(&self, id: WorkflowId) -> Result<Workflow> {
        self.read(move |db| workflow_view::workflow(db, id)).await
    }
    async fn workflows(&self, page: PageRequest) -> Result<Page<Workflow>> {
        self.read(move |db| workflow_view::workflows(db, &page)).await
    }
    async fn cancel_workflow(&self, id: WorkflowId, now: Time) -> Result<Vec<Lease>> {
        self.writer.write(move |tx| workflow::cancel(tx, id, now)).await
    }
    async fn retry_step(&self, id: WorkflowId, key: String, now: Time) -> Result<StepRetried> {
        self.writer.offer(move |tx| workflow::retry_step(tx, id, &key, now)).await
    }
    async fn needs(&self, id: TaskId) -> Result<BTreeMap<String, String>> {
        self.own_reader.ask(move |db| workflow_view::needs(db, id)).await
    }
    async fn claim(&self, claim: Claim) -> Result<Claimed> {
        self.writer.write(move |tx| claim::claim(tx, &claim)).await
    }
    async fn settle(&self, settle: Arc<Settle>) -> Result<()> {
        self.writer.write(move |tx| settle::settle(tx, &settle)).await
    }
    async fn undelivered(&self, limit: usize, skip: Vec<i64>) -> Result<Vec<Undelivered>> {
        self.own_reader.ask(move |db| outbox::undelivered(db, limit, &skip)).await
    }
    async fn has_undelivered(&self, most: u32) -> Result<bool> {
        self.own_reader.ask(move |db| outbox::has_more_than(db, most)).await
    }
    async fn deliver(&self, seq: i64, delivery: Delivery) -> Result<()> {
        // It makes new work: attempts that send much must not keep clients out.
        self.writer.bring(move |tx| outbox::deliver(tx, seq, &delivery)).await
    }
    async fn cancel(&self, id: TaskId, now: Time) -> Result<Option<Lease>> {
        self.writer.write(move |tx| settle::cancel(tx, id, now)).await
    }
    async fn retry(&self, id: TaskId, new_id: TaskId, now: Time) -> Result<()> {
        self.writer.offer(move |tx| enqueue::retry(tx, id, new_id, now)).await
    }
    async fn dismiss(&self, id: TaskId) -> Result<()> {
        self.writer.write(move |tx| tasks::dismiss(tx, id)).await
    }
    async fn release(&self, handlers: Arc<Handlers>) -> Result<bool> {
        self.writer.write(move |tx| held::release(tx, &handlers)).await
    }

    async fn append_log(&self, lease: Lease, lines: Vec<LogLine>) -> Result<()> {
        self.writer
            .write(move |tx| {
                let name = tasks::leased_or_ended(tx.db, lease)?;
                tasks::append_log(tx, lease.task, &name, &lines)
            })
            .await
    }
    async fn save_checkpoint(&self, lease: Lease, data: Vec<u8>) -> Result<()> {
        self.writer.write(move |tx| tasks::save_checkpoint(tx, lease, &data)).await
    }
    async fn load_checkpoint(&self, id: TaskId) -> Result<Option<Vec<u8>>> {
        self.own_reader.ask(move |db| tasks::load_checkpoint(db, id)).await
    }

    async fn renew(&self, node: NodeId, until: Time) -> Result<()> {
        self.writer.write(move |tx| claim::renew(tx, node, until)).await
    }
    async fn orphans(&self, node: NodeId) -> Result<Vec<Orphan>> {
        self.writer.write(move |tx| claim::orphans(tx, node)).await
    }

    async fn task(&self, id: TaskId) -> Result<Task> {
        self.read(move |db| tasks::task(db, id)).await
    }
    async fn tasks(&self, listing: Listing, page: PageRequest) -> Result<Page<Task>> {
        self.read(move |db| lists::tasks(db, &listing, &page)).await
    }
    fn cursor(&self, listing: &Listing, task: &Task) -> String {
        lists::cursor(listing, task)
    }
    async fn log(&self, id: TaskId, page: PageRequest) -> Result<Page<LogLine>> {
        self.read(move |db| lists::log(db, id, &page)).await
    }

    async fn put_schedule(&self, put: PutSchedule) -> Result<()> {
        self.writer.write(move |tx| schedules::put(tx, &put)).await
    }
    async fn remove_schedule(&self, id: ScheduleId, now: Time) -> Result<()> {
        self.writer.write(move |tx| schedules::remove(tx, id, now)).await
    }
    async fn was_removed(&self, id: TaskId) -> Result<bool> {
        self.read(move |db| rules::was_removed(db, id)).await
    }
    async fn schedule(&self, id: ScheduleId) -> Result<Schedule> {
        self.read(move |db| schedules::by_id(db, id)).await
    }
    async fn schedule_named(&self, name: &str) -> Result<Schedule> {
        let name = name.to_owned();
        self.read(move |db| schedules::by_name(db, &name)).await
    }
    async fn schedules(&self, page: PageRequest) -> Result<Page<Schedule>> {
        self.read(move |db| schedules::all(db, &page)).await
    }
    fn fire_cursor(&self, schedule: &Schedule) -> String {
        page::encode(schedules::fire_key(schedule))
    }
    async fn upcoming_schedules(&self, page: PageRequest) -> Result<Page<Schedule>> {
        self.read(move |db| schedules::upcoming(db, &page)).await
    }
    async fn due_schedules(&self, now: Time, limit: usize) -> Result<(Vec<Schedule>, Option<Time>)> {
        self.own_reader.ask(move |db| schedules::due(db, now, limit)).await
    }
    async fn schedules_ahead(&self, now: Time, limit: usize) -> Result<Vec<Schedule>> {
        self.own_reader.ask(move |db| schedules::ahead(db, now, limit)).await
    }
    async fn schedules_of(&self, calendar: &str, after: Option<ScheduleId>, limit: usize) -> Result<Vec<Schedule>> {
        let calendar = calendar.to_owned();
        self.own_reader
            .ask(move |db| schedules::by_calendar(db, &calendar, after, limit))
            .await
    }
    async fn fire_schedules(&self, fires: Vec<Arc<FireSchedule>>) -> Result<Vec<Result<MadeFires>>> {
        self.writer.write(move |tx| fires::fire_all(tx, &fires)).await
    }
    async fn make_fires(&self, asked: MakeFires) -> Result<MadeFires> {
        self.writer.write(move |tx| fires::make_fires(tx, &asked)).await
    }
    async fn fires(&self, id: ScheduleId, page: PageRequest) -> Result<Page<Fire>> {
        self.read(move |db| fires::fires(db, id, &page)).await
    }

    async fn put_trigger(&self, trigger: Trigger) -> Result<TriggerId> {
        let name = trigger.name.clone();
        let (id, dropped) = self.writer.write(move |tx| events::put_trigger(tx, &trigger)).await?;
        if let Some(error) = dropped {
            tracing::warn!(trigger = name, "{error}");
        }
        Ok(id)
    }
    async fn remove_trigger(&self, id: TriggerId, now: Time) -> Result<()> {
        self.writer.write(move |tx| events::remove_trigger(tx, id, now)).await
    }
    async fn trigger(&self, id: TriggerId) -> Result<Trigger> {
        self.read(move |db| events::trigger(db, id)).await
    }
    async fn trigger_named(&self, name: &str) -> Result<TriggerId> {
        let name = name.to_owned();
        self.read(move |db| rules::trigger_named(db, &name)).await
    }
    async fn triggers(&self, page: PageRequest) -> Result<Page<Trigger>> {
        self.read(move |db| events::triggers(db, &page)).await
    }
    async fn listened(&self, event_type: &str) -> Result<Listened> {
        let event_type = event_type.to_owned();
        self.read(move |db| events::listened(db, &event_type)).await
    }
    async fn triggers_of(&self, event_type: &str) -> Result<Vec<Trigger>> {
        let event_type = event_type.to_owned();
        // They may be large, and are many where clients send events: the scheduler's own questions do not wait for them.
        self.read(move |db| events::triggers_of(db, &event_type)).await
    }
    async fn edit_trigger(&self, id: TriggerId, patch: Patch) -> Result<Trigger> {
        self.writer.write(move |tx| events::edit_trigger(tx, id, &patch)).await
    }
    async fn fire_events(&self, events: Vec<FireEvent>) -> Result<Vec<Fired>> {
        // What an attempt told was accepted when it was settled.
        let accepted = events.iter().any(|fire| fire.event.depth > 0);
        let intention = move |tx: &mut Tx<'_>| events::fire_events(tx, &events);
        if accepted {
            self.writer.write(intention).await
        } else {
            self.writer.offer(intention).await
        }
    }

    async fn put_calendar(&self, calendar: Arc<Calendar>, now: Time) -> Result<bool> {
        self.writer.write(move |tx| calendars::put(tx, &calendar, now)).await
    }
    async fn remove_calendar(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.writer.write(move |tx| calendars::remove(tx, &name)).await
    }
    async fn calendar(&self, name: &str) -> Result<NamedCalendar> {
        self.calendars.one(&self.own_reader, name).await
    }
    async fn calendars(&self) -> Result<BTreeMap<String, NamedCalendar>> {
        self.calendars.all(&self.readers).await
    }

    async fn metrics(&self, task_name: Option<&str>) -> Result<BTreeMap<String, Metrics>> {
        let task_name = task_name.map(str::to_owned);
        self.read(move |db| monitor::metrics(db, task_name.as_deref())).await
    }
    async fn raise(&self, alert: NewAlert) -> Result<()> {
        self.writer.write(move |tx| monitor::raise(tx, &alert)).await
    }
    async fn alerts(&self, filter: AlertFilter, page: PageRequest) -> Result<Page<Alert>> {
        self.read(move |db| monitor::alerts(db, &filter, &page)).await
    }
    async fn clear_alerts(&self, kind: Option<AlertType>) -> Result<u64> {
        self.writer.write(move |tx| monitor::clear_alerts(tx, kind)).await
    }
    async fn kept(&self) -> Result<Kept> {
        self.read(kept::kept).await
    }
    async fn outdated(&self, keep: Keep) -> Result<Outdated> {
        self.read(move |db| outdated::outdated(db, &keep)).await
    }
    async fn prune(&self, keep: &Keep, limit: usize, after: Option<Place>) -> Result<Pruned> {
        let (before, keep) = (keep.before, keep.clone());
        let plan = self.read(move |db| outdated::piece(db, &keep, limit, after)).await?;
        self.writer.write(move |tx| prune::prune(tx, &plan, before, limit)).await
    }

    async fn put_override(&self, task_name: &str, word: Override) -> Result<()> {
        let task_name = task_name.to_owned();
        self.writer.write(move |tx| rules::put_override(tx, &task_name, &word)).await
    }
    async fn overrides(&self) -> Result<BTreeMap<String, Override>> {
        self.read(rules::overrides).await
    }
    async fn owners(&self) -> Result<HashMap<String, String>> {
        self.read(rules::owners).await
    }
    async fn own(&self, plugin: &str, names: Vec<String>) -> Result<()> {
        let plugin = plugin.to_owned();
        self.writer.write(move |tx| rules::own(tx, &plugin, &names)).await
    }

    fn observe(&self, observer: Observer) {
        self.writer.observe(observer);
    }

    async fn close(&self) {
        // Joining a thread blocks; the caller is the last one in the house.
        tokio::task::block_in_place(|| self.writer.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::result::Result;

    #[test]
    fn a_claim_reads_nothing_but_its_index() {
        let folder = tempfile::tempdir().unwrap();
        drop(Sqlite::open(folder.path()).unwrap());
        let db = connect(&folder.path().join(FILE)).unwrap();
        for sql in [lanes::NEXT_NAME, ring::NEXT_KEY, ring::FIRST_ROWS] {
            let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let nothing = vec![rusqlite::types::Null; explain.parameter_count()];
            let steps = explain
                .query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3))
                .unwrap();
            let plan = steps.map(Result::unwrap).collect::<Vec<_>>().join("\n");
            assert!(plan.contains("USING COVERING INDEX task_due"), "{plan}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_costs_neither_the_writer_nor_a_reader() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        let written = store
            .writer
            .write::<(), _>(|tx| {
                tx.db.execute("INSERT INTO task_owner VALUES ('t', 'p')", []).unwrap();
                panic!("in an intention")
            })
            .await;
        assert!(matches!(written, Err(StoreError::Unavailable(_))));
        for _ in 0..2 * READERS {
            let read = store.read::<(), _>(|_| panic!("in a question")).await;
            assert!(matches!(read, Err(StoreError::Unavailable(_))));
        }
        store.own("q", vec!["u".into()]).await.unwrap();
        let owners = store.owners().await.unwrap();
        assert_eq!(
            owners,
            HashMap::from([("u".to_owned(), "q".to_owned())]),
            "the rest of the panicked one is undone"
        );
    }
}
