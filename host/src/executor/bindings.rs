//! The contract of `wit/task-plugin.wit` as Rust: generated, so that host and guest cannot drift apart.
//!
//! Only what waits for the worker is async; what is called too often is slowed down after the call (see `journal`).

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin-full",
    imports: {
        "taskhost:plugin/checkpoint.save": async,
        "taskhost:plugin/checkpoint.load": async,
        "taskhost:plugin/events.emit": async,
        "taskhost:plugin/tasks.submit": async,
        "taskhost:plugin/tasks.submit-workflow": async,
    },
    exports: { default: async },
});
