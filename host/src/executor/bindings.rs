//! The contract of `wit/task-plugin.wit` as Rust: generated, so that host and guest cannot drift apart.
//!
//! Only what waits for the store is async; what is called too often is slowed down after the call (see `journal`).

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin-full",
    imports: {
        "taskhost:plugin/checkpoint.save": async,
        "taskhost:plugin/checkpoint.load": async,
    },
    exports: { default: async },
});
