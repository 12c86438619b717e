//! What an attempt emits and submits: judged when it is asked for, and kept until the attempt is ok.
//!
//! A guest is told at once what is wrong, as a client is: nobody would be there to hear of it later. Only what takes long to find out
//! (a schema that is hard on the validator) shows when it is delivered.

use crate::executor::capabilities::Grants;
use crate::executor::{self, Outgoing, Refused};
use crate::model::Time;
use crate::model::attempt::InputError;
use crate::model::definition::Definition;
use crate::model::ids::{EventId, TaskId, WorkflowId};
use crate::model::outbox::{self, MAX_DEPTH, Sent};
use crate::model::request::{EventData, EventType, Refusal, TaskRequest, WorkflowRequest, parse};
use serde_json::Value;
use std::sync::Arc;

/// What a kept thing costs besides its text.
const COST: usize = 64;

/// What those who know the loaded plugins say of a task of this name with this payload: its definition, if they can tell, or why not.
pub type Accepts = Arc<dyn Fn(&str, &Value) -> Result<Option<Arc<Definition>>, NotAccepted> + Send + Sync>;

/// Why a task cannot be submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAccepted {
    /// What is wrong, with pointers into a request.
    Invalid(Vec<InputError>),
    /// It cannot be told yet: the plugins are being loaded. The sentence says so.
    NotYet(String),
}

impl NotAccepted {
    /// As the guest is told; `place` is where the task stands in its request.
    fn refused(self, place: &str) -> Refused {
        let inside = |error: InputError| InputError {
            pointer: format!("{place}{}", error.pointer),
            ..error
        };
        match self {
            Self::Invalid(errors) => Refused::invalid(&errors.into_iter().map(inside).collect::<Vec<_>>()),
            Self::NotYet(sentence) => Refused::new("retryable", sentence),
        }
    }
}

/// What it takes to judge what an attempt asks.
pub struct Judge<'a> {
    /// How much an attempt may send.
    pub limits: &'a executor::Options,
    /// What its plugin may send.
    pub grants: &'a Grants,
    /// What those who know the loaded plugins say.
    pub accepts: &'a Accepts,
    /// Whether so much waits for its delivery that no more is taken.
    pub full: bool,
    /// How deep the attempt's task stands.
    pub depth: u32,
    /// When.
    pub now: Time,
}

/// What one attempt has sent so far.
#[derive(Debug, Default)]
pub struct Outbox {
    sent: Vec<Sent>,
    emitted: u32,
    submitted: u32,
    bytes: u64,
}

impl Outbox {
    /// Keeps it, and returns the id that it will have; or says why not.
    pub fn take(&mut self, what: Outgoing, judge: &Judge<'_>) -> Result<String, Refused> {
        if judge.depth >= MAX_DEPTH {
            return Err(Refused::new("fatal", too_deep()));
        }
        if judge.full {
            let why = "too much of what attempts emitted and submitted waits for its delivery; try again later";
            return Err(Refused::new("retryable", why));
        }
        // Before anything is read, which may be long.
        match what {
            Outgoing::Event { .. } => self.emitted_with(1, judge)?,
            Outgoing::Task(_) | Outgoing::Workflow(_) => self.submitted_with(1, judge)?,
        };
        match what {
            Outgoing::Event { event_type, data } => self.emit(&event_type, &data, judge),
            Outgoing::Task(request) => self.submit(request, judge),
            Outgoing::Workflow(request) => self.submit_workflow(request, judge),
        }
    }

    fn emit(&mut self, event_type: &str, data: &str, judge: &Judge<'_>) -> Result<String, Refused> {
        let event_type = EventType::new(event_type).map_err(|why| Refused::new("fatal", why))?.into_string();
        judge.grants.may_emit(&event_type)?;
        let EventData(data) =
            parse(data.as_bytes()).map_err(|refusal| Refused::new("fatal", format!("the data of an event {}", about(&refusal))))?;
        self.emitted = self.emitted_with(1, judge)?;
        self.weigh(event_type.len() + data.text.len(), judge)?;
        let id = EventId::new(judge.now);
        self.sent.push(Sent::Event {
            id,
            event_type,
            data: data.text,
        });
        Ok(id.to_string())
    }

    fn submit(&mut self, request: String, judge: &Judge<'_>) -> Result<String, Refused> {
        let read: TaskRequest = parse(request.as_bytes()).map_err(|refusal| Refused::invalid(&[error(refusal)]))?;
        judge.grants.may_submit(&read.task_name)?;
        let definition = (judge.accepts)(&read.task_name, &read.payload.value).map_err(|why| why.refused(""))?;
        if read.unique.is_some() {
            return Err(Refused::invalid(&[InputError {
                pointer: "/unique".to_owned(),
                detail: "a task that an attempt submits cannot be unique: its id is told before it is known whether its like is there"
                    .to_owned(),
            }]));
        }
        let checked = definition.map_or(Ok(()), |definition| read.check(&definition, judge.now));
        checked.map_err(|refusal| Refused::invalid(&[error(refusal)]))?;
        self.submitted = self.submitted_with(1, judge)?;
        self.weigh(request.len(), judge)?;
        let id = TaskId::new(judge.now);
        self.sent.push(Sent::Task { id, request });
        Ok(id.to_string())
    }

    /// Every step counts as a submission.
    fn submit_workflow(&mut self, request: String, judge: &Judge<'_>) -> Result<String, Refused> {
        let invalid = |refusal| Refused::invalid(&[error(refusal)]);
        let read: WorkflowRequest = parse(request.as_bytes()).map_err(invalid)?;
        read.graph().map_err(invalid)?;
        for (place, step) in read.steps.iter().enumerate() {
            judge.grants.may_submit(&step.task_name)?;
            let definition =
                (judge.accepts)(&step.task_name, &step.payload.value).map_err(|why| why.refused(&format!("/steps/{place}")))?;
            let checked = definition.map_or(Ok(()), |definition| step.check(place, &definition));
            checked.map_err(invalid)?;
        }
        let steps = u32::try_from(read.steps.len()).unwrap_or(u32::MAX);
        self.submitted = self.submitted_with(steps, judge)?;
        self.weigh(request.len(), judge)?;
        let id = WorkflowId::new(judge.now);
        self.sent.push(Sent::Workflow { id, request });
        Ok(id.to_string())
    }

    fn emitted_with(&self, more: u32, judge: &Judge<'_>) -> Result<u32, Refused> {
        counted(self.emitted, more, judge.limits.max_emits, "emit", "executor.max_emits")
    }

    fn submitted_with(&self, more: u32, judge: &Judge<'_>) -> Result<u32, Refused> {
        counted(self.submitted, more, judge.limits.max_submits, "submit", "executor.max_submits")
    }

    fn weigh(&mut self, bytes: usize, judge: &Judge<'_>) -> Result<(), Refused> {
        let limit = judge.limits.outbox_limit.as_u64();
        let bytes = self.bytes + (bytes + COST) as u64;
        if bytes > limit {
            let why = format!(
                "an attempt may emit and submit {limit} bytes in all (executor.outbox_limit): send less, for example where it can be found"
            );
            return Err(Refused::new("fatal", why));
        }
        self.bytes = bytes;
        Ok(())
    }

    /// What becomes real if the attempt is ok: it stands one deeper than who sent it.
    pub fn sealed(self, depth: u32) -> outbox::Outbox {
        outbox::Outbox {
            depth: depth + 1,
            sent: self.sent,
        }
    }
}

fn too_deep() -> String {
    format!(
        "this task stands at the end of a chain of {MAX_DEPTH}, in which each was sent by the one before, and no chain may be longer: a loop \
         of events or submissions would never end"
    )
}

fn counted(so_far: u32, more: u32, most: u32, verb: &str, option: &str) -> Result<u32, Refused> {
    let count = so_far.saturating_add(more);
    match count <= most {
        true => Ok(count),
        false => Err(Refused::new("fatal", format!("an attempt may {verb} {most} times ({option})"))),
    }
}

/// `/a/b: must be …`, or the sentence alone.
fn about(refusal: &Refusal) -> String {
    let Refusal { pointer, sentence, .. } = refusal;
    if pointer.is_empty() {
        sentence.clone()
    } else {
        format!("{sentence} at {pointer:?}")
    }
}

fn error(refusal: Refusal) -> InputError {
    InputError {
        pointer: refusal.pointer,
        detail: refusal.sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::capabilities::Pattern;
    use bytesize::ByteSize;

    struct Bench {
        limits: executor::Options,
        grants: Grants,
        accepts: Accepts,
        full: bool,
        depth: u32,
        outbox: Outbox,
    }

    impl Bench {
        fn new() -> Self {
            let refused = || {
                NotAccepted::Invalid(vec![InputError {
                    pointer: "/payload/n".into(),
                    detail: "is odd".into(),
                }])
            };
            Self {
                limits: executor::Options::default(),
                grants: Grants {
                    events: vec![Pattern::new("e.*")],
                    submit: vec![Pattern::new("t*")],
                    ..Grants::default()
                },
                accepts: Arc::new(move |name, _| match name {
                    "tasks" => Ok(None),
                    "to_come" => Err(NotAccepted::NotYet("still loading".into())),
                    _ => Err(refused()),
                }),
                full: false,
                depth: 0,
                outbox: Outbox::default(),
            }
        }

        fn take(&mut self, what: Outgoing) -> Result<String, Refused> {
            let judge = Judge {
                limits: &self.limits,
                grants: &self.grants,
                accepts: &self.accepts,
                full: self.full,
                depth: self.depth,
                now: Time::UNIX_EPOCH,
            };
            self.outbox.take(what, &judge)
        }

        fn emit(&mut self, event_type: &str, data: &str) -> Result<String, Refused> {
            self.take(Outgoing::Event {
                event_type: event_type.into(),
                data: data.into(),
            })
        }

        fn submit(&mut self, request: &str) -> Result<String, Refused> {
            self.take(Outgoing::Task(request.into()))
        }
    }

    #[test]
    fn what_is_taken_is_sealed_in_order_and_one_deeper() {
        let mut bench = Bench::new();
        let event = bench.emit("e.x", r#"{"n": 1.00}"#).unwrap();
        let task = bench.submit(r#"{"task_name":"tasks"}"#).unwrap();
        let sealed = bench.outbox.sealed(3);
        assert_eq!(sealed.depth, 4);
        let Sent::Event { id, data, .. } = &sealed.sent[0] else { panic!() };
        assert_eq!((id.to_string(), data.as_str()), (event, r#"{"n": 1.00}"#));
        assert!(matches!(&sealed.sent[1], Sent::Task { id, .. } if id.to_string() == task));
    }

    #[test]
    fn what_is_wrong_is_told_at_once() {
        let mut bench = Bench::new();
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100), "]".repeat(100));
        for (event_type, data, kind, word) in [
            ("e x", "{}", "fatal", "1 to 256 characters"),
            ("f", "{}", "denied", r#"events = ["f"]"#),
            ("e.x", "[1]", "fatal", "object"),
            ("e.x", "{", "fatal", "JSON"),
            ("e.x", &deep, "fatal", "100 levels"),
        ] {
            let refused = bench.emit(event_type, data).unwrap_err();
            assert_eq!(refused.kind, kind, "{refused:?}");
            assert!(refused.message.contains(word), "{refused:?}");
        }
        for (request, kind, word) in [
            (r#"{"task_name":"other"}"#, "denied", r#"submit = ["other"]"#),
            (r#"{"task_name":"tasks","priority":0}"#, "invalid_input", "/priority"),
            (r#"{"task_name":"tasks","x":0}"#, "invalid_input", "/x"),
            (r#"{"task_name":"t"}"#, "invalid_input", "/payload/n"),
            (r#"{"task_name":"to_come"}"#, "retryable", "still loading"),
            (r#"{"task_name":"other","task_name":"tasks"}"#, "invalid_input", "task_name"),
            ("nonsense", "invalid_input", ""),
        ] {
            let refused = bench.submit(request).unwrap_err();
            assert_eq!(refused.kind, kind, "{refused:?}");
            let details = refused.details.clone().unwrap_or_default().to_string();
            assert!(refused.message.contains(word) || details.contains(word), "{refused:?}");
        }
        assert_eq!(bench.outbox.sealed(0).sent, []);
    }

    #[test]
    fn a_workflow_is_judged_step_by_step() {
        let mut bench = Bench::new();
        let workflow = |second: &str| format!(r#"{{"steps":[{{"key":"a","task_name":"tasks"}},{{"key":"b",{second}}}]}}"#);
        for (second, kind, word) in [
            (r#""task_name":"other""#, "denied", r#"submit = ["other"]"#),
            (r#""task_name":"t""#, "invalid_input", "/steps/1/payload/n"),
            (r#""task_name":"tasks","needs":["c"]"#, "invalid_input", "/steps/1/needs/0"),
            (r#""task_name":"tasks","priority":0"#, "invalid_input", "/steps/1/priority"),
        ] {
            let refused = bench.take(Outgoing::Workflow(workflow(second))).unwrap_err();
            assert_eq!(refused.kind, kind, "{refused:?}");
            let details = refused.details.clone().unwrap_or_default().to_string();
            assert!(refused.message.contains(word) || details.contains(word), "{refused:?}");
        }
        bench.limits.max_submits = 3;
        let good = workflow(r#""task_name":"tasks","needs":["a"]"#);
        let id = bench.take(Outgoing::Workflow(good.clone())).unwrap();
        assert!(
            bench
                .take(Outgoing::Workflow(good))
                .unwrap_err()
                .message
                .contains("executor.max_submits")
        );
        let sealed = bench.outbox.sealed(0);
        assert!(matches!(&sealed.sent[..], [Sent::Workflow { id: kept, .. }] if kept.to_string() == id));
    }

    #[test]
    fn each_cap_trips() {
        let mut bench = Bench::new();
        (bench.limits.max_emits, bench.limits.max_submits) = (2, 1);
        bench.emit("e.x", "{}").unwrap();
        bench.submit(r#"{"task_name":"tasks"}"#).unwrap();
        bench.emit("e.x", "{}").unwrap();
        let unread = "not even looked at";
        assert!(bench.emit("e.x", unread).unwrap_err().message.contains("executor.max_emits"));
        assert!(bench.submit(unread).unwrap_err().message.contains("executor.max_submits"));
        let mut bench = Bench::new();
        bench.limits.outbox_limit = ByteSize(200);
        bench.emit("e.x", "{}").unwrap();
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(100));
        assert!(bench.emit("e.x", &long).unwrap_err().message.contains("executor.outbox_limit"));
        bench.depth = MAX_DEPTH;
        assert!(bench.emit("e.x", "{}").unwrap_err().message.contains("chain of 16"));
        bench.depth = MAX_DEPTH - 1;
        bench.emit("e.x", "{}").unwrap();
        bench.full = true;
        assert_eq!(bench.emit("e.x", "{}").unwrap_err().kind, "retryable");
        assert_eq!(bench.submit(r#"{"task_name":"tasks"}"#).unwrap_err().kind, "retryable");
    }
}
