//! Small hand-written components, run for real: each trips one limit.

use super::capabilities::Grants;
use super::compile::CompileIn;
use super::*;
use crate::clock::Clock;
use crate::model::attempt::Class;
use crate::model::priority::Priority;
use crate::model::room::Load;
use std::time::Instant;

/// A component whose `run` and `describe` have these bodies. `$ok` and `$say` answer with `{}` and an empty list of tasks.
fn component(run: &str, describe: &str) -> Vec<u8> {
    described(run, describe, "{}")
}

/// A plugin that describes itself so and answers every task with `{}`.
pub(crate) fn plugin(document: &serde_json::Value) -> Vec<u8> {
    described(OK, "(i32.const 144)", &document.to_string())
}

fn described(run: &str, describe: &str, document: &str) -> Vec<u8> {
    let escape = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
    let length = escape(&u32::try_from(document.len()).unwrap().to_le_bytes());
    let document = escape(document.as_bytes());
    let text = format!(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (table 1 funcref)
                (data (i32.const 0) "\00\00\00\00\20\00\00\00\02\00\00\00")
                (data (i32.const 16) "\20\00\00\00\02\00\00\00")
                (data (i32.const 32) "{{}}not json")
                (data (i32.const 64) "\00\00\00\00\22\00\00\00\08\00\00\00")
                (data (i32.const 96) "\00\00\00\00\00\00\01\00\00\00\c0\00")
                (data (i32.const 112) "\00\00\00\00\00\00\01\00\00\00\80\02")
                (data (i32.const 128) "\00\00\00\00\ff\ff\ff\7f\02\00\00\00")
                (data (i32.const 144) "\00\20\00\00{length}")
                (data (i32.const 8192) "{document}")
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                (func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))
                (func (export "run") (param i32 i32 i32 i32) (result i32) {run})
                (func (export "describe") (result i32) {describe}))
            (core instance $i (instantiate $m))
            (type $record (record (field "kind" string) (field "message" string) (field "details" (option string))))
            (export $failure "failure" (type $record))
            (func $describe (result string) (canon lift (core func $i "describe") (memory (core memory $i "memory"))))
            (func $run (param "name" string) (param "input" string) (result (result string (error $failure)))
                (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
            (instance $handler (export "failure" (type $failure)) (export "describe" (func $describe)) (export "run" (func $run)))
            (export "taskhost:plugin/handler@1.0.0" (instance $handler)))"#
    );
    wat::parse_str(text).unwrap()
}

const OK: &str = "(i32.const 0)";
const SAY: &str = "(i32.const 16)";
const LOOP: &str = "(loop $l (br $l)) unreachable";

struct Bench {
    engine: Engine,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Self::engine(dir.path());
        Self { engine, dir }
    }

    fn engine(dir: &std::path::Path) -> Engine {
        Engine::with_compiler(&Options::default(), 2, dir.join("code"), Clock::System, CompileIn::Here).unwrap()
    }

    async fn load(&self, bytes: Vec<u8>) -> Result<Code, LoadError> {
        load(&self.engine, bytes).await
    }

    async fn run(&self, run: &str) -> Report {
        let code = self.load(component(run, SAY)).await.unwrap();
        code.execute(request(|_| ())).await
    }
}

async fn load(engine: &Engine, bytes: Vec<u8>) -> Result<Code, LoadError> {
    use sha2::{Digest, Sha256};
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    engine.load(bytes.into(), &sha256, Grants::default()).await
}

fn request(change: impl FnOnce(&mut Limits)) -> AttemptRequest {
    let mut limits = Options::default().limits(Duration::from_secs(5), 1_000_000_000, 1 << 20);
    change(&mut limits);
    AttemptRequest {
        task_name: "t".into(),
        input: "{}".into(),
        number: 1,
        document: None,
        limits,
        cancelled: Arc::default(),
        calls: mpsc::unbounded_channel().0,
        progress: watch::channel(None).0,
        ticket: Processors::new(1, 1, Arc::default()).ticket("t", Priority::NORMAL),
    }
}

#[tokio::test]
async fn an_attempt_answers_and_is_measured() {
    let report = Bench::new().run(OK).await;
    assert_eq!(report.outcome, Outcome::Ok { result: "{}".into() });
    assert_eq!(report.usage.peak_memory, Some(64 << 10));
    assert!(report.usage.fuel_used.is_some_and(|fuel| (1..1_000).contains(&fuel)), "{report:?}");
}

#[tokio::test]
async fn each_limit_has_its_outcome() {
    let bench = Bench::new();
    let fuel = bench.run(LOOP).await;
    assert_eq!(fuel.outcome, Outcome::OutOfFuel { limit: 1_000_000_000 });
    assert_eq!(fuel.usage.fuel_used, Some(1_000_000_000));
    let memory = bench.run("(drop (memory.grow (i32.const 16))) (i32.const 0)").await;
    assert_eq!(memory.outcome, Outcome::OutOfMemory { limit: 1 << 20 });
    assert_eq!(memory.usage.peak_memory, Some(64 << 10));
    let stack = bench.run("(call $deep (i32.const 0))").await;
    assert!(stack.outcome.message().unwrap().contains("stack overflowed"), "{stack:?}");
    let trap = bench.run("unreachable").await;
    assert!(matches!(&trap.outcome, Outcome::Trap { details: Some(_), .. }), "{trap:?}");
    let no_json = bench.run("(i32.const 64)").await;
    assert_eq!(no_json.outcome.code(), "fatal");
    let nowhere = bench.run("(i32.const 128)").await;
    assert!(nowhere.outcome.message().unwrap().contains("cannot be read"), "{nowhere:?}");
    // 12 and 40 MiB of result, in a memory that may be so large.
    for at in ["96", "112"] {
        let run = format!("(drop (memory.grow (i32.const 800))) (i32.const {at})");
        let code = bench.load(component(&run, SAY)).await.unwrap();
        let large = code.execute(request(|limits| limits.memory = 64 << 20)).await;
        assert!(
            matches!(
                large.outcome,
                Outcome::Error {
                    class: Class::ResultTooLarge,
                    ..
                }
            ),
            "{large:?}"
        );
    }
}

#[tokio::test]
async fn the_wall_clock_stops_a_hot_loop_and_so_does_dropping_it() {
    let bench = Bench::new();
    let code = bench.load(component(LOOP, SAY)).await.unwrap();
    let report = code
        .execute(request(|limits| {
            limits.timeout = Duration::from_millis(50);
            limits.fuel = u64::MAX;
        }))
        .await;
    assert_eq!(report.outcome.code(), "timeout");
    let endless = code.execute(request(|limits| limits.fuel = u64::MAX));
    assert!(tokio::time::timeout(Duration::from_millis(50), endless).await.is_err());
}

#[test]
fn long_turns_do_not_put_a_timeout_off() {
    const FILLED: u64 = 512 << 20; // bytes, and so much fuel
    let fill = format!(
        "(drop (memory.grow (i32.const 8191))) (loop $l
        (memory.fill (i32.const 0) (i32.const 1) (i32.const {FILLED})) (br $l)) unreachable"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let code = Bench::new().load(component(&fill, SAY)).await.unwrap();
        let run = |code: Code| async move {
            let wait = request(|limits| {
                (limits.timeout, limits.fuel, limits.memory) = (Duration::from_millis(200), u64::MAX, 512 << 20);
            });
            code.execute(wait).await
        };
        let report = tokio::spawn(run(code)).await.unwrap();
        assert_eq!(report.outcome.code(), "timeout");
        // A turn takes some tens of milliseconds at least. Left to its timers, the runtime would look at them after sixty-one.
        let turns = report.usage.fuel_used.unwrap() / FILLED;
        assert!(turns < 30, "{turns} turns");
    });
}

#[tokio::test]
async fn describing_is_bounded_like_an_attempt() {
    let bench = Bench::new();
    assert_eq!(bench.load(component(OK, SAY)).await.unwrap().describe().await.unwrap(), "{}");
    for (body, why) in [
        (LOOP, "1 s"),
        ("unreachable", "trapped"),
        ("(drop (memory.grow (i32.const 4096))) (i32.const 16)", "memory"),
    ] {
        let code = bench.load(component(OK, body)).await.unwrap();
        let error = code.describe().await.unwrap_err().to_string();
        assert!(
            error.contains("describe") && (error.contains(why) || error.contains("fuel")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_no_plugin_is_refused_with_the_reason() {
    let bench = Bench::new();
    let good = component(OK, SAY);
    let cases: [(Vec<u8>, &str); 7] = [
        (vec![], "empty"),
        (b"hello".to_vec(), "not WebAssembly"),
        (wat::parse_str("(module)").unwrap(), "core module"),
        (good[..good.len() / 2].to_vec(), "truncated"),
        (good[..6].to_vec(), "truncated"),
        (wat::parse_str("(component)").unwrap(), "another world"),
        (
            wat::parse_str(r#"(component (import "a:b/c@1.0.0" (instance $x)) (export "taskhost:plugin/handler@1.0.0" (instance $x)))"#)
                .unwrap(),
            "a:b/c@1.0.0",
        ),
    ];
    for (bytes, why) in cases {
        let error = bench.load(bytes).await.unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    let code = super::engine::code_settings();
    let code = wasmtime::Engine::new(&code).unwrap().precompile_component(&good).unwrap();
    assert!(bench.load(code).await.unwrap_err().to_string().contains("precompiled"));
}

#[tokio::test]
async fn compiled_code_is_kept_and_a_damaged_file_made_again() {
    let bench = Bench::new();
    let wasm = component(OK, SAY);
    assert!(bench.load(wasm.clone()).await.unwrap().compile_time().is_some());
    let again = Bench::engine(bench.dir.path());
    assert!(load(&again, wasm.clone()).await.unwrap().compile_time().is_none());
    let kept = std::fs::read_dir(bench.dir.path().join("code")).unwrap().next().unwrap().unwrap();
    let code = std::fs::read(kept.path()).unwrap();
    drop(again);
    std::fs::remove_file(kept.path()).unwrap();
    std::fs::write(kept.path(), &code[..code.len() / 2]).unwrap();
    let other = Bench::engine(bench.dir.path());
    assert!(load(&other, wasm).await.unwrap().compile_time().is_some());
}

/// A component that does nothing but draw random bytes, 64 KiB at a time, by `run` and by `describe`.
fn drawing() -> Vec<u8> {
    let text = r#"(component
        (import "wasi:random/random@0.2.0" (instance $random
            (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
        (core module $libc
            (memory (export "memory") 4)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
        (core instance $libc (instantiate $libc))
        (core func $draw (canon lower (func $random "get-random-bytes")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core module $m
            (import "host" "draw" (func $draw (param i64 i32)))
            (func $ever (result i32) (loop $l (call $draw (i64.const 65536) (i32.const 0)) (br $l)) unreachable)
            (func (export "run") (param i32 i32 i32 i32) (result i32) (call $ever))
            (func (export "describe") (result i32) (call $ever)))
        (core instance $i (instantiate $m (with "host" (instance (export "draw" (func $draw))))))
        (type $record (record (field "kind" string) (field "message" string) (field "details" (option string))))
        (export $failure "failure" (type $record))
        (func $describe (result string) (canon lift (core func $i "describe") (memory (core memory $libc "memory"))))
        (func $run (param "name" string) (param "input" string) (result (result string (error $failure)))
            (canon lift (core func $i "run") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (instance $handler (export "failure" (type $failure)) (export "describe" (func $describe)) (export "run" (func $run)))
        (export "taskhost:plugin/handler@1.0.0" (instance $handler)))"#;
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn calls_of_the_system_take_turns_and_are_counted_like_any_other() {
    let bench = Bench::new();
    let code = bench.load(drawing()).await.unwrap();
    let report = code.execute(request(|limits| limits.timeout = Duration::from_millis(300))).await;
    assert_eq!(report.outcome.code(), "timeout");
    let slowed = code.execute(request(|limits| {
        (limits.calls_per_second, limits.timeout) = (10, Duration::from_millis(300));
    }));
    let fuel = slowed.await.usage.fuel_used.unwrap();
    assert!(fuel < report.usage.fuel_used.unwrap() && fuel < 1_000, "{fuel}");
    let error = code.describe().await.unwrap_err().to_string();
    assert!(error.contains("1 s"), "{error}");
}

/// A component that waits for as many copies of one moment that has come as one call takes.
fn polling(copies: u32) -> Vec<u8> {
    let text = format!(
        r#"(component
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $pollable (sub resource)))
            (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $outer))
            (export "pollable" (type $pollable (eq $outer)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
        (core module $libc
            (memory (export "memory") 256)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8388608)))
        (core instance $libc (instantiate $libc))
        (core func $poll (canon lower (func $poll "poll")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core func $now (canon lower (func $clock "subscribe-duration")))
        (core module $m
            (import "libc" "memory" (memory 1))
            (import "host" "poll" (func $poll (param i32 i32 i32)))
            (import "host" "now" (func $now (param i64) (result i32)))
            (func $ever (result i32) (local $at i32) (local $handle i32)
                (local.set $handle (call $now (i64.const 0)))
                (loop $fill
                    (i32.store offset=16 (local.get $at) (local.get $handle))
                    (local.set $at (i32.add (local.get $at) (i32.const 4)))
                    (br_if $fill (i32.lt_u (local.get $at) (i32.const {}))))
                (loop $l (call $poll (i32.const 16) (i32.const {copies}) (i32.const 0)) (br $l)) unreachable)
            (func (export "run") (param i32 i32 i32 i32) (result i32) (call $ever))
            (func (export "describe") (result i32) (call $ever)))
        (core instance $i (instantiate $m (with "libc" (instance $libc))
            (with "host" (instance (export "poll" (func $poll)) (export "now" (func $now))))))
        (type $record (record (field "kind" string) (field "message" string) (field "details" (option string))))
        (export $failure "failure" (type $record))
        (func $describe (result string) (canon lift (core func $i "describe") (memory (core memory $libc "memory"))))
        (func $run (param "name" string) (param "input" string) (result (result string (error $failure)))
            (canon lift (core func $i "run") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (instance $handler (export "failure" (type $failure)) (export "describe" (func $describe)) (export "run" (func $run)))
        (export "taskhost:plugin/handler@1.0.0" (instance $handler)))"#,
        copies * 4
    );
    wat::parse_str(text).unwrap()
}

#[tokio::test]
async fn a_call_of_the_system_is_short_however_much_it_is_given() {
    let bench = Bench::new();
    let code = bench.load(polling(9_000)).await.unwrap();
    let wait = |limits: &mut Limits| (limits.timeout, limits.memory) = (Duration::from_millis(300), 64 << 20);
    let report = code.execute(request(wait)).await;
    assert_eq!(report.outcome.code(), "timeout", "{report:?}");
    let more = bench.load(polling(11_000)).await.unwrap().execute(request(wait)).await;
    assert!(more.outcome.message().unwrap().contains("handle limit"), "{more:?}");
}

/// Runs tasks on one thread, as the host does, and gives back how each ended, in the order in which they did.
fn run_all(processors: &Processors, tasks: Vec<(&'static str, i64, Code, Duration)>) -> Vec<(&'static str, Report)> {
    let runtime = guest_runtime(1).unwrap();
    runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for (name, priority, code, timeout) in tasks {
            let ticket = processors.ticket(name, Priority::new(priority).unwrap());
            let request = AttemptRequest {
                ticket,
                ..request(|limits| (limits.timeout, limits.fuel) = (timeout, 40_000_000_000))
            };
            running.spawn(async move { (name, code.execute(request).await) });
        }
        let mut ended = Vec::new();
        while let Some(one) = running.join_next().await {
            ended.push(one.unwrap());
        }
        ended
    })
}

/// Loops until so many turns are done, some tenths of a second at least, and is ok.
const BURN: &str = "(local $n i64) (loop $l (local.set $n (i64.add (local.get $n) (i64.const 1)))
    (br_if $l (i64.lt_u (local.get $n) (i64.const 300000000)))) (i32.const 0)";

async fn burning() -> Code {
    let burn = component(BURN, SAY);
    Bench::new().load(burn).await.unwrap()
}

#[test]
fn who_burns_waits_its_turn_and_its_timeout_with_it() {
    let code = guest_runtime(1).unwrap().block_on(burning());
    let processors = Processors::new(1, 16, Arc::default());
    let many = (0..9).map(|_| ("burn", 5, code.clone(), Duration::from_secs(60))).collect();
    let begun = Instant::now();
    let ended = run_all(&processors, many);
    let wall = begun.elapsed();
    assert!(ended.iter().all(|(_, report)| report.outcome.code() == "ok"), "{ended:?}");
    // On one thread no two ran at once: what each is told to have run adds up to no more than the time that passed, on any machine.
    let ran: Duration = ended.iter().map(|(_, report)| report.execution_time).sum();
    assert!(ran <= wall + Duration::from_millis(200), "{ran:?} of {wall:?}: waits were counted");
    let waited: Duration = ended.iter().filter_map(|(_, report)| report.usage.processor_wait).sum();
    assert!(waited > wall, "{waited:?} of {wall:?}");
    assert!(
        processors.load("burn") == Load::Burns && processors.in_use() == (1, 0, 0),
        "all turns are given back"
    );
    assert_eq!(processors.room(), (2, [2; 9]));
}

#[test]
fn who_is_more_urgent_burns_first_and_who_burnt_before_loses_nothing() {
    let code = guest_runtime(1).unwrap().block_on(burning());
    let processors = Processors::new(1, 16, Arc::default());
    let task = |name, priority| (name, priority, code.clone(), Duration::from_secs(60));
    let ended = run_all(&processors, vec![task("late", 9), task("normal", 5), task("urgent", 1)]);
    let names: Vec<&str> = ended.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["urgent", "normal", "late"]);
    assert!(ended.iter().all(|(_, report)| report.outcome.code() == "ok"));
    let waited = |place: usize| ended[place].1.usage.processor_wait.unwrap();
    assert!(waited(2) > waited(0), "{ended:?}");
}

#[test]
fn an_endless_loop_is_stopped_beside_others_and_they_go_on() {
    let runtime = guest_runtime(1).unwrap();
    let (code, endless) = runtime.block_on(async { (burning().await, Bench::new().load(component(LOOP, SAY)).await.unwrap()) });
    let processors = Processors::new(1, 16, Arc::default());
    let short = Duration::from_millis(200);
    let mut tasks: Vec<_> = (0..3).map(|_| ("loop", 5, endless.clone(), short)).collect();
    tasks.push(("burn", 5, code, Duration::from_secs(60)));
    for (name, report) in run_all(&processors, tasks) {
        let expected = if name == "loop" { "timeout" } else { "ok" };
        assert_eq!(report.outcome.code(), expected, "{report:?}");
    }
}
