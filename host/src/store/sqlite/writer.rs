//! One thread writes; whatever queued up while it committed shares the next commit and its fsync.
//!
//! So a lone caller waits for one fsync and a thousand callers wait for one together: no timer, no tuning. Each is answered only after
//! the commit.
//!
//! What has been accepted goes first: claims, settlements and the like are a queue of their own. While due tasks wait for a slot, what is
//! new is let in at the rate at which work is done, and some more. Otherwise submissions, of which there may be any number, would fill the
//! commits and the processors, and everything that was accepted would wait for them. What is new and waits too long is refused.
//!
//! An intention refuses before it writes, so it needs no savepoint, which would copy every page it touches. One that did write and then
//! failed takes the transaction with it: all that shared it are done again, each in a transaction of its own.

use super::Failed;
use super::counts::{self, BatchBook};
use super::gates::Gates;
use super::kept::KeptBook;
use super::lanes::Cursors;
use super::monitor::MetricsBook;
use super::workflow::WorkflowBook;
use crate::store::{Committed, Observer, Result, StoreError};
use rusqlite::Connection;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Intentions about what was accepted that wait for the next commit, at most; more have to wait to wait.
const WORK: usize = 4_096;
/// Offers that wait for a commit, at most: some tens of milliseconds of them. More are refused.
const OFFERS: usize = 512;
/// Intentions of either kind that share a commit, at most: more would save little of the fsync, and each holds up who waits for the next.
const BATCH: usize = 128;
/// While due tasks wait for a slot, an offer is let in for each intention about what was accepted, and one more each so often: where all
/// slots are taken for long, nothing is settled, and ten thousand a second still come in.
const LET_IN_EVERY: Duration = Duration::from_micros(100);
/// How long an offer waits for a place among those that wait for a commit. A client that is refused at once asks again at once, and to
/// refuse it costs almost what taking its task does.
const PATIENCE: Duration = Duration::from_millis(100);

/// What an intention may use.
pub(super) struct Tx<'a> {
    pub(super) db: &'a Connection,
    pub(super) metrics: &'a mut MetricsBook,
    pub(super) batches: &'a mut BatchBook,
    pub(super) kept: &'a KeptBook,
    /// `None` where they have to be read.
    pub(super) gates: &'a mut Option<Arc<Gates>>,
    pub(super) workflows: &'a mut WorkflowBook,
    /// Whether due tasks wait for a slot, as far as the last intention knows that looked.
    pub(super) crowded: &'a Cell<bool>,
    /// How many held tasks were let in, for the one-in-16 rule.
    pub(super) let_in: &'a Cell<u64>,
    /// Whose turn it was last: of due tasks, and under each key of held ones.
    pub(super) cursors: &'a mut Cursors,
    pub(super) held_turns: &'a RefCell<HashMap<String, i64>>,
    /// Told once it is durable.
    pub(super) committed: &'a mut Committed,
}

/// What the writer knows of the database, read anew after a transaction was taken back; and what the intentions of a commit add to,
/// written once at its end.
#[derive(Default)]
struct Books {
    metrics: MetricsBook,
    batches: BatchBook,
    kept: KeptBook,
    gates: Option<Arc<Gates>>,
    let_in: Cell<u64>,
    workflows: WorkflowBook,
    cursors: Cursors,
    held_turns: RefCell<HashMap<String, i64>>,
    committed: Committed,
}

impl Books {
    fn tx<'a>(&'a mut self, db: &'a Connection, crowded: &'a Cell<bool>) -> Tx<'a> {
        Tx {
            db,
            metrics: &mut self.metrics,
            batches: &mut self.batches,
            kept: &self.kept,
            gates: &mut self.gates,
            workflows: &mut self.workflows,
            crowded,
            let_in: &self.let_in,
            cursors: &mut self.cursors,
            held_turns: &self.held_turns,
            committed: &mut self.committed,
        }
    }

    /// Tells of a commit; after one that was taken back there is nothing to tell.
    fn tell(&mut self, observer: &OnceLock<Observer>) {
        let committed = std::mem::take(&mut self.committed);
        if let Some(observer) = observer.get().filter(|_| committed.entered > 0 || !committed.ended.is_empty()) {
            // What it stumbles over is not what the writer stops for.
            let _ = catch_unwind(AssertUnwindSafe(|| observer(&committed)));
        }
    }
}

/// An intention and who waits for it, whatever its answer is.
trait Job: Send {
    /// Carries it out; false where it was refused or failed. May be asked again after a rollback.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Tells what came of it and of the commit.
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Intention<T, U, F, G> {
    carry_out: F,
    result: Result<T>,
    /// What is done once it is durable, before whoever asked is told.
    then: G,
    tell: oneshot::Sender<Result<U>>,
}

impl<T: Send, U: Send, F: Fn(&mut Tx<'_>) -> Result<T> + Send, G: FnOnce(T) -> U + Send> Job for Intention<T, U, F, G> {
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        // The thread serves all others too, whatever one intention stumbles over.
        self.result = catch_unwind(AssertUnwindSafe(|| (self.carry_out)(tx))).unwrap_or_else(|_| Err(panicked()));
        self.result.is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let Self { result, then, tell, .. } = *self;
        let durable = committed.and(result);
        let told = catch_unwind(AssertUnwindSafe(|| durable.map(then))).unwrap_or_else(|_| Err(panicked()));
        let _ = tell.send(told); // whoever asked has gone
    }
}

#[derive(Clone)]
struct Senders {
    work: mpsc::Sender<Box<dyn Job>>,
    offers: mpsc::Sender<Box<dyn Job>>,
}

/// The way to the writer's thread.
pub(super) struct Writer {
    queues: Mutex<Option<Senders>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    observer: Arc<OnceLock<Observer>>,
}

impl Writer {
    /// Starts the thread, which owns the connection until it is closed.
    pub(super) fn start(db: Connection) -> std::io::Result<Self> {
        let (work, work_queue) = mpsc::channel(WORK);
        let (offers, offer_queue) = mpsc::channel(OFFERS);
        let queues = Queues {
            work: work_queue,
            offers: offer_queue,
            crowded: Cell::new(false),
            allowance: BATCH,
            grown: Instant::now(),
        };
        let observer = Arc::new(OnceLock::new());
        let observed = observer.clone();
        // Only to wait for either queue.
        let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(&db, queues, &waiting, &observed))?;
        Ok(Self {
            queues: Mutex::new(Some(Senders { work, offers })),
            thread: Mutex::new(Some(thread)),
            observer,
        })
    }

    /// Has somebody told of each commit, before those who wait for it. The first one stays.
    pub(super) fn observe(&self, observer: Observer) {
        let _ = self.observer.set(observer);
    }

    /// Runs an intention and returns once it is durable. Waits where the queue is full.
    pub(super) async fn write<T, F>(&self, intention: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (job, told) = pack(intention, |done| done);
        self.queues()?.work.send(job).await.map_err(|_| closed())?;
        told.await.map_err(|_| given_up())?
    }

    /// As [`Writer::write`], but refuses where the queue is full and stays so: for what has not been accepted yet.
    pub(super) async fn offer<T, F>(&self, intention: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.offer_then(intention, |done| done).await
    }

    /// As [`Writer::offer`], and does something with what came of it as soon as it is durable, also where nobody waits any more. That
    /// holds up all other intentions.
    pub(super) async fn offer_then<T, U, F, G>(&self, intention: F, then: G) -> Result<U>
    where
        T: Send + 'static,
        U: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
        G: FnOnce(T) -> U + Send + 'static,
    {
        let (job, told) = pack(intention, then);
        let queues = self.queues()?;
        match queues.offers.try_send(job) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(job)) => {
                let sent = queues.offers.send_timeout(job, PATIENCE).await;
                sent.map_err(|_| StoreError::Busy)?;
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(closed()),
        }
        drop(queues); // both ends at once: the thread goes by that
        told.await.map_err(|_| given_up())?
    }

    /// As [`Writer::offer`], but waits however long the queue is: for what was accepted and is let in beside what is new, not before it.
    pub(super) async fn bring<T, F>(&self, intention: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (job, told) = pack(intention, |done| done);
        let queues = self.queues()?;
        queues.offers.send(job).await.map_err(|_| closed())?;
        drop(queues); // both ends at once: the thread goes by that
        told.await.map_err(|_| given_up())?
    }

    fn queues(&self) -> Result<Senders> {
        let queues = self.queues.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        queues.clone().ok_or_else(closed)
    }

    /// Lets what is queued finish, then ends the thread. Blocks.
    pub(super) fn close(&self) {
        drop(self.queues.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}

fn given_up() -> StoreError {
    StoreError::Unavailable("the database gave up the transaction".into())
}

fn panicked() -> StoreError {
    StoreError::Unavailable("the intention panicked; stderr says where".into())
}

fn pack<T, U, F, G>(carry_out: F, then: G) -> (Box<dyn Job>, oneshot::Receiver<Result<U>>)
where
    T: Send + 'static,
    U: Send + 'static,
    F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    G: FnOnce(T) -> U + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    let result = Err(given_up());
    let job = Intention {
        carry_out,
        result,
        then,
        tell,
    };
    (Box::new(job), told)
}

/// What waits for a commit.
struct Queues {
    work: mpsc::Receiver<Box<dyn Job>>,
    offers: mpsc::Receiver<Box<dyn Job>>,
    /// Whether due tasks wait for a slot.
    crowded: Cell<bool>,
    /// Offers that may be let in while they do.
    allowance: usize,
    /// Up to when the allowance has grown with time.
    grown: Instant,
}

impl Queues {
    /// Waits for the next commit's intentions. Leaves `batch` empty once nobody can send any more.
    async fn fill(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        loop {
            let work = take(&mut self.work, batch, BATCH);
            self.grow(work);
            let share = if self.crowded.get() { self.allowance } else { BATCH };
            let let_in = take(&mut self.offers, batch, share);
            self.allowance = self.allowance.saturating_sub(let_in);
            if !batch.is_empty() {
                return;
            }
            let job = tokio::select! {
                biased;
                job = self.work.recv() => job,
                job = self.offers.recv(), if share > 0 => job,
                () = tokio::time::sleep(10 * LET_IN_EVERY), if share == 0 => continue,
            };
            batch.extend(job);
            if batch.is_empty() {
                // Both senders are dropped together, so that the end of one is the end of both.
                take(&mut self.offers, batch, OFFERS);
                return;
            }
        }
    }

    fn grow(&mut self, work: usize) {
        let periods = self.grown.elapsed().as_micros() / LET_IN_EVERY.as_micros();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        self.grown += LET_IN_EVERY.saturating_mul(periods);
        let more = usize::try_from(periods).unwrap_or(BATCH).saturating_add(work);
        self.allowance = self.allowance.saturating_add(more).min(BATCH);
    }
}

/// Takes what is there, so many at most; returns how many.
fn take(queue: &mut mpsc::Receiver<Box<dyn Job>>, batch: &mut Vec<Box<dyn Job>>, most: usize) -> usize {
    let before = batch.len();
    batch.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(most));
    batch.len() - before
}

fn run(db: &Connection, mut queues: Queues, waiting: &tokio::runtime::Runtime, observer: &OnceLock<Observer>) {
    let mut books = Books::default();
    let mut batch = Vec::with_capacity(2 * BATCH);
    loop {
        waiting.block_on(queues.fill(&mut batch));
        if batch.is_empty() {
            break;
        }
        match commit(db, &mut books, &queues.crowded, observer, &mut batch) {
            Ok(true) => batch.drain(..).for_each(|job| job.answer(Ok(()))),
            Ok(false) => batch
                .drain(..)
                .for_each(|job| alone(db, &mut books, &queues.crowded, observer, job)),
            Err(error) => {
                tracing::error!(%error, "a commit failed; its callers were told");
                batch.drain(..).for_each(|job| job.answer(Err(error.clone())));
            }
        }
    }
    if let Err(error) = db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
        tracing::warn!(%error, "the write-ahead log could not be folded in at the end; the next start will");
    }
}

/// One transaction of one intention, which then spoils nobody else's.
fn alone(db: &Connection, books: &mut Books, crowded: &Cell<bool>, observer: &OnceLock<Observer>, job: Box<dyn Job>) {
    let mut batch = vec![job];
    let committed = commit(db, books, crowded, observer, &mut batch).map(drop);
    batch.drain(..).for_each(|job| job.answer(committed.clone()));
}

/// One transaction. False where one of the intentions spoilt it, and nothing of it was kept. An error that makes SQLite roll all of it
/// back (a full disk) fails all that shared it.
fn commit(
    db: &Connection,
    books: &mut Books,
    crowded: &Cell<bool>,
    observer: &OnceLock<Observer>,
    batch: &mut [Box<dyn Job>],
) -> Result<bool> {
    let finished = write(db, books, crowded, batch);
    if matches!(finished, Ok(true)) {
        books.tell(observer);
        return finished;
    }
    *books = Books::default();
    if !db.is_autocommit() {
        db.execute_batch("ROLLBACK").failed()?;
    }
    finished
}

fn write(db: &Connection, books: &mut Books, crowded: &Cell<bool>, batch: &mut [Box<dyn Job>]) -> Result<bool> {
    let run = |sql: &str| db.prepare_cached(sql).and_then(|mut s| s.execute([])).failed();
    run("BEGIN IMMEDIATE")?;
    books.kept.begin(db)?;
    for job in batch.iter_mut() {
        let before = db.total_changes();
        let done = job.run(&mut books.tx(db, crowded));
        if db.is_autocommit() {
            return Err(given_up());
        }
        if !done && db.total_changes() != before {
            return Ok(false);
        }
    }
    if !books.batches.is_empty() {
        counts::flush(&mut books.tx(db, crowded))?;
    }
    books.metrics.flush(db)?;
    books.kept.flush(db)?;
    run("COMMIT")?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    /// A writer that is busy with its first intention until it is let go.
    async fn busy() -> (Arc<Writer>, std::sync::mpsc::Sender<()>) {
        let db = Connection::open_in_memory().unwrap();
        let schema = include_str!("../../../migrations/sqlite/V1__first_light.sql");
        db.execute_batch(schema).unwrap();
        let writer = Arc::new(Writer::start(db).unwrap());
        let (go, wait) = std::sync::mpsc::channel();
        let wait = Mutex::new(wait);
        let (begun, begins) = oneshot::channel();
        let begun = Mutex::new(Some(begun));
        let first = writer.clone();
        tokio::spawn(async move {
            let _ = first
                .write(move |_| {
                    begun.lock().unwrap().take().map(|begun| begun.send(()));
                    let _ = wait.lock().unwrap().recv();
                    Ok(())
                })
                .await;
        });
        begins.await.unwrap();
        (writer, go)
    }

    #[tokio::test]
    async fn what_was_accepted_goes_before_what_is_new_and_too_much_of_that_is_refused() {
        let (writer, go) = busy().await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let order = order.clone();
            move |_: &mut Tx<'_>| {
                order.lock().unwrap().push(what);
                Ok(())
            }
        };
        let mut offers: Vec<_> = (0..OFFERS).map(|_| Box::pin(writer.offer(note("new")))).collect();
        let mut nobody = Context::from_waker(Waker::noop());
        for offer in &mut offers {
            assert!(offer.as_mut().poll(&mut nobody).is_pending());
        }
        assert!(matches!(writer.offer(note("new")).await, Err(StoreError::Busy)));
        let mut work = Box::pin(writer.write(note("accepted")));
        assert!(work.as_mut().poll(&mut nobody).is_pending());
        go.send(()).unwrap();
        work.await.unwrap();
        for offer in offers {
            offer.await.unwrap();
        }
        let order = order.lock().unwrap();
        assert_eq!((order[0], order.len()), ("accepted", OFFERS + 1));
    }

    #[tokio::test]
    async fn while_due_tasks_wait_what_is_new_comes_in_as_work_is_done() {
        let job = || pack(|_| Ok(()), |done| done).0;
        let (work, work_queue) = mpsc::channel(WORK);
        let (offers, offer_queue) = mpsc::channel(OFFERS);
        (0..3).for_each(|_| work.try_send(job()).unwrap());
        (0..100).for_each(|_| offers.try_send(job()).unwrap());
        let mut queues = Queues {
            work: work_queue,
            offers: offer_queue,
            crowded: Cell::new(true),
            allowance: 0,
            grown: Instant::now() + Duration::from_secs(3_600), // it does not grow with time here
        };
        let mut batch = Vec::new();
        queues.fill(&mut batch).await;
        assert_eq!(batch.len(), 3 + 3);
        queues.crowded.set(false);
        batch.clear();
        queues.fill(&mut batch).await;
        assert_eq!(batch.len(), 97);
    }
}
