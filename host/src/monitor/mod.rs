//! What goes on right now: who waits for which task's end, and how far running attempts say they are.
//!
//! Nothing here is truth: it is lost with the process and rebuilt by what happens next. The store is truth.

mod rates;
pub mod retention;

use crate::model::attempt::Progress;
use crate::model::ids::TaskId;
use crate::store::Committed;
use rates::Rate;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;

/// The live view. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Monitor(Arc<Mutex<Live>>);

#[derive(Debug)]
struct Live {
    /// Since when rates are counted.
    since: Instant,
    arrivals: Rate,
    drained: Rate,
    waiting: HashMap<TaskId, Vec<oneshot::Sender<()>>>,
    progress: HashMap<TaskId, Progress>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            arrivals: Rate::default(),
            drained: Rate::default(),
            waiting: HashMap::new(),
            progress: HashMap::new(),
        }
    }
}

/// How fast tasks came in and ended: a second, over the last minute of this host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Came in, from wherever.
    pub arrival: f64,
    /// Ended, however.
    pub drain: f64,
}

/// Waits for the end of one task. Made before the task is looked up, so that an end in between is not missed.
#[derive(Debug)]
pub struct Waiter {
    monitor: Monitor,
    id: TaskId,
    ended: Option<oneshot::Receiver<()>>,
}

impl Monitor {
    /// Hears of a commit: tasks came in, and others ended.
    pub fn committed(&self, committed: &Committed) {
        let mut guard = self.live();
        let live = &mut *guard;
        let passed = live.since.elapsed();
        live.arrivals.add(passed, committed.entered);
        live.drained.add(passed, committed.ended.len() as u64);
        for id in &committed.ended {
            live.progress.remove(id);
            for waiter in live.waiting.remove(id).into_iter().flatten() {
                let _ = waiter.send(());
            }
        }
    }

    /// How fast tasks came in and ended.
    pub fn rates(&self) -> Rates {
        let mut live = self.live();
        let passed = live.since.elapsed();
        Rates {
            arrival: live.arrivals.per_second(passed),
            drain: live.drained.per_second(passed),
        }
    }

    /// Starts to listen for a task's end.
    pub fn wait_for(&self, id: TaskId) -> Waiter {
        let (tell, ended) = oneshot::channel();
        self.live().waiting.entry(id).or_default().push(tell);
        Waiter {
            monitor: self.clone(),
            id,
            ended: Some(ended),
        }
    }

    /// How far a running task's attempt says it is.
    pub fn progress(&self, id: TaskId) -> Option<Progress> {
        self.live().progress.get(&id).cloned()
    }

    /// Keeps what an attempt said of its progress.
    pub fn set_progress(&self, id: TaskId, progress: Progress) {
        self.live().progress.insert(id, progress);
    }

    /// Forgets the progress of an attempt that ended.
    pub fn clear_progress(&self, id: TaskId) {
        self.live().progress.remove(&id);
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Resolves when the task has ended. Only the first call waits.
    pub async fn ended(&mut self) {
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
    }
}

impl Drop for Waiter {
    /// A waiter that gave up is not kept.
    fn drop(&mut self) {
        drop(self.ended.take());
        let mut live = self.monitor.live();
        if let Some(waiters) = live.waiting.get_mut(&self.id) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                live.waiting.remove(&self.id);
            }
        }
    }
}
