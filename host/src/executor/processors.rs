//! Processors are given, not fought for: as many attempts burn at once as there are of them, and the others stand aside.
//!
//! - Whoever starts burns a little ([`CREDIT`]) without asking: most attempts are over by then, and they start at once beside any number
//!   that burn. An attempt that sleeps gets some of it back, at a rate at which all slots together come to a quarter of the processors, so
//!   that neither a poller waits behind a backtest nor one that sleeps between bursts gets more than its share.
//! - Beyond it an attempt burns with one of as many turns as there are processors: they go by priority, then by start. Who is more urgent
//!   takes the turn of who is less so at once. Every 16th turn of [`SLICE`] goes to whoever has waited longest, so that nobody starves.
//! - A task name whose attempts last asked for a turn is expected to do so again: so many of its tasks are begun as find a processor, and
//!   the others wait in the store, where they hold no memory. See [`Ticket::new`] and `model::room`.
//!
//! What an attempt waits here is told by its [`Pace`], and its timeout does not run meanwhile.

use crate::model::priority::{Pick, Priority, pick};
use crate::model::room::{Load, index, most_burning};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What an attempt burns before it has to ask.
const CREDIT: Duration = Duration::from_millis(20);
/// Of the processors, what goes to attempts that sleep in between and burn within their credit, all slots together: a quarter.
const UNASKED: f64 = 0.25;
/// How long who has a turn keeps it while others of no less urgency wait.
const SLICE: Duration = Duration::from_millis(100);
/// After so many attempts in a row that did not ask for a turn, the next of a name is expected not to.
const SHORT_IN_A_ROW: u32 = 32;
/// Names of which is known what their attempts do, at most; beyond that all is forgotten and learnt anew.
const MOST_NAMES: usize = 10_000;

/// In which order turns are given: by priority, then by start.
type Rank = (u8, u64);

/// The processors of this node. Cheap to clone.
#[derive(Clone)]
pub struct Processors(Arc<Shared>);

struct Shared {
    count: usize,
    /// Seconds of credit that an attempt gets back in a second.
    refill: f64,
    began: Instant,
    /// Told when something may begin that waited for a processor.
    wake: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tickets: u64,
    /// Attempts that have a turn.
    turns: usize,
    waiting: BTreeMap<Rank, Waiting>,
    granted: u64,
    /// Attempts that run and of whose names nothing is known yet.
    new: usize,
    /// Attempts that want a processor, or are expected to, by priority.
    wants: [usize; 9],
    /// The most urgent due task that waits for a processor.
    wanted: Option<Priority>,
    /// How many attempts of a name in a row did not ask for a turn.
    short: HashMap<String, u32>,
}

struct Waiting {
    since: Instant,
    pace: Arc<Pace>,
    waker: Waker,
}

impl std::fmt::Debug for Processors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Processors")
    }
}

impl Processors {
    /// So many processors for so many slots. `wake` is told when a task may begin that was said to wait for one: see
    /// [`Processors::want`].
    pub fn new(count: usize, slots: usize, wake: Arc<Notify>) -> Self {
        let count = count.max(1);
        #[expect(clippy::cast_precision_loss, reason = "neither is large")]
        let refill = UNASKED * count as f64 / slots.max(1) as f64;
        Self(Arc::new(Shared {
            count,
            refill,
            began: Instant::now(),
            wake,
            state: Mutex::default(),
        }))
    }

    /// What attempts of a name are known to do.
    pub fn load(&self, name: &str) -> Load {
        load(&self.state(), name)
    }

    /// How many attempts may begin: of names that never ran, and of those that burn, of priority 1, of priorities 1 and 2 together, and so
    /// on.
    pub fn room(&self) -> (usize, [usize; 9]) {
        let state = self.state();
        (room_for_new(&state, self.0.count), room(&state, self.0.count))
    }

    /// Says which is the most urgent due task that waits for a processor: only then is it worth a wake that one may begin.
    pub fn want(&self, wanted: Option<Priority>) {
        let mut state = self.state();
        state.wanted = wanted;
        self.wake_if_wanted(&mut state);
    }

    /// How many there are, how many attempts burn, and how many that were begun stand aside.
    pub fn in_use(&self) -> (usize, usize, usize) {
        let state = self.state();
        (self.0.count, state.turns, state.waiting.len())
    }

    /// A ticket for an attempt that is about to begin.
    pub fn ticket(&self, name: &str, priority: Priority) -> Ticket {
        let mut state = self.state();
        state.tickets += 1;
        let load = load(&state, name);
        let (burns, is_new) = (load == Load::Burns, load == Load::New);
        if burns {
            state.wants[index(priority)] += 1;
        }
        state.new += usize::from(is_new);
        Ticket {
            processors: self.clone(),
            name: name.to_owned(),
            priority,
            rank: (priority.get(), state.tickets),
            pace: Arc::default(),
            standing: Standing::Free,
            burns,
            wants: burns,
            is_new,
            told: false,
            credit: CREDIT,
            credited: Instant::now(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives free turns to those that wait.
    fn give(&self, state: &mut State, now: Instant) {
        while state.turns < self.0.count {
            let Some(rank) = next(state) else { return };
            let Some(waiting) = state.waiting.remove(&rank) else { return };
            state.turns += 1;
            state.granted += 1;
            waiting.pace.waited(now.saturating_duration_since(waiting.since));
            waiting.pace.aside.store(0, Ordering::Release);
            waiting.waker.wake();
        }
    }

    fn wake_if_wanted(&self, state: &mut State) {
        if state.wanted.is_some_and(|wanted| room(state, self.0.count)[index(wanted)] > 0) {
            state.wanted = None;
            self.0.wake.notify_one();
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.0.began)).max(1)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn load(state: &State, name: &str) -> Load {
    match state.short.get(name) {
        None => Load::New,
        Some(short) if *short < SHORT_IN_A_ROW => Load::Burns,
        Some(_) => Load::Short,
    }
}

/// Attempts of names that never ran start beside all that burn, but few at a time: they may burn too.
fn room_for_new(state: &State, count: usize) -> usize {
    most_burning(count).saturating_sub(state.new)
}

fn room(state: &State, count: usize) -> [usize; 9] {
    let (most, mut wanted) = (most_burning(count), 0);
    state.wants.map(|more| {
        wanted += more;
        most.saturating_sub(wanted)
    })
}

/// Who gets the next turn.
fn next(state: &State) -> Option<Rank> {
    match pick(state.granted) {
        Pick::MostUrgent => state.waiting.keys().next().copied(),
        Pick::LongestDue => state.waiting.iter().min_by_key(|(_, waiting)| waiting.since).map(|(rank, _)| *rank),
    }
}

/// How an attempt gets on with its processors, for whoever asks from outside.
#[derive(Debug, Default)]
pub struct Pace {
    /// Microseconds in which it could have gone on and had no processor.
    waited: AtomicU64,
    /// Since when it stands aside, in microseconds from the beginning of the processors; 0 where it does not.
    aside: AtomicU64,
}

impl Pace {
    /// How long the host withheld a processor from it so far, this wait left out.
    pub fn so_far(&self) -> Duration {
        Duration::from_micros(self.waited.load(Ordering::Acquire))
    }

    pub(super) fn waited(&self, more: Duration) {
        self.waited.fetch_add(micros(more), Ordering::AcqRel);
    }

    /// How long it has been standing aside now, if it does, by the processors that it waits for.
    pub fn aside(&self, processors: &Processors) -> Option<Duration> {
        let since = self.aside.load(Ordering::Acquire);
        (since > 0).then(|| processors.0.began.elapsed().saturating_sub(Duration::from_micros(since)))
    }
}

/// Whether an attempt may burn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Within its credit.
    Free,
    /// With a turn, until then at least.
    Turn(Instant),
    /// It stands aside.
    Aside,
}

/// An attempt's claim on the processors, from when it is begun until it ends.
#[derive(Debug)]
pub struct Ticket {
    processors: Processors,
    name: String,
    priority: Priority,
    rank: Rank,
    pace: Arc<Pace>,
    standing: Standing,
    /// Whether it is expected to burn, or did.
    burns: bool,
    /// Whether it is counted among those that want a processor.
    wants: bool,
    /// Whether its name never ran before, and nothing was told of it yet.
    is_new: bool,
    /// Whether it has told what attempts of its name do.
    told: bool,
    credit: Duration,
    credited: Instant,
}

impl Ticket {
    /// How it gets on.
    pub fn pace(&self) -> Arc<Pace> {
        self.pace.clone()
    }

    /// Counts what it burnt just now.
    pub(super) fn burnt(&mut self, time: Duration) {
        if self.standing != Standing::Free {
            return;
        }
        match self.credit.checked_sub(time) {
            Some(left) => self.credit = left,
            None => {
                self.credit = Duration::ZERO;
                let processors = self.processors.clone();
                self.tell_long(&mut processors.state());
            }
        }
    }

    /// It could go on at once. Returns whether it may; otherwise it stands aside, and is woken when it has a turn.
    pub(super) fn goes_on(&mut self, now: Instant, waker: &Waker) -> bool {
        if self.standing == Standing::Free && !self.credit.is_zero() {
            return true;
        }
        let processors = self.processors.clone();
        let mut state = processors.state();
        if let Standing::Turn(until) = self.standing {
            let first = state.waiting.first_key_value().map(|(rank, _)| *rank);
            if first.is_none_or(|first| first > self.rank && now < until) {
                return true;
            }
            state.turns -= 1;
        }
        self.want(&mut state);
        self.ask(&mut state, now, waker)
    }

    /// It waits for the host: others may have its turn.
    pub(super) fn sleeps(&mut self, now: Instant) {
        // Of a name that is not known yet, one that sleeps says as much as one that ends.
        if self.is_new {
            self.tell_short();
        }
        if self.burns {
            let processors = self.processors.clone();
            let mut state = processors.state();
            self.leave(&mut state, now);
            self.want_no_more(&mut state);
        }
    }

    /// It could go on. Returns whether it may; otherwise it stands aside, and is woken when it has a turn.
    pub(super) fn wakes(&mut self, now: Instant, waker: &Waker) -> bool {
        let earned = now.saturating_duration_since(self.credited).as_secs_f64() * self.processors.0.refill;
        self.credited = now;
        self.credit = (self.credit + Duration::from_secs_f64(earned)).min(CREDIT);
        let processors = self.processors.clone();
        if self.burns {
            self.want(&mut processors.state());
        }
        if !self.credit.is_zero() {
            return true;
        }
        self.ask(&mut processors.state(), now, waker)
    }

    /// Whether it stands aside still.
    pub(super) fn stands_aside(&mut self, now: Instant, waker: &Waker) -> bool {
        if self.standing != Standing::Aside {
            return false;
        }
        let processors = self.processors.clone();
        let mut state = processors.state();
        match state.waiting.get_mut(&self.rank) {
            Some(waiting) => {
                waiting.waker.clone_from(waker);
                true
            }
            None => {
                self.standing = Standing::Turn(now + SLICE);
                false
            }
        }
    }

    /// Asks for a turn.
    fn ask(&mut self, state: &mut State, now: Instant, waker: &Waker) -> bool {
        self.standing = Standing::Aside;
        self.pace.aside.store(self.processors.micros(now), Ordering::Release);
        let waiting = Waiting {
            since: now,
            pace: self.pace.clone(),
            waker: waker.clone(),
        };
        state.waiting.insert(self.rank, waiting);
        self.processors.give(state, now);
        let has_turn = !state.waiting.contains_key(&self.rank);
        if has_turn {
            self.standing = Standing::Turn(now + SLICE);
        }
        has_turn
    }

    /// Gives up its turn, or its place among those that wait for one.
    fn leave(&mut self, state: &mut State, now: Instant) {
        match std::mem::replace(&mut self.standing, Standing::Free) {
            Standing::Free => {}
            Standing::Aside if state.waiting.remove(&self.rank).is_some() => self.pace.aside.store(0, Ordering::Release),
            Standing::Aside | Standing::Turn(_) => {
                state.turns -= 1;
                self.processors.give(state, now);
            }
        }
    }

    fn want(&mut self, state: &mut State) {
        if !std::mem::replace(&mut self.wants, true) {
            state.wants[index(self.priority)] += 1;
        }
    }

    fn want_no_more(&mut self, state: &mut State) {
        if std::mem::take(&mut self.wants) {
            state.wants[index(self.priority)] -= 1;
            self.processors.wake_if_wanted(state);
        }
    }

    /// Says once that it did without a turn.
    fn tell_short(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let processors = self.processors.clone();
        let mut state = processors.state();
        if state.short.len() >= MOST_NAMES {
            state.short.clear();
        }
        match state.short.get_mut(&self.name) {
            Some(short) => *short = short.saturating_add(1),
            None => drop(state.short.insert(self.name.clone(), SHORT_IN_A_ROW)),
        }
        self.is_known(&mut state);
    }

    /// More of its name may start, or others whose names never ran.
    fn is_known(&mut self, state: &mut State) {
        if std::mem::take(&mut self.is_new) {
            state.new -= 1;
            self.processors.0.wake.notify_one();
        }
    }

    /// Says that it asks for turns.
    fn tell_long(&mut self, state: &mut State) {
        if !std::mem::replace(&mut self.burns, true) || !self.told {
            state.short.insert(self.name.clone(), 0);
        }
        self.told = true;
        self.is_known(state);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tell_short();
        let processors = self.processors.clone();
        let mut state = processors.state();
        self.leave(&mut state, Instant::now());
        self.want_no_more(&mut state);
    }
}
