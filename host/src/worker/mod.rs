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
use crate::executor::{Pace, Processors, Ticket};
use crate::model::ids::{NodeId, TaskId};
use crate::model::priority::Priority;
use crate::model::room::{Load, Room, is_urgent, kept_memory, kept_slots};
use crate::monitor::Monitor;
use crate::store::{Lease, LoadOf, Store};
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
    /// The processors of this node.
    pub processors: Processors,
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
    /// What of it is for any task.
    common_memory: u64,
    cancel_grace: Duration,
    load: LoadOf,
    guests: tokio::runtime::Handle,
    running: Mutex<Running>,
    tracker: TaskTracker,
}

/// Cancellations that came before their attempt was started, at most; the gap is the way from the commit to the pool.
const EARLY: usize = 1_024;

#[derive(Default)]
struct Running {
    early: VecDeque<Lease>,
    attempts: HashMap<Lease, Attempt>,
    /// Slots in use or held free for somebody, and what they promise of the memory.
    slots: usize,
    memory: u64,
    /// What of it those have who may not have what is kept for the urgent.
    common_slots: usize,
    common_memory: u64,
    /// Whether something is due and waits for a slot.
    wanted: bool,
    /// Whether no attempt is to be started any more.
    closed: bool,
}

/// An attempt that runs, as seen from outside.
struct Attempt {
    told: watch::Sender<Word>,
    pace: Arc<Pace>,
}

/// What of this node is in use.
#[derive(Clone, Copy, Debug)]
pub struct InUse {
    /// Attempts that may run at once.
    pub slots: usize,
    /// Of them, those that are free.
    pub slots_free: usize,
    /// Of the slots, those that only priorities 1 and 2 may have.
    pub slots_kept: usize,
    /// Bytes that attempts may be promised together.
    pub memory: u64,
    /// Bytes that attempts which run are promised.
    pub memory_reserved: u64,
    /// Processors that attempts may burn on.
    pub processors: usize,
    /// Attempts that burn.
    pub burning: usize,
    /// Attempts that have begun and stand aside until they have a processor.
    pub aside: usize,
}

fn tell(attempt: &Attempt, word: Word) {
    attempt.told.send_if_modified(|told| {
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
        let largest = context.executor.max_memory.as_u64();
        let budget = budget.max(largest);
        let processors = context.processors.clone();
        Self(Arc::new(Shared {
            load: Arc::new(move |name| processors.load(name)),
            slots: options.slots.max(1),
            memory_budget: budget,
            common_memory: budget - kept_memory(budget, options.slots, largest),
            cancel_grace: Duration::try_from_secs_f64(options.cancel_grace).unwrap_or_default(),
            context,
            guests,
            running: Mutex::default(),
            tracker: TaskTracker::new(),
        }))
    }

    /// Holds one slot free for a task of this name and priority, with so much of the memory; `None` where there is none, or the task is
    /// expected to burn and finds no processor.
    pub fn hold(&self, name: &str, priority: Priority, memory: u64) -> Option<Slot> {
        let load = self.load(name);
        let mut running = self.running();
        let room = self.room(&running);
        if running.closed || !room.fits(priority, load) || memory > room.memory_for(priority) {
            return None;
        }
        running.slots += 1;
        running.memory += memory;
        Some(self.slot(&mut running, name, priority, memory))
    }

    /// Holds all that is free now, for a claim.
    pub fn hold_all(&self) -> Free {
        let mut running = self.running();
        let mut room = self.room(&running);
        if running.closed {
            room.slots = 0;
        }
        running.slots += room.slots;
        running.memory += room.memory;
        drop(running);
        let pool = self.clone();
        Free { pool, room }
    }

    /// What is free.
    fn room(&self, running: &Running) -> Room {
        let slots = self.0.slots.saturating_sub(running.slots);
        let memory = self.0.memory_budget.saturating_sub(running.memory);
        let common_slots = (self.0.slots - kept_slots(self.0.slots)).saturating_sub(running.common_slots);
        let common_memory = self.0.common_memory.saturating_sub(running.common_memory);
        let (new, burning) = self.0.context.processors.room();
        Room {
            new,
            burning,
            common_slots: common_slots.min(slots),
            common_memory: common_memory.min(memory),
            ..Room::of(slots, memory)
        }
    }

    /// What is in use of this node.
    pub fn in_use(&self) -> InUse {
        let (processors, burning, aside) = self.0.context.processors.in_use();
        let running = self.running();
        InUse {
            slots: self.0.slots,
            slots_free: self.0.slots.saturating_sub(running.slots),
            slots_kept: kept_slots(self.0.slots),
            memory: self.0.memory_budget,
            memory_reserved: running.memory,
            processors,
            burning,
            aside,
        }
    }

    /// How long an attempt of a task that runs here has been waiting for a processor, and waited before, together.
    pub fn processor_wait(&self, task: TaskId) -> Option<(bool, Duration)> {
        let running = self.running();
        let (_, attempt) = running.attempts.iter().find(|(lease, _)| lease.task == task)?;
        let aside = attempt.pace.aside(&self.0.context.processors);
        Some((aside.is_some(), attempt.pace.so_far() + aside.unwrap_or_default()))
    }

    /// Whether a task of this name and priority would find no processor.
    pub fn waits_for_processor(&self, name: &str, priority: Priority) -> bool {
        let room = self.room(&self.running());
        self.load(name) == Load::Burns && !room.has_processor(priority)
    }

    /// What attempts of a name are known to do, for the store.
    pub fn load_of(&self) -> LoadOf {
        self.0.load.clone()
    }

    /// What attempts of this name are known to do.
    pub fn load(&self, name: &str) -> Load {
        self.0.context.processors.load(name)
    }

    /// Whether no slot is free.
    pub fn is_full(&self) -> bool {
        let running = self.running();
        running.closed || running.slots >= self.0.slots
    }

    /// Says whether something is due and waits for a slot, and what waits for a processor: only then is it worth a wake that one is free.
    pub fn want(&self, slot: bool, processor: Option<Priority>) {
        self.running().wanted = slot;
        self.0.context.processors.want(processor);
    }

    /// A slot that is counted as in use.
    fn slot(&self, running: &mut Running, name: &str, priority: Priority, memory: u64) -> Slot {
        let is_common = !is_urgent(priority);
        if is_common {
            running.common_slots += 1;
            running.common_memory += memory;
        }
        Slot {
            pool: self.clone(),
            memory,
            is_common,
            ticket: Some(self.0.context.processors.ticket(name, priority)),
            lease: None,
        }
    }

    /// Runs an attempt that is leased to this node, to its settlement.
    pub fn start(&self, assignment: Assignment, mut slot: Slot) {
        let lease = assignment.lease;
        let Some(ticket) = slot.ticket.take() else {
            tracing::error!(task = %lease.task, "a slot was given twice; the next start finds the attempt lost");
            return;
        };
        let (told, word) = watch::channel(Word::Run);
        let pace = ticket.pace();
        {
            let mut running = self.running();
            if let Some(place) = running.early.iter().position(|early| *early == lease) {
                running.early.remove(place);
                drop(running);
                return;
            }
            running.attempts.insert(lease, Attempt { told, pace });
        }
        slot.lease = Some(lease);
        self.0.tracker.spawn_on(
            attempt::run(self.0.context.clone(), assignment, (slot, ticket), word, self.0.cancel_grace),
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
    /// Whether it is none of those that are kept for what is urgent.
    is_common: bool,
    /// Until the attempt has it.
    ticket: Option<Ticket>,
    lease: Option<Lease>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut running = self.pool.running();
        running.slots -= 1;
        running.memory -= self.memory;
        if self.is_common {
            running.common_slots -= 1;
            running.common_memory -= self.memory;
        }
        if let Some(lease) = self.lease {
            running.attempts.remove(&lease);
        }
        let wanted = running.wanted;
        drop(running);
        if wanted {
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
    pub fn give_back(&mut self, slots: usize, memory: u64) {
        let (slots, memory) = (slots.min(self.room.slots), memory.min(self.room.memory));
        self.room.slots -= slots;
        self.room.memory -= memory;
        let mut running = self.pool.running();
        running.slots -= slots;
        running.memory -= memory;
    }

    /// One slot for a task of this name and priority with so much of the memory. A claim takes no more than was held for it.
    pub fn take(&mut self, name: &str, priority: Priority, memory: u64) -> Option<Slot> {
        self.room.slots = self.room.slots.checked_sub(1)?;
        self.room.memory = self.room.memory.saturating_sub(memory);
        Some(self.pool.slot(&mut self.pool.running(), name, priority, memory))
    }
}

impl Drop for Free {
    fn drop(&mut self) {
        // The claim had its chance at these: waking it again for them would never end.
        self.give_back(self.room.slots, self.room.memory);
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
