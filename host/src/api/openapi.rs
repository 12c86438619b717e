//! The OpenAPI document, made from the routes themselves.

use super::error::{ProblemBody, title_of};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi as Document, OpenApiBuilder, Ref, RefOr, Response as Answer};

#[derive(OpenApi)]
#[openapi(
    components(schemas(ProblemBody)),
    tags(
        (name = "tasks", description = "Submitting tasks, and what became of them"),
        (name = "batches", description = "Tasks that came in together"),
        (name = "workflows", description = "Tasks that need one another"),
        (name = "schedules", description = "Cron rules that create tasks"),
        (name = "triggers", description = "Event rules that create tasks"),
        (name = "events", description = "What happened outside"),
        (name = "queue", description = "What waits and runs, and limits on it"),
        (name = "calendars", description = "On which days a market is open, and from when to when"),
        (name = "monitor", description = "Metrics, alerts, and what is kept"),
        (name = "plugins", description = "Plugins and the tasks that they handle"),
        (name = "host", description = "The host itself"),
    )
)]
struct Frame;

/// What the document holds besides the routes.
pub(crate) fn frame() -> Document {
    let info = InfoBuilder::new()
        .title("Taskhost")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Task handlers as WebAssembly components, scheduled, run, retried and watched. Times are RFC 3339 in UTC, durations are \
             seconds, ids are opaque. Unknown members and parameters are refused. Lists take `limit` and `cursor`; the next page is in \
             the `Link` header. Every error is a problem (RFC 9457) with a stable `code`.",
        ));
    let mut document = OpenApiBuilder::from(Frame::openapi()).info(info.build()).build();
    document.servers = None;
    document
}

/// The document of all routes, with the body of every error.
pub fn document() -> Document {
    let mut document = super::routes().into_openapi();
    for (path, item) in &mut document.paths.paths {
        let operations = [
            ("get", &mut item.get),
            ("put", &mut item.put),
            ("post", &mut item.post),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                operation.operation_id = Some(operation_id(method, path));
                describe_errors(operation);
            }
        }
    }
    name_words(&mut document);
    document
}

/// Members that take one of a few words, by their schemas: in the code they are enums with words of their own.
const WORDS: &[(&[&str], &str, &[&str])] = &[
    (SCHEDULES, "misfire", &["latest", "all", "none"]),
    (
        SCHEDULES,
        "overlap",
        &["queue_one", "skip", "queue_all", "cancel_previous", "allow"],
    ),
    (SCHEDULES, "on_closed", &["skip", "next", "previous"]),
    (SCHEDULES, "dst_gap", &["run_after", "skip"]),
    (SCHEDULES, "dst_overlap", &["first", "last", "both"]),
    (&["WorkflowRequest"], "on_failure", &["cancel_descendants", "continue"]),
    (&["StepRequest"], "when", &["all_success", "all_done", "any_success"]),
    (&["UniqueRequest"], "on_conflict", &["return", "reject", "replace"]),
];
const SCHEDULES: &[&str] = &["CronTaskRequest", "PreviewRequest", "ScheduleEdit", "ScheduleRecord"];

/// Says of each member of [`WORDS`] which words it takes.
fn name_words(document: &mut Document) {
    let Some(components) = &mut document.components else { return };
    for (schemas, member, words) in WORDS {
        for schema in *schemas {
            let Some(RefOr::T(Schema::Object(schema))) = components.schemas.get_mut(*schema) else {
                continue;
            };
            let Some(RefOr::T(Schema::Object(member))) = schema.properties.get_mut(*member) else {
                continue;
            };
            let may_be_null = matches!(&member.schema_type, SchemaType::Array(types) if types.contains(&Type::Null));
            let words = words.iter().map(|word| Value::from(*word));
            member.enum_values = Some(words.chain(may_be_null.then_some(Value::Null)).collect());
        }
    }
}

/// What a generated client calls the operation: `get_task_logs`. The handlers' own names are only unique within their file.
fn operation_id(method: &str, path: &str) -> String {
    let path = path.strip_prefix(super::BASE).unwrap_or(path);
    let words = path
        .split(['/', '-', '.'])
        .filter(|word| !word.is_empty() && !word.starts_with('{'));
    let mut id = method.to_owned();
    for word in words {
        id.push('_');
        id.push_str(word);
    }
    id
}

/// A handler names the errors of its own; what they look like, and those of every route, are the same everywhere.
fn describe_errors(operation: &mut Operation) {
    let answers = &mut operation.responses.responses;
    for status in ["403", "500"] {
        answers.entry(status.to_owned()).or_insert_with(|| RefOr::T(Answer::new("")));
    }
    for (status, answer) in answers.iter_mut() {
        let title = status.parse().ok().and_then(title_of);
        if let (Some(title), RefOr::T(answer)) = (title, answer) {
            if answer.description.is_empty() {
                answer.description = title.to_owned();
            }
            let schema = Ref::from_schema_name("Problem");
            let content = RefOr::T(ContentBuilder::new().schema(Some(schema)).build());
            answer.content.insert("application/problem+json".to_owned(), content);
        }
    }
}

/// This document
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "host", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(crate) async fn openapi() -> Response {
    static TEXT: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| document().to_json().unwrap_or_default());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::request::{CronTaskRequest, UniqueRequest, WorkflowRequest, parse};
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn every_operation_is_named_once_and_described_with_its_errors() {
        let document: Value = serde_json::to_value(document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().unwrap();
        let operations: Vec<&Value> = paths.values().flat_map(|path| path.as_object().unwrap().values()).collect();
        let ids: BTreeSet<&str> = operations
            .iter()
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), operations.len());
        for operation in operations {
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{operation}");
            for (status, answer) in operation["responses"].as_object().unwrap() {
                assert!(!answer["description"].as_str().unwrap().is_empty(), "{operation}");
                let is_problem = !answer["content"]["application/problem+json"].is_null();
                assert_eq!(is_problem, !status.starts_with('2'), "{status} of {operation}");
            }
        }
    }

    #[test]
    fn the_words_of_the_description_are_those_that_are_taken() {
        let document: Value = serde_json::to_value(document()).unwrap();
        let schemas = &document["components"]["schemas"];
        for (of, member, words) in WORDS {
            for schema in *of {
                let described = schemas[*schema]["properties"][*member]["enum"].as_array();
                assert!(described.is_some_and(|all| all.len() >= words.len()), "{schema} {member}");
            }
            let taken = |word: &str| match of[0] {
                "WorkflowRequest" => {
                    let body = json!({"steps": [], *member: word});
                    parse::<WorkflowRequest>(body.to_string().as_bytes()).is_ok()
                }
                "StepRequest" => {
                    let body = json!({"steps": [{"key": "a", "task_name": "t", *member: word}]});
                    parse::<WorkflowRequest>(body.to_string().as_bytes()).is_ok()
                }
                "UniqueRequest" => serde_json::from_value::<UniqueRequest>(json!({*member: word})).is_ok(),
                _ => {
                    let body = json!({"task_name": "t", *member: word});
                    parse::<CronTaskRequest>(body.to_string().as_bytes()).is_ok()
                }
            };
            for word in *words {
                assert!(taken(word), "{member} {word}");
            }
            assert!(!taken("other"), "{member}");
        }
        assert!(!schemas["ScheduleEdit"]["properties"]["payload"].is_null());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(document()).unwrap();
        let schemas = &document["components"]["schemas"];
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(!schemas[name].is_null(), "{name}");
        }
    }
}
