//! Events: what happened outside, delivered to the triggers that listen.

use super::State;
use super::error::{Code, Problem, shorten};
use super::extract::{JsonBody, MAX_JSON, Name, SMALL, media_type, read_body, room_as_values};
use super::once::refuse_key;
use super::wire::{DeliveredEvent, Triggered};
use crate::model::event::{NewEvent, Source};
use crate::model::request::{CloudEvent, EventData, EventType, Refusal, is_json};
use axum::Json;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, header};

/// Delivers an event
///
/// Each trigger of this type whose filter it fits makes a task of its payload with the event's data over it. The event and its tasks are
/// on disk before the answer. Sent twice it is two events; one that is delivered once whatever happens has a source and an id, and is sent
/// to `POST /events`. An `Idempotency-Key` is refused.
#[utoipa::path(post, path = "/event/trigger/{event_type}", tag = "events", request_body = Option<EventData>,
    params(("event_type" = String, Path, description = "What happened; 1 to 256 characters of A-Z a-z 0-9 . _ : / -")),
    responses((status = 200, description = "The tasks", body = Triggered), (status = 400), (status = 408), (status = 413), (status = 415), (status = 503)))]
pub(crate) async fn trigger(
    state: State,
    name: Name,
    headers: HeaderMap,
    JsonBody(EventData(data), _room): JsonBody<EventData>,
) -> Result<Json<Triggered>, Problem> {
    refuse_key(
        &headers,
        "an event that is delivered once has a source and an id: send it to POST /events",
    )?;
    let event_type = EventType::new(&name.0).map_err(|sentence| Problem::invalid("/event_type", sentence))?;
    let event = NewEvent {
        event_type: event_type.into_string(),
        source: None,
        time: None,
        data: data.text,
        depth: 0,
    };
    let delivered = state.scheduler.deliver(vec![event]).await?;
    let tasks: Vec<String> = delivered.iter().flat_map(|event| &event.tasks).map(ToString::to_string).collect();
    Ok(Json(Triggered::of_tasks(tasks)))
}

/// How a CloudEvent comes over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Binary,
    Structured,
    Batched,
}

/// Delivers CloudEvents 1.0
///
/// In any of the three modes: attributes in `ce-` headers and the data as the body (binary), one event in its JSON envelope
/// (`application/cloudevents+json`), or a list of at most 1,000 of those (`application/cloudevents-batch+json`), of which all are
/// delivered in one transaction or none. The data is a JSON object. An event whose source and id were seen before, as long as history is
/// kept, changes nothing; an `Idempotency-Key` is refused.
#[utoipa::path(post, path = "/events", tag = "events",
    request_body(content(
        (serde_json::Value = "application/cloudevents+json"),
        (serde_json::Value = "application/cloudevents-batch+json"),
        (serde_json::Value = "application/json")
    ), description = "An event, a list of events, or with `ce-` headers the data of one"),
    responses((status = 200, description = "The tasks", body = Triggered), (status = 400), (status = 408), (status = 413), (status = 415), (status = 503)))]
pub(crate) async fn receive(state: State, request: Request) -> Result<Json<Triggered>, Problem> {
    let headers = request.headers().clone();
    refuse_key(&headers, "an event is delivered once by its source and id: send it again as it is")?;
    let mode = mode(&headers)?;
    let (body, room) = read_body(request, MAX_JSON, &state).await?;
    let _room = room_as_values(&body, room, &state).await?;
    let events = if body.len() <= SMALL {
        read(mode, &headers, &body)
    } else {
        let read = tokio::task::spawn_blocking(move || read(mode, &headers, &body)).await;
        read.map_err(|_| Problem::new(Code::Internal, "the body could not be read; the host's log says why"))?
    }?;
    let sources: Vec<Source> = events.iter().filter_map(|event| event.source.clone()).collect();
    let delivered = state.scheduler.deliver(events).await?;
    let mut told: Vec<DeliveredEvent> = sources.into_iter().zip(delivered).map(DeliveredEvent::from).collect();
    let tasks = told.iter().flat_map(|event| event.triggered_tasks.clone()).collect();
    let answer = Triggered::of_tasks(tasks);
    Ok(Json(match (mode, told.pop()) {
        (Mode::Batched, last) => {
            told.extend(last);
            answer.with_events(told)
        }
        (_, Some(event)) => answer.with_duplicate(event.duplicate),
        (_, None) => answer,
    }))
}

/// By the content type: the envelope names itself, and everything else with the attributes as headers is data.
fn mode(headers: &HeaderMap) -> Result<Mode, Problem> {
    let given = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let kind = given.map(media_type);
    match kind.as_deref() {
        Some("application/cloudevents+json") => Ok(Mode::Structured),
        Some("application/cloudevents-batch+json") => Ok(Mode::Batched),
        Some(kind) if kind.starts_with("application/cloudevents") || !is_json(kind) => Err(unknown_media_type(kind)),
        _ if headers.contains_key("ce-specversion") => Ok(Mode::Binary),
        Some(_) => Err(Problem::invalid(
            "/ce-specversion",
            "must be given: without ce- headers a CloudEvent is sent as `Content-Type: application/cloudevents+json`",
        )),
        None => Err(unknown_media_type("none")),
    }
}

fn unknown_media_type(kind: &str) -> Problem {
    Problem::new(
        Code::MediaType,
        format!(
            "the content type is {:?}; send `application/cloudevents+json`, `application/cloudevents-batch+json`, or JSON data with ce- headers",
            shorten(kind)
        ),
    )
}

fn read(mode: Mode, headers: &HeaderMap, body: &Bytes) -> Result<Vec<NewEvent>, Problem> {
    let read: Result<Vec<CloudEvent>, Refusal> = match mode {
        Mode::Structured => CloudEvent::structured(body).map(|event| vec![event]),
        Mode::Batched => CloudEvent::batched(body),
        Mode::Binary => {
            let attributes = headers
                .iter()
                .filter_map(|(name, value)| Some((name.as_str().strip_prefix("ce-")?, value.as_bytes())));
            CloudEvent::binary(attributes, body).map(|event| vec![event])
        }
    };
    let events = read?.into_iter().map(|event| NewEvent {
        event_type: event.event_type.into_string(),
        source: Some(Source {
            uri: event.source,
            id: event.id,
        }),
        time: event.time,
        data: event.data.text,
        depth: 0,
    });
    Ok(events.collect())
}
