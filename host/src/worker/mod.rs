//! The pool of slots: runs what was leased to this node, and settles it.
//!
//! A slot is held as long as its guest lives. The settling that follows holds none: it shares a commit with others, and the
//! next guest need not wait for it.

mod attempt;
mod lease;
mod outbox;

pub use attempt::{Assignment, Needs};
pub use outbox::{Accepts, Judge, NotAccepted, Outbox};

use crate::clock::Clock;
use crate::executor;
use crate::model::ids::NodeId;
use crate::monitor::Monitor;
use crate::store::{Lease, Room, Store};
use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

/// The `[worker]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Attempts that run at once.
    pub slots: usize,
    /// Memory that running attempts may be promised together; 0: half of the machine's.
    pub memory_budget: ByteSize,
    /// Seconds that running attempts may take to finish when the host is stopped.
    pub shutdown_grace: f64,
    /// Seconds that a cancelled attempt may take to see `is-cancelled` and finish.
    pub cancel_grace: f64,
}

impl Options {
    /// What each key means, for `--print-config`.
    pub const COMMENTS: &'static [(&'static str, &'static str)] = &[
        ("slots", "Attempts that run at once."),
        (
            "memory_budget",
            "Memory that running attempts may be promised together; \"0 B\": half of the machine's.",
        ),
        (
            "shutdown_grace",
            "Seconds that running attempts may take to finish when the host is stopped.",
        ),
        (
            "cancel_grace",
            "Seconds that a cancelled attempt may take to see is-cancelled and finish.",
        ),
    ];

    /// Says what is out of range, for whoever wrote the configuration.
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in [("shutdown_grace", self.shutdown_grace), ("cancel_grace", self.cancel_grace)] {
            if !(0.0..=86_400.0).contains(&value) {
                return Err(format!("worker.{name} is {value}; it must be 0 to 86400 seconds"));
            }
        }
        match self.slots {
            1..=10_000 => Ok(()),
            slots => Err(format!("worker.slots is {slots}; it must be 1 to 10000")),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            slots: 128,
            memory_budget: ByteSize(0),
            shutdown_grace: 30.0,
            cancel_grace: 0.0,
        }
    }
}

/// What an attempt needs of the house.
#[derive(Clone)]
pub struct Context {
    /// Where it is settled.
    pub store: Arc<dyn Store>,
    /// Who wants to know.
    pub monitor: Monitor,
    /// The time.
    pub clock: Clock,
    /// This process.
    pub node: NodeId,
    /// Caps of the executor that hold for every attempt.
    pub executor: executor::Options,
    /// Told when a slot is free or a task waits again.
    pub wake: Arc<Notify>,
    /// Whether what an attempt submits can run.
    pub accepts: Accepts,
    /// Whether so much of what attempts sent waits for its delivery that no more is taken.
    pub outbox_full: Arc<AtomicBool>,
    /// Told when an attempt has sent something.
    pub sent: Arc<Notify>,
}

/// What an attempt is told from outside; each word overrules those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    /// Go on.
    Run,
    /// This host is about to stop; the guest may still end by itself.
    Draining,
    /// The task was cancelled, and settled by whoever cancelled it.
    Cancelled,
    /// This host stops, or cannot prove any more that it lives.
    Interrupted,
}

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    context: Context,
    slots: usize,
    memory_budget: u64,
    cancel_grace: Duration,
    guests: tokio::runtime::Handle,
    running: Mutex<Running>,
    tracker: TaskTracker,
}

/// Cancellations that came before their attempt was started, at most; the gap is the way from the commit to the pool.
const EARLY: usize = 1_024;

#[derive(Default)]
struct Running {
    early: VecDeque<Lease>,
    attempts: HashMap<Lease, watch::Sender<Word>>,
    /// Slots in use or held free for somebody, and what they promise of the memory.
    slots: usize,
    memory: u64,
    /// Whether something is due and waits for a slot.
    wanted: bool,
    /// Whether no attempt is to be started any more.
    closed: bool,
}

fn tell(attempt: &watch::Sender<Word>, word: Word) {
    attempt.send_if_modified(|told| {
        let is_new = word > *told;
        *told = word.max(*told);
        is_new
    });
}

impl Handle {
    /// A pool whose guests run on `guests`.
    pub fn new(options: &Options, context: Context, guests: tokio::runtime::Handle) -> Self {
        let budget = match options.memory_budget.as_u64() {
            0 => machine_memory() / 2,
            bytes => bytes,
        };
        Self(Arc::new(Shared {
            slots: options.slots.max(1),
            memory_budget: budget.max(context.executor.max_memory.as_u64()),
            cancel_grace: Duration::try_from_secs_f64(options.cancel_grace).unwrap_or_default(),
            context,
            guests,
            running: Mutex::default(),
            tracker: TaskTracker::new(),
        }))
    }

    /// Holds one slot free, with so much of the memory; `None` where there is none.
    pub fn hold(&self, memory: u64) -> Option<Slot> {
        let mut running = self.running();
        let fits = running.slots < self.0.slots && running.memory.saturating_add(memory) <= self.0.memory_budget && !running.closed;
        if !fits {
            return None;
        }
        running.slots += 1;
        running.memory += memory;
        drop(running);
        Some(self.slot(memory))
    }

    /// Holds all that is free now, for a claim.
    pub fn hold_all(&self) -> Free {
        let mut running = self.running();
        let slots = if running.closed {
            0
        } else {
            self.0.slots.saturating_sub(running.slots)
        };
        let memory = self.0.memory_budget.saturating_sub(running.memory);
        running.slots += slots;
        running.memory += memory;
        drop(running);
        let pool = self.clone();
        let room = Room { slots, memory };
        Free { pool, room }
    }

    /// All slots, and how many are free.
    pub fn slots(&self) -> (usize, usize) {
        (self.0.slots, self.0.slots.saturating_sub(self.running().slots))
    }

    /// Whether no slot is free.
    pub fn is_full(&self) -> bool {
        let running = self.running();
        running.closed || running.slots >= self.0.slots
    }

    /// Says whether something is due and waits for a slot: only then is it worth a wake that one is free.
    pub fn want(&self, wanted: bool) {
        self.running().wanted = wanted;
    }

    fn slot(&self, memory: u64) -> Slot {
        Slot {
            pool: self.clone(),
            memory,
            lease: None,
        }
    }

    /// Returns whether something waits for what is free now.
    fn give_back(&self, slots: usize, memory: u64, lease: Option<Lease>) -> bool {
        let mut running = self.running();
        running.slots -= slots;
        running.memory -= memory;
        if let Some(lease) = lease {
            running.attempts.remove(&lease);
        }
        running.wanted
    }

    /// Runs an attempt that is leased to this node, to its settlement.
    pub fn start(&self, assignment: Assignment, mut slot: Slot) {
        let lease = assignment.lease;
        let (told, word) = watch::channel(Word::Run);
        {
            let mut running = self.running();
            if let Some(place) = running.early.iter().position(|early| *early == lease) {
                running.early.remove(place);
                drop(running);
                return;
            }
            running.attempts.insert(lease, told);
        }
        slot.lease = Some(lease);
        self.0.tracker.spawn_on(
            attempt::run(self.0.context.clone(), assignment, slot, word, self.0.cancel_grace),
            &self.0.guests,
        );
    }

    /// Stops the guest of an attempt that was cancelled and settled, also one that is only about to start.
    pub fn stop_cancelled(&self, lease: Lease) {
        let mut running = self.running();
        match running.attempts.get(&lease) {
            Some(attempt) => tell(attempt, Word::Cancelled),
            None => {
                running.early.truncate(EARLY - 1);
                running.early.push_front(lease);
            }
        }
    }

    /// Keeps this node's leases alive until the process ends; gives the guests up when it cannot.
    pub async fn keep_leases(self) {
        lease::keep(&self).await;
    }

    /// Lets running attempts finish for `grace`, telling them that it is time, hands the rest back as interrupted, and waits until all
    /// are settled. The caller has stopped claiming.
    pub async fn drain(&self, grace: Duration) {
        self.0.tracker.close();
        self.running().closed = true;
        self.tell_all(Word::Draining);
        if tokio::time::timeout(grace, self.0.tracker.wait()).await.is_err() {
            tracing::info!("the grace period is over; handing back what still runs");
            self.interrupt_all();
            if tokio::time::timeout(Duration::from_secs(10), self.0.tracker.wait()).await.is_err() {
                tracing::error!("some attempts could not be settled; the next start finds them lost");
            }
        }
    }

    fn interrupt_all(&self) {
        self.tell_all(Word::Interrupted);
    }

    fn tell_all(&self, word: Word) {
        for attempt in self.running().attempts.values() {
            tell(attempt, word);
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot held free or in use: given back when dropped, however the attempt ended.
pub struct Slot {
    pool: Handle,
    memory: u64,
    lease: Option<Lease>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.pool.give_back(1, self.memory, self.lease) {
            self.pool.0.context.wake.notify_one();
        }
    }
}

/// All that was free, held for a claim; given back when dropped, but for the slots taken out of it.
pub struct Free {
    pool: Handle,
    room: Room,
}

impl Free {
    /// How much it is.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Gives a part of it back.
    pub fn give_back(&mut self, part: Room) {
        let slots = part.slots.min(self.room.slots);
        let memory = part.memory.min(self.room.memory);
        self.room.slots -= slots;
        self.room.memory -= memory;
        self.pool.give_back(slots, memory, None);
    }

    /// One slot with so much of the memory. A claim takes no more than was held for it.
    pub fn take(&mut self, memory: u64) -> Option<Slot> {
        self.room.slots = self.room.slots.checked_sub(1)?;
        self.room.memory = self.room.memory.saturating_sub(memory);
        Some(self.pool.slot(memory))
    }
}

impl Drop for Free {
    fn drop(&mut self) {
        // The claim had its chance at these: waking it again for them would never end.
        self.pool.give_back(self.room.slots, self.room.memory, None);
    }
}

/// Bytes of memory that this process may use: the machine's, or its control group's where that is less.
fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = info.totalram.saturating_mul(u64::from(info.mem_unit));
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    group.map_or(machine, |limit: u64| limit.min(machine))
}
