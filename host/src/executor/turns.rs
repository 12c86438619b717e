//! How guests share their threads: each gives its own up after a while, at the latest when its time is over, and goes on when it has a
//! processor again: see `processors`.
//!
//! Fuel makes a guest yield while it computes. What it has the host do burns none, so each call of the host ends with a look at how
//! long the last turn is ago, and how many calls there were.

use super::instance::State;
use super::processors::{Pace, Ticket};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use wasmtime::{CallHook, CallHookHandler, StoreContextMut};

/// Later than anything lasts.
const FAR: Duration = Duration::from_secs(86_400 * 365);

/// Holds a guest to its pace at the end of each host call, whoever wrote the call.
pub(super) struct Turns;

impl CallHookHandler<State> for Turns {
    // Written out, because an `async fn` would allocate at each crossing.
    fn handle_call_event<'s, 'c, 'f>(
        &'s self,
        store: StoreContextMut<'c, State>,
        event: CallHook,
    ) -> Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'f>>
    where
        's: 'f,
        'c: 'f,
        Self: 'f,
    {
        let owed = match event {
            CallHook::ReturningFromHost => store.data().outlet.owed(),
            _ => None,
        };
        match owed {
            None => Box::pin(GoOn),
            Some(Duration::ZERO) => Box::pin(async {
                tokio::task::yield_now().await;
                Ok(())
            }),
            Some(wait) => Box::pin(async move {
                tokio::time::sleep(wait).await;
                Ok(())
            }),
        }
    }
}

/// Nothing, so that a box of it is nothing too.
struct GoOn;

impl Future for GoOn {
    type Output = wasmtime::Result<()>;

    fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(()))
    }
}

/// Who wakes a guest wakes the attempt; whether it was woken tells a guest that gave its thread up from one that waits for the host.
struct Signal {
    began: Instant,
    /// When the guest was woken last, in nanoseconds from `began`; 0 where it has not been since its last turn.
    woken: AtomicU64,
    attempt: Mutex<Waker>,
}

impl Signal {
    fn woken_at(&self) -> Option<Instant> {
        let nanos = self.woken.load(Ordering::Acquire);
        (nanos > 0).then(|| self.began + Duration::from_nanos(nanos))
    }

    /// Has the attempt woken that is polled now.
    fn attempt(&self, waker: &Waker) {
        let mut attempt = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        attempt.clone_from(waker);
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let nanos = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        let _ = self.woken.compare_exchange(0, nanos, Ordering::AcqRel, Ordering::Acquire);
        let attempt = self.attempt.lock().unwrap_or_else(PoisonError::into_inner).clone();
        attempt.wake();
    }
}

/// What a guest is doing.
enum Doing {
    /// It could go on, since then.
    Ready(Instant),
    /// It waits for the host.
    Sleeping(Instant),
    /// It could go on and has no processor.
    Aside,
}

/// How long a guest ran or waited for the host. What it waits for a processor does not count: that is the host's affair.
struct Running<'a> {
    limit: Duration,
    spent: Duration,
    ticket: &'a mut Ticket,
    pace: Arc<Pace>,
    signal: Arc<Signal>,
    waker: Waker,
    doing: Doing,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Running<'_> {
    fn poll<T>(&mut self, mut call: Pin<&mut impl Future<Output = T>>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let now = Instant::now();
        self.signal.attempt(cx.waker());
        match self.doing {
            Doing::Ready(since) => self.pace.waited(now.saturating_duration_since(since)),
            Doing::Aside if self.ticket.stands_aside(now, cx.waker()) => return Poll::Pending,
            Doing::Aside => {}
            Doing::Sleeping(since) => match self.signal.woken_at() {
                None => return self.sleep(since, now, cx).map(|()| None),
                Some(at) => {
                    self.spent += at.saturating_duration_since(since);
                    if !self.ticket.wakes(now, cx.waker()) {
                        self.doing = Doing::Aside;
                        return Poll::Pending;
                    }
                    self.pace.waited(now.saturating_duration_since(at));
                }
            },
        }
        self.signal.woken.store(0, Ordering::Release);
        let turn = call.as_mut().poll(&mut Context::from_waker(&self.waker));
        let ended = Instant::now();
        let burnt = ended.saturating_duration_since(now);
        self.spent += burnt;
        if let Poll::Ready(done) = turn {
            return Poll::Ready(Some(done));
        }
        // Here and not by a timer alone: the runtime looks at its timers only after some turns, of which each may be long.
        if self.spent >= self.limit {
            return Poll::Ready(None);
        }
        self.ticket.burnt(burnt);
        if self.signal.woken_at().is_some() {
            let goes_on = self.ticket.goes_on(ended, cx.waker());
            self.doing = if goes_on { Doing::Ready(ended) } else { Doing::Aside };
            return Poll::Pending;
        }
        self.ticket.sleeps(ended);
        self.doing = Doing::Sleeping(ended);
        let deadline = self.deadline(ended);
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset(deadline.into());
        }
        self.sleep(ended, ended, cx).map(|()| None)
    }

    /// When a guest that sleeps since then has had its time.
    fn deadline(&self, since: Instant) -> Instant {
        let left = self.limit.saturating_sub(self.spent);
        since.checked_add(left).unwrap_or(since + FAR)
    }

    /// Ready once a guest that sleeps has had its time.
    fn sleep(&mut self, since: Instant, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline(since);
        if now >= deadline {
            return Poll::Ready(());
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        timer.as_mut().poll(cx)
    }
}

/// What a guest comes to until it has had so much time, turn by turn as its ticket allows; `None` where that was not enough. `spent` of it
/// is gone already.
pub(super) async fn within<T>(limit: Duration, spent: Duration, ticket: &mut Ticket, call: impl Future<Output = T>) -> Option<T> {
    let began = Instant::now();
    let signal = Arc::new(Signal {
        began,
        woken: AtomicU64::new(0),
        attempt: Mutex::new(Waker::noop().clone()),
    });
    let mut running = Running {
        limit,
        spent,
        pace: ticket.pace(),
        ticket,
        waker: Waker::from(signal.clone()),
        signal,
        doing: Doing::Ready(began),
        timer: None,
    };
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|cx| running.poll(call.as_mut(), cx)).await
}
