//! SQLite at `synchronous=FULL`: one writer thread, and whatever has queued up shares one transaction and one fsync.

use anyhow::Result;
use rusqlite::{Connection, params};
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

pub(crate) struct Task {
    pub(crate) id: i64,
    pub(crate) payload: String,
}

enum Write {
    Enqueue {
        payload: String,
        done: oneshot::Sender<i64>,
    },
    Settle {
        id: i64,
        result: String,
        done: oneshot::Sender<()>,
    },
}

#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Write>);

const BATCH: usize = 512;

impl Writer {
    /// After each commit every task that it made durable goes to `hand_off`.
    pub(crate) fn open(path: &Path, hand_off: mpsc::UnboundedSender<Task>) -> Result<Self> {
        let db = Connection::open(path)?;
        db.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000; PRAGMA temp_store=MEMORY;
             CREATE TABLE task(id INTEGER PRIMARY KEY, state INTEGER NOT NULL, payload BLOB NOT NULL, attempt INTEGER NOT NULL, lease INTEGER);
             CREATE TABLE done(id INTEGER PRIMARY KEY, result BLOB NOT NULL) WITHOUT ROWID;",
        )?;
        let (queue, writes) = mpsc::channel(4_096);
        std::thread::spawn(move || {
            if let Err(error) = run(&db, writes, &hand_off) {
                eprintln!("the floor's writer ended: {error}");
            }
        });
        Ok(Self(queue))
    }

    pub(crate) async fn enqueue(&self, payload: String) -> i64 {
        let (done, told) = oneshot::channel();
        let _ = self.0.send(Write::Enqueue { payload, done }).await;
        told.await.unwrap_or_default()
    }

    pub(crate) async fn settle(&self, id: i64, result: String) {
        let (done, told) = oneshot::channel();
        let _ = self.0.send(Write::Settle { id, result, done }).await;
        let _ = told.await;
    }
}

fn run(db: &Connection, mut writes: mpsc::Receiver<Write>, hand_off: &mpsc::UnboundedSender<Task>) -> Result<()> {
    let mut next = 0;
    let mut batch = Vec::with_capacity(BATCH);
    while writes.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut ids = Vec::with_capacity(BATCH);
        db.execute_batch("BEGIN IMMEDIATE")?;
        for write in &batch {
            ids.push(match write {
                Write::Enqueue { payload, .. } => {
                    next += 1;
                    db.prepare_cached("INSERT INTO task(id, state, payload, attempt, lease) VALUES (?1, 1, ?2, 1, 0)")?
                        .execute(params![next, payload])?;
                    next
                }
                Write::Settle { id, result, .. } => {
                    db.prepare_cached("DELETE FROM task WHERE id = ?1 AND attempt = 1")?.execute([id])?;
                    db.prepare_cached("INSERT INTO done VALUES (?1, ?2)")?
                        .execute(params![id, result])?;
                    *id
                }
            });
        }
        db.execute_batch("COMMIT")?;
        for (write, id) in batch.drain(..).zip(ids) {
            match write {
                Write::Enqueue { payload, done } => {
                    let _ = done.send(id);
                    let _ = hand_off.send(Task { id, payload });
                }
                Write::Settle { done, .. } => drop(done.send(())),
            }
        }
    }
    Ok(())
}
