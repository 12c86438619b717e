//! How guests share their threads: each gives its own up after a while, at the latest when its time is over.
//!
//! Fuel makes a guest yield while it computes. What it has the host do burns none, so each call of the host ends with a look at how
//! long the last turn is ago, and how many calls there were.

use super::instance::State;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};
use wasmtime::{CallHook, CallHookHandler, StoreContextMut};

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

/// What a guest comes to in the time that is left. Looks at the clock whenever the guest takes a turn: the runtime looks at its timers
/// only after some sixty turns of all guests, and a turn that fills memory is long.
pub(super) async fn within<T>(left: Duration, call: impl Future<Output = T>) -> Option<T> {
    let ended = Instant::now().checked_add(left);
    let mut call = std::pin::pin!(call);
    let on_time = std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Pending if ended.is_some_and(|ended| Instant::now() >= ended) => Poll::Ready(None),
        other => other.map(Some),
    });
    tokio::time::timeout(left, on_time).await.ok().flatten()
}
