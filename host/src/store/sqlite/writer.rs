//! One thread writes; whatever queued up while it committed shares the next commit and its fsync.
//!
//! So a lone caller waits for one fsync and a thousand callers wait for one together: no timer, no tuning. Each is answered only after
//! the commit.
//!
//! An intention refuses before it writes, so it needs no savepoint, which would copy every page it touches. One that did write and then
//! failed takes the transaction with it: all that shared it are done again, each in a transaction of its own.

use super::Failed;
use super::monitor::MetricsBook;
use crate::store::{Result, StoreError};
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use tokio::sync::{mpsc, oneshot};

/// Intentions that wait for the next commit, at most; more have to wait to wait.
const QUEUE: usize = 4_096;
/// Intentions that share a commit, at most: more would save little of the fsync, and each holds up who waits for the next.
const BATCH: usize = 128;

/// What an intention may use.
pub(super) struct Tx<'a> {
    pub(super) db: &'a Connection,
    pub(super) metrics: &'a mut MetricsBook,
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

/// The way to the writer's thread.
pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread, which owns the connection until it is closed.
    pub(super) fn start(db: Connection) -> std::io::Result<Self> {
        let (queue, intentions) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(&db, intentions))?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Runs an intention and returns once it is durable. Waits where the queue is full.
    pub(super) async fn write<T, F>(&self, intention: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (job, told) = pack(intention, |done| done);
        self.queue()?.send(job).await.map_err(|_| closed())?;
        told.await.map_err(|_| given_up())?
    }

    /// As [`Writer::write`], but refuses at once where the queue is full: for work that has not been accepted yet.
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
        self.queue()?.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        told.await.map_err(|_| given_up())?
    }

    fn queue(&self) -> Result<mpsc::Sender<Box<dyn Job>>> {
        let queue = self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        queue.clone().ok_or_else(closed)
    }

    /// Lets what is queued finish, then ends the thread. Blocks.
    pub(super) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
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

fn run(db: &Connection, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    let mut metrics = MetricsBook::default();
    let mut batch = Vec::with_capacity(BATCH);
    while queue.blocking_recv_many(&mut batch, BATCH) > 0 {
        match commit(db, &mut metrics, &mut batch) {
            Ok(true) => batch.drain(..).for_each(|job| job.answer(Ok(()))),
            Ok(false) => batch.drain(..).for_each(|job| alone(db, &mut metrics, job)),
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
fn alone(db: &Connection, metrics: &mut MetricsBook, job: Box<dyn Job>) {
    let mut batch = vec![job];
    let committed = commit(db, metrics, &mut batch).map(drop);
    batch.drain(..).for_each(|job| job.answer(committed.clone()));
}

/// One transaction. False where one of the intentions spoilt it, and nothing of it was kept. An error that makes SQLite roll all of it
/// back (a full disk) fails all that shared it.
fn commit(db: &Connection, metrics: &mut MetricsBook, batch: &mut [Box<dyn Job>]) -> Result<bool> {
    let finished = write(db, metrics, batch);
    if !matches!(finished, Ok(true)) {
        *metrics = MetricsBook::default();
        if !db.is_autocommit() {
            db.execute_batch("ROLLBACK").failed()?;
        }
    }
    finished
}

fn write(db: &Connection, metrics: &mut MetricsBook, batch: &mut [Box<dyn Job>]) -> Result<bool> {
    let run = |sql: &str| db.prepare_cached(sql).and_then(|mut s| s.execute([])).failed();
    run("BEGIN IMMEDIATE")?;
    for job in batch.iter_mut() {
        let before = db.total_changes();
        let done = job.run(&mut Tx { db, metrics });
        if db.is_autocommit() {
            return Err(given_up());
        }
        if !done && db.total_changes() != before {
            return Ok(false);
        }
    }
    metrics.flush(db)?;
    run("COMMIT")?;
    Ok(true)
}
