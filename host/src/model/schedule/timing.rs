//! When a schedule fires, as its members say it: read from a request, checked as a whole, made into a [`Rule`].

use super::rule::{Gate, Rule, Source};
use crate::model::Time;
use crate::model::calendar::{Calendar, shipped};
use crate::model::cron::Cron;
use crate::model::request::{Refusal, RefusalKind};
use crate::model::zone::{Dst, Fold, Gap, Zone};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What becomes of a fire on a day without a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnClosed {
    /// It does not fire.
    #[default]
    Skip,
    /// It fires on the next day with a session, at the same local time.
    Next,
    /// It fires on the last day with a session before, at the same local time.
    Previous,
}

/// Which end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// When it opens.
    Open,
    /// When it closes.
    Close,
}

/// A fire for each session of a calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRule {
    /// Counted from this.
    pub edge: Edge,
    /// So many seconds after it, or before it where negative; at most a week.
    #[serde(default)]
    #[schema(minimum = -604_800, maximum = 604_800)]
    pub offset: i32,
}

/// The furthest that a fire may be from its session, in seconds.
const MAX_OFFSET: i32 = 7 * 24 * 3600;

/// The members of a schedule that say when it fires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Either this or `session`.
    pub cron_expression: Option<String>,
    /// Either this or `cron_expression`.
    pub session: Option<SessionRule>,
    /// Of the expression; UTC where left out.
    pub timezone: Option<Zone>,
    /// By name.
    pub calendar: Option<String>,
    /// For an expression with a calendar.
    pub on_closed: Option<OnClosed>,
    /// For fixed hours.
    pub dst_gap: Option<Gap>,
    /// For fixed hours.
    pub dst_overlap: Option<Fold>,
    /// No fire before this.
    pub start: Option<Time>,
    /// No fire after this.
    pub end: Option<Time>,
}

fn refuse<T>(pointer: &str, sentence: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(RefusalKind::Value, pointer, sentence))
}

impl Timing {
    /// Of a schedule to create, or to look ahead with.
    pub fn of(request: impl Into<Self>) -> Self {
        request.into()
    }

    /// Whether another says the same, start and end aside.
    pub fn same_beat(&self, other: &Self) -> bool {
        let bare = |timing: &Self| Self {
            start: None,
            end: None,
            ..timing.clone()
        };
        bare(self) == bare(other)
    }

    /// Checks the members where calendars cannot be looked up: whichever theirs will be.
    pub fn check(&self) -> Result<(), Refusal> {
        let some = self.calendar.as_ref().and_then(|_| shipped::all().first().cloned());
        self.rule(some).map(drop)
    }

    /// Checks the members and makes a rule of them. `calendar` is the one that they name, where there is one of that name.
    pub fn rule(&self, calendar: Option<Arc<Calendar>>) -> Result<Rule, Refusal> {
        if self.start.zip(self.end).is_some_and(|(start, end)| start > end) {
            return refuse("/end", "must not be before start");
        }
        if let (Some(name), None) = (&self.calendar, &calendar) {
            return refuse(
                "/calendar",
                format!("there is no calendar {name:?}; GET /api/v1/scheduler/calendars lists those that there are"),
            );
        }
        let source = match (&self.cron_expression, &self.session) {
            (Some(_), Some(_)) => return refuse("/session", "give cron_expression or session, and not both"),
            (None, None) => return refuse("/cron_expression", "is missing: give cron_expression, or session with a calendar"),
            (None, Some(session)) => self.session_source(*session, calendar)?,
            (Some(expression), None) => {
                let cron = match Cron::parse(expression) {
                    Ok(cron) => cron,
                    Err(error) => return refuse("/cron_expression", error.to_string()),
                };
                let on_closed = self.on_closed.unwrap_or_default();
                if calendar.is_none() && self.on_closed.is_some() {
                    return refuse(
                        "/on_closed",
                        "needs a calendar that says when it is closed; give calendar, or remove it",
                    );
                }
                let gate = calendar.map(|calendar| Gate { calendar, on_closed });
                Source::Cron { cron, gate }
            }
        };
        Ok(Rule {
            source,
            zone: self.timezone.unwrap_or_default(),
            dst: Dst {
                gap: self.dst_gap.unwrap_or_default(),
                fold: self.dst_overlap.unwrap_or_default(),
            },
            start: self.start,
            end: self.end,
        })
    }

    fn session_source(&self, session: SessionRule, calendar: Option<Arc<Calendar>>) -> Result<Source, Refusal> {
        if !(-MAX_OFFSET..=MAX_OFFSET).contains(&session.offset) {
            return refuse(
                "/session/offset",
                format!("must be a whole number of seconds from -{MAX_OFFSET} to {MAX_OFFSET}"),
            );
        }
        let Some(calendar) = calendar else {
            return refuse("/calendar", "is missing: a session is one of a calendar, such as XNYS");
        };
        for (member, given) in [
            ("timezone", self.timezone.is_some()),
            ("on_closed", self.on_closed.is_some()),
            ("dst_gap", self.dst_gap.is_some()),
            ("dst_overlap", self.dst_overlap.is_some()),
        ] {
            if given {
                return refuse(
                    &format!("/{member}"),
                    "says nothing beside session: its times are those of the calendar; remove it",
                );
            }
        }
        Ok(Source::Session { rule: session, calendar })
    }
}
