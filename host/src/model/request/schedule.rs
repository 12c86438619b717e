//! Schedules as they are asked for: to keep, or only to look ahead with.

use super::{Input, Payload, value};
use crate::model::Time;
use crate::model::priority::Priority;
use crate::model::schedule::misfire::Misfire;
use crate::model::schedule::overlap::Overlap;
use crate::model::schedule::timing::{OnClosed, SessionRule, Timing};
use crate::model::zone::{Fold, Gap, Zone};
use serde::Deserialize;
use utoipa::ToSchema;

/// A request with members of its own and those that say when a schedule fires. (A type of its own for these, by serde's `flatten`, could
/// not refuse unknown members.)
macro_rules! with_schedule_members {
    ($(#[$about:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(Debug, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($own)*
            /// Five fields with Unix meaning, six with leading seconds, or `@daily` and its kin. Either this or `session`.
            #[serde(default)]
            #[schema(example = "30 17 * * 1-5")]
            pub cron_expression: Option<String>,
            /// A fire for each session of the calendar instead of an expression: so many seconds after it opens or closes.
            #[serde(default)]
            pub session: Option<SessionRule>,
            /// The IANA time zone of the expression; UTC where left out.
            #[serde(default)]
            #[schema(value_type = Option<String>, example = "Europe/London")]
            pub timezone: Option<Zone>,
            /// The name of a calendar.
            #[serde(default, deserialize_with = "value::rule_name")]
            #[schema(pattern = "^[A-Za-z0-9._-]{1,128}$", example = "XNYS")]
            pub calendar: Option<String>,
            /// Where the calendar has no session that day: `skip` the fire (the default), or move it to the `next` or `previous` session's day at
            /// the same local time.
            #[serde(default)]
            #[schema(value_type = Option<String>, example = "skip")]
            pub on_closed: Option<OnClosed>,
            /// Where the clocks go forward over a fixed hour: `run_after` (the default), or `skip`.
            #[serde(default)]
            #[schema(value_type = Option<String>, example = "run_after")]
            pub dst_gap: Option<Gap>,
            /// Where a fixed hour comes twice: the `first` (the default), the `last`, or `both`.
            #[serde(default)]
            #[schema(value_type = Option<String>, example = "first")]
            pub dst_overlap: Option<Fold>,
            /// No fire before this.
            #[serde(default, deserialize_with = "value::time")]
            #[schema(value_type = Option<String>, format = DateTime)]
            pub start: Option<Time>,
            /// No fire after this.
            #[serde(default, deserialize_with = "value::time")]
            #[schema(value_type = Option<String>, format = DateTime)]
            pub end: Option<Time>,
            /// Of fires that were missed, the `latest` is made up for (the default), `all` are (up to 100), or `none`.
            #[serde(default)]
            #[schema(value_type = Option<String>, example = "latest")]
            pub misfire: Option<Misfire>,
            /// While the task of an earlier fire has not ended: `queue_one` (the default), `skip`, `queue_all`, `cancel_previous` or `allow`.
            #[serde(default)]
            #[schema(value_type = Option<String>, example = "queue_one")]
            pub overlap: Option<Overlap>,
        }

        impl Input for $name {}

        impl From<&$name> for Timing {
            fn from(request: &$name) -> Self {
                Self {
                    cron_expression: request.cron_expression.clone(),
                    session: request.session,
                    timezone: request.timezone,
                    calendar: request.calendar.clone(),
                    on_closed: request.on_closed,
                    dst_gap: request.dst_gap,
                    dst_overlap: request.dst_overlap,
                    start: request.start,
                    end: request.end,
                }
            }
        }
    };
}

with_schedule_members! {
    /// A task to run again and again.
    pub struct CronTaskRequest {
        /// The name of a task definition that a loaded plugin handles.
        #[schema(example = "settlement")]
        pub task_name: String,
        /// Input of each task; checked against the schema now.
        #[serde(default)]
        #[schema(value_type = Object, default = json!({}))]
        pub payload: Payload,
        /// 1 (most urgent) to 9; the definition's where left out.
        #[serde(default, deserialize_with = "value::priority")]
        #[schema(value_type = Option<u8>, minimum = 1, maximum = 9)]
        pub priority: Option<Priority>,
        /// Creating a schedule again under its name updates it. Derived from the content where left out.
        #[serde(default, deserialize_with = "value::rule_name")]
        #[schema(pattern = "^[A-Za-z0-9._-]{1,128}$")]
        pub name: Option<String>,
        /// United with the definition's.
        #[serde(default, deserialize_with = "value::tags")]
        #[schema(max_items = 32)]
        pub tags: Vec<String>,
    }
}

with_schedule_members! {
    /// A schedule to look ahead with; nothing is kept of it.
    pub struct PreviewRequest {
        /// How many fires, from 1 to 1,000; 5 where left out.
        #[serde(default, deserialize_with = "value::preview_count")]
        #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
        pub count: Option<usize>,
        /// Strictly after this; now where left out.
        #[serde(default, deserialize_with = "value::time")]
        #[schema(value_type = Option<String>, format = DateTime)]
        pub after: Option<Time>,
    }
}
