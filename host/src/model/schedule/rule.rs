//! When a schedule fires: from a cron expression in its zone, gated or moved by a calendar, or from a calendar's sessions.

use super::timing::{Edge, OnClosed, SessionRule};
use super::{COUNTED, Skip, SkipReason};
use crate::model::Time;
use crate::model::calendar::{Calendar, Session};
use crate::model::cron::Cron;
use crate::model::request::{Refusal, RefusalKind};
use crate::model::zone::{Dst, Gap, Zone};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use std::sync::Arc;

/// Days, and sessions, that one question walks over: decades of them.
const MOST_DAYS: usize = 10_000;
/// Rows that are recorded of what was dropped since the last look.
const MOST_DROPPED: usize = 100;
const SECOND: TimeDelta = TimeDelta::seconds(1);

/// A checked rule, ready to be asked.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) source: Source,
    pub(super) zone: Zone,
    pub(super) dst: Dst,
    pub(super) start: Option<Time>,
    pub(super) end: Option<Time>,
}

/// Why a rule never fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {
    /// Its end comes before its next fire.
    End,
    /// Its start comes after its last.
    Start,
    /// Its calendar has no session left.
    Calendar,
    /// Its expression has no time, or none on a day with a session.
    Expression,
    /// Its sessions have no such time.
    Session,
}

impl Never {
    /// For whoever asked for it.
    pub fn refusal(self) -> Refusal {
        let (pointer, sentence) = match self {
            Self::End => (
                "/end",
                "it never fires: there is no fire before this; give a later end, or leave it out",
            ),
            Self::Start => (
                "/start",
                "it never fires: there is no fire after this; give an earlier start, or leave it out",
            ),
            Self::Calendar => (
                "/calendar",
                "it never fires: the calendar has no session left; give another, or put a newer one",
            ),
            Self::Expression => ("/cron_expression", "never fires between start and end"),
            Self::Session => ("/session", "never fires between start and end"),
        };
        Refusal::new(RefusalKind::Value, pointer, sentence)
    }
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Cron { cron: Cron, gate: Option<Gate> },
    Session { rule: SessionRule, calendar: Arc<Calendar> },
}

/// A calendar in front of an expression.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) calendar: Arc<Calendar>,
    pub(super) on_closed: OnClosed,
}

impl Rule {
    /// The first fire strictly after `after` that start and end allow.
    pub fn next_after(&self, after: Time) -> Option<Time> {
        let after = match self.start {
            Some(start) if start > after => start - TimeDelta::nanoseconds(1),
            _ => after,
        };
        let fire = match &self.source {
            Source::Cron { cron, gate: None } => self.zone.next_after(after, self.dst_for(cron), |local| cron.next_local(local)),
            Source::Cron { cron, gate: Some(gate) } => self
                .zone
                .next_after(after, self.dst_for(cron), |local| gate.next_local(cron, local)),
            Source::Session { rule, calendar } => next_session(*rule, calendar, after),
        };
        fire.filter(|fire| self.end.is_none_or(|end| *fire <= end))
    }

    /// Why it has no fire after `after`, where it has none.
    pub fn never(&self, after: Time) -> Never {
        let fires = |rule: Self| rule.next_after(after).is_some();
        let endless = Self { end: None, ..self.clone() };
        if self.end.is_some() && fires(endless.clone()) {
            return Never::End;
        }
        if self.start.is_some() && fires(Self { start: None, ..endless }) {
            return Never::Start;
        }
        let first = self.zone.local(self.start.map_or(after, |start| start.max(after))).date();
        let is_over = |calendar: &Calendar| !calendar.is_session(first) && calendar.next_session(first).is_none();
        match &self.source {
            Source::Cron { gate: Some(gate), .. } if is_over(&gate.calendar) => Never::Calendar,
            Source::Session { calendar, .. } if is_over(calendar) => Never::Calendar,
            Source::Cron { .. } => Never::Expression,
            Source::Session { .. } => Never::Session,
        }
    }

    /// What to tell where the calendar left it no fire: `next`, after `now`, is the next one. That its own end came is as it was asked for.
    pub fn ended(&self, name: &str, next: Option<Time>, now: Time) -> Option<String> {
        let calendar = match &self.source {
            Source::Cron { gate, .. } => &gate.as_ref()?.calendar,
            Source::Session { calendar, .. } => calendar,
        };
        if next.is_some() || self.never(now) == Never::End {
            return None;
        }
        Some(format!(
            "schedule {name:?} does not fire any more: the calendar {:?} has no session left for it; put a newer one, or give the schedule another",
            calendar.name()
        ))
    }

    /// Whether it has a fire at or before `until`, as far as it looks back: a century, or some years of a calendar's closed days.
    pub fn fired_until(&self, until: Time) -> bool {
        let back = [1, 40, 400, 4_000, 40_000].into_iter();
        let from = back.filter_map(|days| until.checked_sub_signed(TimeDelta::days(days)));
        from.map(|from| self.next_after(from))
            .any(|fire| fire.is_some_and(|fire| fire <= until))
    }

    fn dst_for(&self, cron: &Cron) -> Dst {
        if cron.starred_hour() { Dst::AS_IT_PASSES } else { self.dst }
    }

    /// The last fire in `[from, now]`, where `from` is one: by halves, so that a second-by-second schedule that slept for a year costs
    /// some dozens of looks instead of thirty million.
    pub(super) fn last_until(&self, from: Time, now: Time) -> Time {
        let (mut last, mut end) = (from, now);
        // No fire is after `end`, and fires are whole seconds.
        while end - last >= SECOND {
            let middle = last + (end - last) / 2;
            match self.next_after(middle).filter(|fire| *fire <= now) {
                Some(fire) => last = fire,
                None => end = middle,
            }
        }
        last
    }

    /// Fires in `[from, until]` that are not made, as one row; `from` is one.
    pub(super) fn skipped(&self, reason: SkipReason, from: Time, until: Time) -> Skip {
        let mut count = 1;
        let mut at = from;
        while count < COUNTED {
            match self.next_after(at).filter(|fire| *fire <= until) {
                Some(fire) => at = fire,
                None => {
                    return Skip {
                        reason,
                        at: from,
                        until: at,
                        count,
                    };
                }
            }
            count += 1;
        }
        Skip {
            reason,
            at: from,
            until: self.last_until(at, until),
            count,
        }
    }

    /// What a pause from the fire `cursor` until `now` left out.
    pub fn paused(&self, cursor: Option<Time>, now: Time) -> Option<Skip> {
        let from = cursor.filter(|cursor| *cursor <= now)?;
        Some(self.skipped(SkipReason::Paused, from, now))
    }

    /// Times in `(after, until]` that match and do not fire: for the calendar, or for a gap of the clocks.
    pub fn dropped(&self, after: Time, until: Time) -> Vec<Skip> {
        let after = after.max(self.start.unwrap_or(after));
        let until = until.min(self.end.unwrap_or(until));
        let Source::Cron { cron, gate } = &self.source else {
            return Vec::new();
        };
        let mut dropped = Vec::new();
        if after >= until {
            return dropped;
        }
        if let Some(gate) = gate.as_ref().filter(|gate| gate.on_closed == OnClosed::Skip) {
            self.closed(cron, gate, (after, until), &mut dropped);
        }
        if self.dst.gap == Gap::Skip && !cron.starred_hour() {
            self.left_out(cron, gate.as_ref(), (after, until), &mut dropped);
        }
        dropped
    }

    fn closed(&self, cron: &Cron, gate: &Gate, (after, until): (Time, Time), dropped: &mut Vec<Skip>) {
        let last = self.zone.local(until);
        let mut at = self.zone.local(after);
        let mut open_between = true;
        for _ in 0..MOST_DAYS {
            let Some(local) = cron.next_local(at).filter(|local| *local <= last) else {
                return;
            };
            at = end_of(local.date());
            if gate.calendar.is_session(local.date()) {
                open_between = true;
                continue;
            }
            let end = local.date().and_time(cron.last_of_day()).min(last);
            let row = Skip {
                reason: SkipReason::Closed,
                at: self.zone.instant(local),
                until: self.zone.instant(end),
                count: count_of_day(cron, local, last),
            };
            match dropped.last_mut().filter(|_| !open_between) {
                Some(before) => {
                    before.until = row.until;
                    before.count = (before.count + row.count).min(COUNTED);
                }
                None => dropped.push(row),
            }
            if dropped.len() == MOST_DROPPED {
                return;
            }
            open_between = false;
        }
    }

    fn left_out(&self, cron: &Cron, gate: Option<&Gate>, (after, until): (Time, Time), dropped: &mut Vec<Skip>) {
        let next = |local| match gate {
            Some(gate) => gate.next_local(cron, local),
            None => cron.next_local(local),
        };
        let mut after = after;
        while let Some(gap) = self.zone.left_out(after, until, next).filter(|_| dropped.len() < MOST_DROPPED) {
            let mut count = 0;
            let mut at = gap.from - SECOND;
            while let Some(local) = next(at).filter(|local| *local < gap.until && count < COUNTED) {
                at = local;
                count += 1;
            }
            dropped.push(Skip {
                reason: SkipReason::DstGap,
                at: gap.at,
                until: gap.at,
                count,
            });
            after = gap.at;
        }
    }

    /// Whether nobody has confirmed the calendar of the day that a fire is on; its name then.
    pub fn unconfirmed(&self, fire: Time) -> Option<&str> {
        let (calendar, date) = match &self.source {
            Source::Cron { gate, .. } => (&gate.as_ref()?.calendar, self.zone.local(fire).date()),
            Source::Session { rule, calendar } => {
                let session = fire - TimeDelta::seconds(rule.offset.into());
                (calendar, session.with_timezone(&calendar.zone()).date_naive())
            }
        };
        (!calendar.is_official(date)).then(|| calendar.name())
    }
}

/// How many times of a day match from `local` on, and not after `last`.
fn count_of_day(cron: &Cron, local: NaiveDateTime, last: NaiveDateTime) -> u64 {
    let day = local.date();
    let from_its_start = cron.next_local(day.and_time(NaiveTime::MIN) - SECOND) == Some(local);
    if from_its_start && day.and_time(cron.last_of_day()) <= last {
        return cron.times_a_day().min(COUNTED);
    }
    let mut count = 0;
    let mut at = Some(local);
    while let Some(local) = at.filter(|local| local.date() == day && *local <= last && count < COUNTED) {
        count += 1;
        at = cron.next_local(local);
    }
    count
}

fn end_of(day: NaiveDate) -> NaiveDateTime {
    day.succ_opt().unwrap_or(day).and_time(NaiveTime::MIN) - SECOND
}

fn start_of(day: NaiveDate) -> NaiveDateTime {
    day.and_time(NaiveTime::MIN) - SECOND
}

impl Gate {
    /// The first local time strictly after `after` at which the expression fires on a day with a session.
    fn next_local(&self, cron: &Cron, after: NaiveDateTime) -> Option<NaiveDateTime> {
        match self.on_closed {
            OnClosed::Skip => self.next_open(cron, after),
            OnClosed::Next | OnClosed::Previous => self.next_moved(cron, after),
        }
    }

    fn next_open(&self, cron: &Cron, mut after: NaiveDateTime) -> Option<NaiveDateTime> {
        for _ in 0..MOST_DAYS {
            let local = cron.next_local(after)?;
            if self.calendar.is_session(local.date()) {
                return Some(local);
            }
            after = end_of(local.date());
        }
        None
    }

    /// A day with a session fires if it matches, or one of the closed days that are moved to it: at the same times, since an expression
    /// has the same times on each day that matches.
    fn next_moved(&self, cron: &Cron, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let mut day = self.on_or_after(after.date())?;
        for _ in 0..MOST_DAYS {
            let (from, to) = self.moved_to(day);
            let local = cron.next_local(start_of(from))?;
            if local.date() > to {
                let next = self.landing(local.date())?;
                day = if next > day { next } else { self.later(day)? };
                continue;
            }
            let time = if day == after.date() {
                let from = local.date().and_time(after.time());
                cron.next_local(from)
                    .filter(|next| next.date() == local.date())
                    .map(|next| next.time())
            } else {
                Some(local.time())
            };
            match time {
                Some(time) => return Some(day.and_time(time)),
                None => day = self.later(day)?,
            }
        }
        None
    }

    /// The days whose fires fall on this one, which has a session: itself, and the closed ones beside it.
    fn moved_to(&self, day: NaiveDate) -> (NaiveDate, NaiveDate) {
        match self.on_closed {
            OnClosed::Next => {
                let before = self.calendar.previous_session(day).and_then(|session| session.date.succ_opt());
                (before.unwrap_or(day), day)
            }
            _ => {
                let after = self.calendar.next_session(day).and_then(|session| session.date.pred_opt());
                (day, after.unwrap_or(day))
            }
        }
    }

    /// The day that a fire of this one falls on.
    fn landing(&self, day: NaiveDate) -> Option<NaiveDate> {
        match self.on_closed {
            OnClosed::Previous if !self.calendar.is_session(day) => self.calendar.previous_session(day).map(|session| session.date),
            _ => self.on_or_after(day),
        }
    }

    fn on_or_after(&self, day: NaiveDate) -> Option<NaiveDate> {
        if self.calendar.is_session(day) {
            Some(day)
        } else {
            self.later(day)
        }
    }

    fn later(&self, day: NaiveDate) -> Option<NaiveDate> {
        self.calendar.next_session(day).map(|session| session.date)
    }
}

fn next_session(rule: SessionRule, calendar: &Calendar, after: Time) -> Option<Time> {
    let offset = TimeDelta::seconds(rule.offset.into());
    let fire = |session: Session| {
        let edge = match rule.edge {
            Edge::Open => session.open,
            Edge::Close => session.close,
        };
        edge + offset
    };
    // No session is longer than two days, whatever day it is filed under.
    let first = after.checked_sub_signed(offset + TimeDelta::days(3))?;
    let first = first.with_timezone(&calendar.zone()).date_naive();
    let mut session = calendar.session(first).or_else(|| calendar.next_session(first))?;
    for _ in 0..MOST_DAYS {
        let at = fire(session);
        if at > after {
            return Some(at);
        }
        session = calendar.next_session(session.date)?;
    }
    None
}
