//! Which of the triggers that listen to an event it fires: their filters, read once and asked off the async threads.

use super::event::{EventError, Listener, Listeners, is_too_deep};
use crate::clock::Clock;
use crate::model::Time;
use crate::model::event::NewEvent;
use crate::model::filter::{Facts, Filter, MAX_DATA, Verdict};
use crate::store::StoreError;
use chrono::TimeDelta;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Deliveries whose filters are evaluated at once; more wait. The processors are for the attempts.
const AT_ONCE: usize = 2;
/// How long the filters of one delivery may take together.
const PATIENCE: TimeDelta = TimeDelta::seconds(5);
/// Filters that are kept read, and characters of them: what is read takes some hundred times the memory.
const MAX_FILTERS: usize = 16_384;
const MAX_FILTER_TEXT: usize = 1 << 20;

/// An event and what its filters said.
pub(super) struct Matched {
    pub(super) event: NewEvent,
    pub(super) listeners: Arc<Vec<Listener>>,
    /// Of the listeners, those that it fires.
    pub(super) firing: Vec<usize>,
    /// Those that let it pass by, and why where that was no decision.
    pub(super) skipping: Vec<(usize, Option<String>)>,
}

/// The filters of triggers, read once. Cheap to clone.
#[derive(Clone)]
pub struct Filters {
    read: Arc<Mutex<Read>>,
    turns: Arc<Semaphore>,
}

#[derive(Default)]
struct Read {
    filters: HashMap<String, Arc<Result<Filter, String>>>,
    text: usize,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            read: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Filters {
    /// Asks the filters of all listeners, off the async threads.
    pub(super) async fn match_all(
        &self,
        events: Vec<NewEvent>,
        listeners: Listeners,
        now: Time,
        clock: Clock,
    ) -> Result<Vec<Matched>, EventError> {
        let filtered = listeners
            .values()
            .flat_map(|of_type| of_type.iter())
            .any(|listener| listener.terms.filter.is_some());
        let filters = self.clone();
        let match_all = move || {
            let until = clock.now() + PATIENCE;
            let is_late = || clock.now() > until;
            let matching = events.into_iter().map(|event| filters.match_one(event, &listeners, now, &is_late));
            matching.collect::<Result<Vec<_>, _>>()
        };
        if !filtered {
            return match_all();
        }
        let closed = |cause: String| EventError::Store(StoreError::Unavailable(format!("filters could not be evaluated: {cause}")));
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|error| closed(error.to_string()))?;
        let match_in_turn = move || {
            let _turn = turn; // kept to the end, even if whoever asked has gone
            match_all()
        };
        let matched = tokio::task::spawn_blocking(match_in_turn).await;
        matched.map_err(|error| closed(error.to_string()))?
    }

    fn match_one(&self, event: NewEvent, listeners: &Listeners, now: Time, is_late: &dyn Fn() -> bool) -> Result<Matched, EventError> {
        let listeners = if is_too_deep(&event) {
            None
        } else {
            listeners.get(&event.event_type)
        };
        let listeners = listeners.cloned().unwrap_or_default();
        let (mut firing, mut skipping) = (Vec::new(), Vec::new());
        let mut facts = None;
        for (index, listener) in listeners.iter().enumerate() {
            let Some(filter) = &listener.terms.filter else {
                firing.push(index);
                continue;
            };
            if facts.is_none() {
                facts = Some(facts_of(&event, now)?);
            }
            if is_late() {
                return Err(EventError::TooSlow(format!(
                    "the filters of the {} triggers that listen to {:?} take more than {} s; make them simpler, or their events smaller",
                    listeners.len(),
                    event.event_type,
                    PATIENCE.num_seconds()
                )));
            }
            match facts.as_ref().map(|facts| self.ask(filter, facts)) {
                Some(Verdict::Match) => firing.push(index),
                Some(Verdict::Failed(error)) => skipping.push((index, Some(error))),
                Some(Verdict::NoMatch) | None => skipping.push((index, None)),
            }
        }
        Ok(Matched {
            event,
            listeners,
            firing,
            skipping,
        })
    }

    fn ask(&self, filter: &str, facts: &Facts) -> Verdict {
        match &*self.read(filter) {
            Ok(filter) => filter.matches(facts),
            // Kept by a version that understood it.
            Err(sentence) => Verdict::Failed(sentence.clone()),
        }
    }

    fn read(&self, text: &str) -> Arc<Result<Filter, String>> {
        if let Some(filter) = self.locked().filters.get(text) {
            return filter.clone();
        }
        let filter = Arc::new(Filter::restore(text));
        let mut read = self.locked();
        if read.filters.len() >= MAX_FILTERS || read.text + text.len() > MAX_FILTER_TEXT {
            *read = Read::default();
        }
        read.text += text.len();
        read.filters.insert(text.to_owned(), filter.clone());
        filter
    }

    fn locked(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn facts_of(event: &NewEvent, now: Time) -> Result<Facts, EventError> {
    let source = event.source.as_ref().map_or("", |source| source.uri.as_str());
    Facts::new(&event.event_type, source, event.time.unwrap_or(now), &event.data).ok_or_else(|| {
        EventError::TooLarge(format!(
            "the event's data has {} bytes, and filters, which triggers of {:?} have, look at {MAX_DATA}: send less, for example where the data can be found",
            event.data.len(),
            event.event_type
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::TriggerId;
    use crate::model::outbox::MAX_DEPTH;
    use crate::model::trigger::Terms;
    use crate::scheduler::event::check_size;

    fn event(depth: u32, data: &str) -> NewEvent {
        NewEvent {
            event_type: "e".into(),
            source: None,
            time: None,
            data: data.into(),
            depth,
        }
    }

    fn listeners(filters: &[Option<&str>]) -> Listeners {
        let listener = |filter: &Option<&str>| Listener {
            id: TriggerId::new(Time::UNIX_EPOCH),
            name: "t".into(),
            task_name: "echo".into(),
            terms: Terms {
                payload: "{}".into(),
                priority: None,
                tags: vec![],
                filter: filter.map(str::to_owned),
                debounce: None,
            },
        };
        Listeners::from([("e".to_owned(), Arc::new(filters.iter().map(listener).collect()))])
    }

    async fn fired(filters: &Filters, events: Vec<NewEvent>, listeners: Listeners) -> Vec<Vec<usize>> {
        let matched = filters.match_all(events, listeners, Time::UNIX_EPOCH, Clock::System).await;
        matched.expect("matched").into_iter().map(|matched| matched.firing).collect()
    }

    #[tokio::test]
    async fn a_loop_of_events_ends() {
        let filters = Filters::default();
        for listeners in [listeners(&[None, None]), listeners(&[None, Some("true")])] {
            let events = vec![
                event(0, "{}"),
                event(MAX_DEPTH, "{}"),
                event(MAX_DEPTH + 1, "{}"),
                event(u32::MAX, "{}"),
            ];
            assert_eq!(fired(&filters, events, listeners).await, [vec![0, 1], vec![0, 1], vec![], vec![]]);
        }
    }

    #[tokio::test]
    async fn many_filters_are_read_once_and_not_kept_for_ever() {
        let filters = Filters::default();
        for n in 0..40 {
            let texts: Vec<String> = (0..1_000).map(|m| format!("data.n == {}", n * 1_000 + m)).collect();
            let of_type: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
            let data = format!("{{\"n\": {}}}", n * 1_000 + 7);
            assert_eq!(fired(&filters, vec![event(0, &data)], listeners(&of_type)).await, [[7]]);
        }
        assert!((1..=MAX_FILTERS).contains(&filters.locked().filters.len()));
        let kept = filters.read("data.n == 39999");
        assert!(Arc::ptr_eq(&kept, &filters.read("data.n == 39999")));
        // What a later version had accepted is no match here, and no panic.
        assert_eq!(
            fired(&filters, vec![event(0, "{}")], listeners(&[Some("new_syntax @ 1"), None])).await,
            [[1]]
        );
    }

    #[tokio::test]
    async fn too_much_at_once_is_refused() {
        let filters = Filters::default();
        let many = vec![None; 1_000];
        let events = |data: &str, count: usize| vec![event(0, data); count];
        for (events, word) in [
            (events("{}", 101), "101000 tasks"),
            (events(&format!("{{\"a\":\"{}\"}}", "x".repeat(1_000)), 70), "bytes of payloads"),
        ] {
            let matched = filters
                .match_all(events, listeners(&many), Time::UNIX_EPOCH, Clock::System)
                .await
                .expect("matched");
            let Err(EventError::TooLarge(sentence)) = check_size(&matched) else {
                panic!("{word}")
            };
            assert!(sentence.contains(word), "{sentence}");
        }
    }
}
