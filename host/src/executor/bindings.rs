//! The contract of `wit/task-plugin.wit` as Rust: generated, so that host and guest cannot drift apart.
//!
//! Only what may have to wait is async: answers from the store, and calls that are slowed down when there are too many.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin-full",
    imports: {
        "taskhost:plugin/checkpoint.save": async,
        "taskhost:plugin/checkpoint.load": async,
        "taskhost:plugin/context.progress": async,
        "taskhost:plugin/log.write": async,
        "taskhost:plugin/events.emit": async,
        "taskhost:plugin/tasks.submit": async,
        "taskhost:plugin/tasks.submit-workflow": async,
    },
    exports: { default: async },
});
