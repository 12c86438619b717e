//! The contract is frozen: every signature of version 1.0.0 stands here once more. A component that was built against it
//! stops loading when one changes, so this test may grow by new lines and must never lose or alter one.

const FROZEN: &[&str] = &[
    "package taskhost:plugin@1.0.0;",
    "interface types { record failure { kind: string, message: string, details: option<string>, } }",
    "interface handler { use types.{failure}; describe: func() -> string;",
    "run: func(name: string, input: string) -> result<string, failure>; }",
    "interface context { attempt: func() -> string; is-cancelled: func() -> bool; remaining-ms: func() -> option<u64>;",
    "progress: func(done: u64, total: option<u64>, message: string);",
    "interface log { enum level { trace, debug, info, warn, error }",
    "write: func(level: level, message: string, fields: list<tuple<string, string>>);",
    "interface checkpoint { use types.{failure}; save: func(data: list<u8>) -> result<_, failure>; load: func() -> option<list<u8>>;",
    "interface events { use types.{failure}; emit: func(event-type: string, data: string) -> result<string, failure>;",
    "interface tasks { use types.{failure}; submit: func(request: string) -> result<string, failure>;",
    "submit-workflow: func(request: string) -> result<string, failure>;",
    "world plugin { import context; import log; import checkpoint; export handler; }",
    "world plugin-full { include plugin; import events; import tasks; }",
];

#[test]
fn no_signature_of_the_contract_has_changed() {
    let text = include_str!("../../wit/task-plugin.wit");
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    for line in FROZEN {
        assert!(code.contains(line), "gone or altered: {line}");
    }
}
