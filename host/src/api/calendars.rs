//! Business calendars: those that ship, those that users put, and what they say of a day.

use super::State;
use super::error::{Code, Problem};
use super::extract::{Name, NoBody, Query, check_json_type, read_body};
use super::page::{self, Listed};
use super::tasks::PageQuery;
use super::wire::{CalendarSummary, Removed, SessionRecord, SettlementDate};
use crate::model::calendar::{Calendar, Day, Document, MAX_BYTES, MAX_SETTLEMENT_DAYS, shipped};
use crate::model::request::Input;
use crate::store::StoreError;
use axum::Json;
use axum::extract::{OriginalUri, Request};
use axum::http::StatusCode;
use chrono::{Days, NaiveDate};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// The longest range of days that is answered at once: ten years.
const MAX_DAYS: i64 = 3_660;
/// How far a range reaches that has no end.
const DEFAULT_DAYS: u64 = 30;

/// Lists calendars, by name
#[utoipa::path(get, path = "/calendars", tag = "calendars", params(PageQuery),
    responses((status = 200, description = "By name", body = Vec<CalendarSummary>), (status = 400), (status = 503)))]
pub(crate) async fn list(
    state: State,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Result<Listed<Vec<CalendarSummary>>, Problem> {
    let calendars = state.store.calendars().await?;
    let (calendars, next) = page::of_map(&calendars, &query.request()?);
    Ok(Listed {
        body: calendars.iter().map(Into::into).collect(),
        link: page::link(&uri, next.as_deref()),
    })
}

/// Shows a calendar
///
/// What it answers can be put again.
#[utoipa::path(get, path = "/calendar/{name}", tag = "calendars", params(("name" = String, Path, description = "Name of a calendar")),
    responses((status = 200, description = "The calendar", body = Document), (status = 404), (status = 503)))]
pub(crate) async fn get(state: State, name: Name) -> Result<Json<Document>, Problem> {
    let calendar = find(&state, &name).await?;
    Ok(Json(calendar.document().clone()))
}

/// Puts a calendar under a name
///
/// Under the name of one that ships, it goes before it until it is removed. Schedules that it leaves no session have ended, with a
/// `calendar` alert, until it has some again.
#[utoipa::path(put, path = "/calendar/{name}", tag = "calendars",
    params(("name" = String, Path, description = "Name of the calendar: 1 to 128 characters of A-Z a-z 0-9 . _ -")),
    request_body = Document,
    responses((status = 200, description = "Replaced", body = Document), (status = 201, description = "New", body = Document),
        (status = 400), (status = 408), (status = 409, description = "There are as many calendars as are kept"), (status = 413),
        (status = 415), (status = 503)))]
pub(crate) async fn put(state: State, name: Name, request: Request) -> Result<(StatusCode, Json<Document>), Problem> {
    check_json_type(request.headers())?;
    let (bytes, _room) = read_body(request, MAX_BYTES, &state).await?;
    // A megabyte of dates takes longer to check than other requests should wait.
    let parsed = tokio::task::spawn_blocking(move || Calendar::parse(&name.0, &bytes)).await;
    let broken = |_| Problem::new(Code::Internal, "the calendar could not be read; the host's log says why");
    let calendar = Arc::new(parsed.map_err(broken)??);
    let is_new = state.store.put_calendar(calendar.clone(), state.clock.now()).await?;
    state.scheduler.calendar_changed(calendar.name()).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(calendar.document().clone())))
}

/// Removes a calendar that was put
///
/// The one that ships under its name, where there is one, counts again.
#[utoipa::path(delete, path = "/calendar/{name}", tag = "calendars", params(("name" = String, Path, description = "Name of a calendar")),
    responses((status = 200, description = "Removed", body = Removed), (status = 400), (status = 404),
        (status = 409, description = "It ships, or a schedule goes by it"), (status = 503)))]
pub(crate) async fn remove(state: State, name: Name, _: NoBody) -> Result<Json<Removed>, Problem> {
    match state.store.remove_calendar(&name.0).await {
        Err(StoreError::NotFound) if shipped::get(&name.0).is_some() => Err(Problem::new(
            Code::Conflict,
            format!(
                "{} ships with Taskhost and cannot be removed; put another one under its name to go before it",
                name.0
            ),
        )),
        removed => {
            removed.map_err(|error| Problem::of_store(error, "calendar", &name.0))?;
            state.scheduler.calendar_changed(&name.0).await?;
            Ok(Json(Removed::new(&name.0)))
        }
    }
}

/// Parameters of a calendar's sessions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SessionsQuery {
    /// The first local date; today where left out.
    #[param(value_type = Option<String>, format = Date)]
    from: String,
    /// The last local date; 30 days after the first where left out, at most ten years after it.
    #[param(value_type = Option<String>, format = Date)]
    to: String,
}

impl Input for SessionsQuery {}

/// Lists the sessions of a calendar
///
/// By date, with open and close as instants: half days, late opens and the clocks of the zone are accounted for.
#[utoipa::path(get, path = "/calendar/{name}/sessions", tag = "calendars",
    params(("name" = String, Path, description = "Name of a calendar"), SessionsQuery),
    responses((status = 200, description = "By date", body = Vec<SessionRecord>), (status = 400), (status = 404), (status = 503)))]
pub(crate) async fn sessions(state: State, name: Name, Query(query): Query<SessionsQuery>) -> Result<Json<Vec<SessionRecord>>, Problem> {
    let calendar = find(&state, &name).await?;
    let today = || state.clock.now().with_timezone(&calendar.zone()).date_naive();
    let from = date("/from", &query.from)?.unwrap_or_else(today);
    let to = date("/to", &query.to)?.unwrap_or_else(|| from.checked_add_days(Days::new(DEFAULT_DAYS)).unwrap_or(from));
    if to < from {
        return Err(Problem::invalid("/to", format!("is before {from}, where the range begins")));
    }
    if (to - from).num_days() > MAX_DAYS {
        return Err(Problem::invalid(
            "/to",
            format!("is more than ten years after {from}; ask for less at once"),
        ));
    }
    let sessions = calendar.sessions(from, to);
    Ok(Json(sessions.map(|session| SessionRecord::new(&calendar, session)).collect()))
}

/// Parameters of a settlement date.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SettlementQuery {
    /// The day of the trade; today where left out. One that is no session counts as the next session.
    #[param(value_type = Option<String>, format = Date)]
    trade_date: String,
    /// The n of T+n; 2 where left out.
    #[param(value_type = Option<u32>, minimum = 0, maximum = 1000)]
    days: String,
}

impl Input for SettlementQuery {}

/// Tells when a trade settles
///
/// The n-th session after the trade date, by the rule that the settlement plugin uses.
#[utoipa::path(get, path = "/calendar/{name}/settlement-date", tag = "calendars",
    params(("name" = String, Path, description = "Name of a calendar"), SettlementQuery),
    responses((status = 200, description = "The date", body = SettlementDate), (status = 400), (status = 404), (status = 503)))]
pub(crate) async fn settlement_date(
    state: State,
    name: Name,
    Query(query): Query<SettlementQuery>,
) -> Result<Json<SettlementDate>, Problem> {
    let calendar = find(&state, &name).await?;
    let today = || state.clock.now().with_timezone(&calendar.zone()).date_naive();
    let trade_date = date("/trade_date", &query.trade_date)?.unwrap_or_else(today);
    let days = match query.days.as_str() {
        "" => 2,
        text => text
            .parse()
            .ok()
            .filter(|days| *days <= MAX_SETTLEMENT_DAYS)
            .ok_or_else(|| Problem::invalid("/days", format!("must be a whole number from 0 to {MAX_SETTLEMENT_DAYS}")))?,
    };
    let settlement_date = calendar
        .settlement_date(trade_date, days)
        .ok_or_else(|| Problem::invalid("/trade_date", "has no such session after it in this calendar"))?;
    Ok(Json(SettlementDate {
        trade_date,
        days,
        settlement_date,
        official: calendar.is_official(settlement_date),
    }))
}

async fn find(state: &State, name: &Name) -> Result<Arc<Calendar>, Problem> {
    let found = state.store.calendar(&name.0).await;
    found
        .map(|named| named.calendar)
        .map_err(|error| Problem::of_store(error, "calendar", &name.0))
}

/// A date of the query; a blank one counts as not given.
fn date(pointer: &str, text: &str) -> Result<Option<NaiveDate>, Problem> {
    match text {
        "" => Ok(None),
        text => Day::parse(text)
            .map(|day| Some(day.0))
            .map_err(|why| Problem::invalid(pointer, why)),
    }
}
