//! What the types of the members refuse: where, and in which words.

use crate::model::overrides::Override;
use crate::model::request::{
    BatchRequest, CronTaskRequest as Cron, Input, LimitRequest, RefusalKind, TaskRequest, TriggerPatch, WorkflowRequest as Workflow, parse,
};

/// Where each request is wrong, and what is said of it.
#[test]
fn types_are_told_in_words_of_the_api() {
    fn at<T: Input>(text: &str) -> (String, String) {
        let refusal = parse::<T>(text.as_bytes()).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert_eq!(refusal.kind, RefusalKind::Value, "{text}: {refusal}");
        (refusal.pointer, refusal.sentence)
    }
    let step = |more: &str| format!(r#"{{"steps":[{{"key":"a","task_name":"echo"{more}}}]}}"#);
    for ((pointer, sentence), expected, word) in [
        // No list is an object.
        (
            at::<Cron>(r#"{"task_name":"t","session":["open",0]}"#),
            "/session",
            "must be a JSON object",
        ),
        (
            at::<TaskRequest>(r#"{"task_name":"t","unique":[]}"#),
            "/unique",
            "must be a JSON object",
        ),
        (
            at::<BatchRequest>(r#"{"on_complete":["echo",{}]}"#),
            "/on_complete",
            "must be a JSON object",
        ),
        (at::<BatchRequest>(r#"{"grid":[["/a",[1]]]}"#), "/grid", "must be a JSON object"),
        (at::<Workflow>(r#"{"steps":[["a","echo"]]}"#), "/steps/0", "must be a JSON object"),
        (at::<Workflow>(r#"{"steps":{}}"#), "/steps", "must be a list"),
        (at::<LimitRequest>(r#"{"match":["echo"]}"#), "/match", "must be a JSON object"),
        (at::<LimitRequest>(r#"{"rate":[1,2]}"#), "/rate", "must be a JSON object"),
        (at::<Override>(r#"{"retry":[9]}"#), "/retry", "must be a JSON object"),
        // A word is one of its words, and a number is JSON.
        (
            at::<Cron>(r#"{"task_name":"t","misfire":{"latest":null}}"#),
            "/misfire",
            "must be one of latest, all, none",
        ),
        (
            at::<Cron>(r#"{"task_name":"t","misfire":true}"#),
            "/misfire",
            "must be one of latest, all, none",
        ),
        (
            at::<Cron>(r#"{"task_name":"t","dst_overlap":5}"#),
            "/dst_overlap",
            "must be one of first, last, both",
        ),
        (
            at::<Cron>(r#"{"task_name":"t","overlap":"never"}"#),
            "/overlap",
            "must be one of queue_one, ",
        ),
        (
            at::<Cron>(r#"{"task_name":"t","session":{"edge":5}}"#),
            "/session/edge",
            "must be one of open, close",
        ),
        (
            at::<TaskRequest>(r#"{"task_name":"t","unique":{"on_conflict":5}}"#),
            "/unique/on_conflict",
            "must be one of return",
        ),
        (
            at::<TaskRequest>(r#"{"task_name":"t","unique":{"on_conflict":"x"}}"#),
            "/unique/on_conflict",
            "must be one of return",
        ),
        (
            at::<Workflow>(r#"{"steps":[],"on_failure":5}"#),
            "/on_failure",
            "must be one of cancel_descendants, continue",
        ),
        (
            at::<Workflow>(&step(r#","when":5"#)),
            "/steps/0/when",
            "must be one of all_success, all_done, any_success",
        ),
        // What else our types would say of themselves.
        (at::<TaskRequest>(r#"{"task_name":5}"#), "/task_name", "must be text"),
        (at::<TaskRequest>(r#"{"task_name":null}"#), "/task_name", "must be text"),
        (at::<TaskRequest>(r#"{"task_name":"t","tags":5}"#), "/tags", "must be a list"),
        (
            at::<TaskRequest>(r#"{"task_name":"t","idempotent":"yes"}"#),
            "/idempotent",
            "must be true or false",
        ),
        (at::<TriggerPatch>(r#"{"paused":1}"#), "/paused", "must be true or false"),
        (
            at::<Cron>(r#"{"task_name":"t","cron_expression":5}"#),
            "/cron_expression",
            "must be text",
        ),
        (
            at::<Cron>(r#"{"task_name":"t","session":{"edge":"open","offset":1.5}}"#),
            "/session/offset",
            "must be a whole number",
        ),
        (
            at::<Override>(r#"{"retry":{"max_retries":-1}}"#),
            "/retry/max_retries",
            "must be a whole number from 0 to 4294967295",
        ),
        (at::<Override>(r#"{"retry":{"jitter":"x"}}"#), "/retry/jitter", "must be a number"),
        (at::<Override>(r#"{"priority":"high"}"#), "/priority", "must be a whole number"),
        (
            at::<LimitRequest>(r#"{"max_running":-1}"#),
            "/max_running",
            "must be a whole number from 1 to 1000000",
        ),
        (
            at::<LimitRequest>(r#"{"max_running":1.5}"#),
            "/max_running",
            "must be a whole number from 1 to 1000000",
        ),
        (
            at::<LimitRequest>(r#"{"max_running":0}"#),
            "/max_running",
            "must be a whole number from 1 to 1000000",
        ),
        // Too much is JSON too.
        (
            at::<TaskRequest>(r#"{"task_name":"t","timeout":1e999}"#),
            "/timeout",
            "is a number beyond",
        ),
        (
            at::<TaskRequest>(r#"{"task_name":"t","payload":{"a":1e999}}"#),
            "/payload",
            "is a number beyond",
        ),
        // What is not there is told at its place.
        (at::<TaskRequest>("{}"), "/task_name", "is missing"),
        (at::<Workflow>(r#"{"steps":[{"key":"a"}]}"#), "/steps/0/task_name", "is missing"),
    ] {
        assert_eq!(pointer, expected, "{sentence}");
        assert!(sentence.starts_with(word), "{pointer}: {sentence}");
    }
    // What is right is still read.
    let good = parse::<Cron>(br#"{"task_name":"t","payload":{"a":[1]},"session":{"edge":"close","offset":-60},"misfire":"all"}"#).unwrap();
    assert_eq!(good.payload.text, r#"{"a":[1]}"#);
}
