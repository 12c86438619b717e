//! One attempt is one fresh store and instance of a pre-linked component, under fuel and a memory limit.

use anyhow::Result;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

mod bindings {
    wasmtime::component::bindgen!({ path: "../wit", world: "plugin", exports: { default: async } });
}
use bindings::taskhost::plugin::{checkpoint, context, log, types};
use bindings::{Plugin, PluginPre};

pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl types::Host for State {}
impl log::Host for State {
    fn write(&mut self, _: log::Level, _: String, _: Vec<(String, String)>) {}
}
impl context::Host for State {
    fn attempt(&mut self) -> String {
        "{}".into()
    }
    fn is_cancelled(&mut self) -> bool {
        false
    }
    fn remaining_ms(&mut self) -> Option<u64> {
        None
    }
    fn progress(&mut self, _: u64, _: Option<u64>, _: String) {}
}
impl checkpoint::Host for State {
    fn save(&mut self, _: Vec<u8>) -> Result<(), types::Failure> {
        Ok(())
    }
    fn load(&mut self) -> Option<Vec<u8>> {
        None
    }
}

#[derive(Clone)]
pub(crate) struct Sandbox {
    engine: Engine,
    pre: PluginPre<State>,
}

impl Sandbox {
    /// `slots`: most instances alive at once.
    pub(crate) fn new(wasm: &[u8], slots: u32) -> Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(slots)
            .total_core_instances(slots * 8)
            .total_memories(slots)
            .total_tables(slots * 4)
            .total_stacks(slots)
            .max_memory_size(64 << 20)
            .linear_memory_keep_resident(2 << 20)
            .table_keep_resident(64 << 10)
            .pagemap_scan(Enabled::Auto);
        let mut config = Config::new();
        config
            .consume_fuel(true)
            .memory_reservation(64 << 20)
            .memory_guard_size(32 << 20)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let component = Component::new(&engine, wasm)?;
        let mut linker = Linker::<State>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        Plugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
        let pre = PluginPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self { engine, pre })
    }

    pub(crate) async fn run(&self, task: &str, payload: &str) -> Result<String> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(64 << 20)
            .instances(16)
            .memories(4)
            .tables(16)
            .build();
        let state = State {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
            limits,
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_fuel(u64::MAX)?;
        store.fuel_async_yield_interval(Some(1_000_000))?;
        let plugin = self.pre.instantiate_async(&mut store).await?;
        let result = plugin.taskhost_plugin_handler().call_run(&mut store, task, payload).await?;
        result.map_err(|failure| anyhow::anyhow!("{}", failure.message))
    }
}

/// Threads for guests only, at nice 10, as the product has them.
pub(crate) fn guest_runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("guest")
        .on_thread_start(|| {
            let _ = rustix::process::setpriority_process(None, 10);
        })
        .enable_all()
        .build()
}
