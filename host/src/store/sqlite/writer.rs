//! One thread writes; whatever queued up while it committed shares the next commit and its fsync.
//!
//! So a lone caller waits for one fsync and a thousand callers wait for one together: no timer, no tuning. Each intention runs
//! in a savepoint, so that one that is refused takes nothing with it, and is answered only after the commit.

use super::Failed;
use super::monitor::MetricsBook;
use crate::store::{Result, StoreError};
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use tokio::sync::{mpsc, oneshot};

/// Intentions that wait for the next commit, at most; more have to wait to wait.
const QUEUE: usize = 4_096;
/// Intentions that share a commit, at most.
const BATCH: usize = 512;

/// What an intention may use.
pub(super) struct Tx<'a> {
    pub(super) db: &'a Connection,
    pub(super) metrics: &'a mut MetricsBook,
}

type Answer = Box<dyn FnOnce(Result<()>) + Send>;
type Intention = Box<dyn FnOnce(&mut Tx<'_>) -> Answer + Send>;

/// The way to the writer's thread.
pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Intention>>>,
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
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (job, told) = pack(intention);
        self.queue()?.send(job).await.map_err(|_| closed())?;
        told.await.map_err(|_| given_up())?
    }

    /// As [`Writer::write`], but refuses at once where the queue is full: for work that has not been accepted yet.
    pub(super) async fn offer<T, F>(&self, intention: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (job, told) = pack(intention);
        self.queue()?.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        told.await.map_err(|_| given_up())?
    }

    fn queue(&self) -> Result<mpsc::Sender<Intention>> {
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

fn pack<T, F>(intention: F) -> (Intention, oneshot::Receiver<Result<T>>)
where
    T: Send + 'static,
    F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    let job = Box::new(move |tx: &mut Tx<'_>| {
        let result = in_savepoint(tx, intention);
        Box::new(move |committed: Result<()>| {
            let _ = tell.send(committed.and(result));
        }) as Answer
    });
    (job, told)
}

fn in_savepoint<T>(tx: &mut Tx<'_>, intention: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
    tx.db
        .prepare_cached("SAVEPOINT intention")
        .and_then(|mut s| s.execute([]))
        .failed()?;
    // The thread serves all others too, whatever one intention stumbles over.
    let result = catch_unwind(AssertUnwindSafe(|| intention(tx)))
        .unwrap_or_else(|_| Err(StoreError::Unavailable("the intention panicked; stderr says where".into())));
    if result.is_err() {
        tx.db
            .prepare_cached("ROLLBACK TO intention")
            .and_then(|mut s| s.execute([]))
            .failed()?;
    }
    tx.db.prepare_cached("RELEASE intention").and_then(|mut s| s.execute([])).failed()?;
    result
}

fn run(db: &Connection, mut intentions: mpsc::Receiver<Intention>) {
    let mut metrics = MetricsBook::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut answers = Vec::with_capacity(BATCH);
    while intentions.blocking_recv_many(&mut batch, BATCH) > 0 {
        let committed = commit(db, &mut metrics, &mut batch, &mut answers);
        if let Err(error) = &committed {
            tracing::error!(%error, "a commit failed; its callers were told");
            metrics = MetricsBook::default();
        }
        for answer in answers.drain(..) {
            answer(committed.clone());
        }
    }
    if let Err(error) = db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
        tracing::warn!(%error, "the write-ahead log could not be folded in at the end; the next start will");
    }
}

/// One transaction. An error that makes SQLite roll all of it back (a full disk) fails all that shared it.
fn commit(db: &Connection, metrics: &mut MetricsBook, batch: &mut Vec<Intention>, answers: &mut Vec<Answer>) -> Result<()> {
    let begun = db.prepare_cached("BEGIN IMMEDIATE").and_then(|mut s| s.execute([])).failed();
    for intention in batch.drain(..) {
        // Outside a transaction a savepoint would be one of its own. What is dropped here is told so by its closed channel.
        if db.is_autocommit() {
            continue;
        }
        let mut tx = Tx { db, metrics };
        answers.push(intention(&mut tx));
    }
    let finished = begun.and_then(|_| {
        if db.is_autocommit() {
            return Err(given_up());
        }
        metrics.flush(db)?;
        db.prepare_cached("COMMIT").and_then(|mut s| s.execute([])).failed()
    });
    if finished.is_err() && !db.is_autocommit() {
        let _ = db.execute_batch("ROLLBACK");
    }
    finished.map(drop)
}
