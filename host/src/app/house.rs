//! The host's life: everything started forward, and stopped so that nothing acknowledged is lost.
//!
//! Stopping goes: take nothing new and claim nothing more; let attempts finish for their grace, while the API still tells how it
//! goes; hand back the rest; close the door; close the store last.

use super::dev;
use crate::clock::Clock;
use crate::config::Config;
use crate::executor::{Engine, Processors};
use crate::model::ids::NodeId;
use crate::monitor::{Monitor, retention};
use crate::registry::{self, Registry};
use crate::store::Store;
use crate::store::sqlite::Sqlite;
use crate::{api, scheduler, worker};
use anyhow::Context;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

/// Everything that runs, with what it takes to stop it.
struct House {
    store: Arc<dyn Store>,
    registry: Registry,
    registry_loop: JoinHandle<()>,
    worker: worker::Handle,
    state: api::State,
    stop: watch::Sender<bool>,
    scheduler: JoinHandle<Result<(), scheduler::Stopped>>,
}

pub(super) async fn run(config: Config, file: Option<PathBuf>, guests: &Handle, is_dev: bool) -> anyhow::Result<()> {
    let listen = config.server.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("{listen} cannot be listened on; choose another with --listen"))?;
    let address = listener.local_addr()?;
    let grace = Duration::try_from_secs_f64(config.worker.shutdown_grace)?;
    let mut house = build(&config, file, guests).await?;
    let (close, closed) = oneshot::channel::<()>();
    let door = tokio::spawn(api::serve(listener, house.state.clone(), async {
        let _ = closed.await;
    }));
    say(&format!("taskhost {} listens on http://{address}", env!("CARGO_PKG_VERSION")));
    if is_dev {
        let (registry, data) = (house.registry.clone(), config.store.data.clone());
        tokio::spawn(async move {
            let _ = registry.changes().wait_for(|_| registry.snapshot().ready).await;
            say(&dev::what_to_try(&registry.snapshot(), address, &data));
        });
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut house.scheduler => {
            ended.context("the scheduler died")?.context("the scheduler cannot work")?;
        }
    }
    tracing::info!(
        "stopping: attempts may take {} s to finish; a second signal ends it at once",
        grace.as_secs_f64()
    );
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        tracing::warn!("ended at once; what ran is found lost at the next start");
        std::process::exit(130);
    });
    house.state.stop();
    house.stop.send_replace(true);
    if !house.scheduler.is_finished() {
        let _ = house.scheduler.await;
    }
    house.worker.drain(grace).await;
    drop(close);
    let _ = door.await;
    house.registry.stop().await;
    let _ = house.registry_loop.await;
    house.store.close().await;
    tracing::info!("stopped");
    Ok(())
}

async fn build(config: &Config, file: Option<PathBuf>, guests: &Handle) -> anyhow::Result<House> {
    let clock = Clock::System;
    let data = config.store.data.clone();
    let opened = tokio::task::spawn_blocking(move || Sqlite::open(&data)).await?;
    let store: Arc<dyn Store> = Arc::new(opened?);
    let node = NodeId::new(clock.now());
    let engine = Engine::new(
        &config.executor,
        config.worker.slots,
        config.store.data.join("cache"),
        clock.clone(),
    )?;
    let context = registry::Context {
        config_file: file,
        data_dir: config.store.data.clone(),
        executor: config.executor.clone(),
    };
    let (registry, registry_loop) = Registry::start(config.plugins.clone(), engine, store.clone(), clock.clone(), context)?;
    let monitor = Monitor::default();
    let told = monitor.clone();
    store.observe(Box::new(move |committed| told.committed(committed)));
    let [wake, replan, unfold, sent] = [(); 4].map(|()| Arc::new(Notify::new()));
    let outbox_full = Arc::new(AtomicBool::new(false));
    let worker = worker::Handle::new(
        &config.worker,
        worker::Context {
            store: store.clone(),
            monitor: monitor.clone(),
            clock: clock.clone(),
            node,
            executor: config.executor.clone(),
            processors: Processors::new(super::processors(), config.worker.slots, wake.clone()),
            wake: wake.clone(),
            accepts: scheduler::accepts(registry.clone()),
            outbox_full: outbox_full.clone(),
            sent: sent.clone(),
        },
        guests.clone(),
    );
    let context = scheduler::Context {
        store: store.clone(),
        registry: registry.clone(),
        worker: worker.clone(),
        monitor: monitor.clone(),
        clock: clock.clone(),
        node,
        wake,
        replan,
        unfold,
        filters: scheduler::Filters::default(),
        outbox_full,
        sent,
    };
    let (stop, stopped) = watch::channel(false);
    let handle = scheduler::Handle::new(context.clone());
    let state = api::State::new(
        store.clone(),
        registry.clone(),
        monitor,
        handle,
        clock.clone(),
        config.monitor.clone(),
        config.server.clone(),
    );
    tokio::spawn(worker.clone().keep_leases());
    tokio::spawn(retention::keep_pruned(config.monitor.clone(), store.clone(), clock));
    let scheduler = tokio::spawn(scheduler::run(context, stopped));
    Ok(House {
        store,
        registry,
        registry_loop,
        worker,
        state,
        stop,
        scheduler,
    })
}

/// A line for whoever started this. A closed stdout is no reason to stop.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
