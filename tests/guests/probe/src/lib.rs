//! Handlers that do every good and bad thing that a handler can do, for the tests.
#![cfg_attr(
    not(target_arch = "wasm32"),
    allow(dead_code, reason = "built natively only because it is in the workspace")
)]

use std::hint::black_box;
use std::time::Duration;
use taskhost_sdk::prelude::*;
use taskhost_sdk::serde_json::Value;

#[derive(Deserialize, JsonSchema)]
struct Empty {}

#[derive(Deserialize, JsonSchema)]
struct Any {
    /// What to do it with.
    #[serde(default)]
    value: Value,
}

/// Patched by tests to make another version of this component: the same length, another text.
static VERSION: [u8; 24] = *b"probe-version-0000000001";

/// Does nothing.
#[task]
fn noop(_ctx: &Context, _input: Empty) -> TaskResult<()> {
    Ok(())
}

/// Gives its input back.
#[task(tags = ["echo", "demo"], priority = 3)]
fn echo(_ctx: &Context, input: Any) -> TaskResult<Value> {
    Ok(input.value)
}

/// Which component this is.
#[task]
fn version(_ctx: &Context, _input: Empty) -> TaskResult<String> {
    Ok(String::from_utf8_lossy(black_box(&VERSION)).into_owned())
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sum {
    a: u32,
    b: u32,
}

/// Adds two numbers, and insists on them.
#[task]
fn add(_ctx: &Context, input: Sum) -> TaskResult<u32> {
    Ok(input.a.wrapping_add(input.b))
}

/// What the handler may know of its attempt.
#[task(retries = 7)]
fn whoami(ctx: &Context, _input: Empty) -> TaskResult<Value> {
    Ok(json!({
        "task_id": ctx.task_id(), "attempt": ctx.attempt(), "max_attempts": ctx.max_attempts(),
        "idempotency_key": ctx.idempotency_key(), "tags": ctx.tags(), "remaining": ctx.remaining().map(|left| left.as_secs_f64()),
    }))
}

/// Burns CPU for ever.
#[task(retries = 0)]
fn spin(_ctx: &Context, _input: Empty) -> TaskResult<()> {
    loop {
        black_box(0);
    }
}

/// Waits in the host for ever.
#[task(retries = 0)]
fn sleep(_ctx: &Context, _input: Empty) -> TaskResult<()> {
    loop {
        std::thread::sleep(Duration::from_secs(3_600));
    }
}

/// Waits in the host for no time at all, again and again.
#[task(retries = 0)]
fn restless(_ctx: &Context, _input: Empty) -> TaskResult<()> {
    loop {
        std::thread::sleep(Duration::from_nanos(1));
    }
}

#[derive(Deserialize, JsonSchema)]
struct Nap {
    seconds: f64,
}

/// Waits in the host.
#[task]
fn nap(_ctx: &Context, input: Nap) -> TaskResult<f64> {
    std::thread::sleep(Duration::from_secs_f64(input.seconds));
    Ok(input.seconds)
}

/// As `nap`, and not to be repeated on a guess.
#[task(idempotent = false)]
fn pay(ctx: &Context, input: Nap) -> TaskResult<String> {
    std::thread::sleep(Duration::from_secs_f64(input.seconds));
    Ok(ctx.idempotency_key().to_owned())
}

/// Calls the host in a loop until it is told to stop.
#[task(retries = 0)]
fn busy(ctx: &Context, _input: Empty) -> TaskResult<u64> {
    let mut calls = 0;
    loop {
        calls += 1;
        // The SDK passes on a progress only when its message changes.
        ctx.progress(calls, None, calls.to_string());
    }
}

/// Sees its cancellation and says so.
#[task(retries = 0)]
fn polite(ctx: &Context, _input: Empty) -> TaskResult<()> {
    while !ctx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(5));
    }
    log::warn!("cancelled, cleaning up");
    Err(TaskError::cancelled())
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn deeper(n: u64) -> u64 {
    black_box(deeper(n + 1)) + n
}

/// Overflows its stack.
#[task(retries = 0)]
fn recurse(_ctx: &Context, _input: Empty) -> TaskResult<u64> {
    Ok(deeper(0))
}

/// Allocates for ever.
#[task(retries = 0)]
fn allocate(_ctx: &Context, _input: Empty) -> TaskResult<usize> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(black_box(vec![1; 1 << 20]));
    }
}

/// Panics.
#[task(retries = 0)]
fn panics(_ctx: &Context, _input: Empty) -> TaskResult<()> {
    panic!("the moon is full");
}

#[derive(Deserialize, JsonSchema)]
struct Count {
    count: u64,
}

/// Writes lines to its log.
#[task(retries = 0)]
fn log_lines(_ctx: &Context, input: Count) -> TaskResult<()> {
    for n in 0..input.count {
        log::info!(number = n; "line {n}");
    }
    println!("on stdout");
    eprintln!("on stderr");
    print!("without an end");
    Ok(())
}

/// Writes to its log for ever.
#[task(retries = 0)]
fn flood(_ctx: &Context, _input: Empty) -> TaskResult<()> {
    let line = "x".repeat(1_000);
    loop {
        log::info!("{line}");
        println!("{line}");
    }
}

#[derive(Deserialize, JsonSchema)]
struct Size {
    bytes: usize,
}

/// Returns a string of a size.
#[task(retries = 3)]
fn big_result(_ctx: &Context, input: Size) -> TaskResult<String> {
    Ok("x".repeat(input.bytes))
}

/// Fails until its checkpoint says that it has failed often enough.
#[task]
fn flaky(ctx: &Context, input: Count) -> TaskResult<u64> {
    let failed: u64 = ctx.checkpoint().load()?.unwrap_or(0);
    if failed < input.count {
        ctx.checkpoint().save(&(failed + 1))?;
        return Err(TaskError::retryable(format!("failed {} times", failed + 1)).after(0.01));
    }
    Ok(failed)
}

/// Fails at every attempt.
#[task]
fn fail(_ctx: &Context, _input: Empty) -> TaskResult<()> {
    Err(TaskError::retryable("no luck today"))
}

/// Will never work.
#[task]
fn fatal(_ctx: &Context, _input: Empty) -> TaskResult<()> {
    Err(TaskError::fatal("not in this life"))
}

/// Finds fault with its input.
#[task]
fn picky(_ctx: &Context, _input: Any) -> TaskResult<()> {
    Err(TaskError::invalid("/value", "is not to my taste"))
}

#[derive(Deserialize, JsonSchema)]
struct Keys {
    keys: Vec<String>,
}

/// Gives back the results of the steps that it needed, as far as it has them.
#[task(retries = 0)]
fn gather(ctx: &Context, input: Keys) -> TaskResult<Value> {
    let found = input
        .keys
        .iter()
        .filter_map(|key| Some((key.clone(), ctx.needs::<Value>(key).ok()?)));
    Ok(Value::Object(found.collect()))
}

/// Puts itself off once.
#[task]
fn snoozer(ctx: &Context, _input: Empty) -> TaskResult<u32> {
    if ctx.attempt() == 1 {
        return Err(snooze(0.05));
    }
    Ok(ctx.attempt())
}

/// Emits an event.
#[task(retries = 0)]
fn emitter(ctx: &Context, _input: Empty) -> TaskResult<String> {
    ctx.emit("test.event", &json!({}))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sends {
    /// `[event_type, data]`.
    #[serde(default)]
    emit: Vec<(String, Value)>,
    /// As for `POST /task/submit`.
    #[serde(default)]
    submit: Vec<Value>,
    /// As for `POST /workflow`.
    #[serde(default)]
    workflows: Vec<Value>,
    /// How often to do all that.
    #[serde(default = "once")]
    times: u32,
    /// `ok`, `fail`, `panic` or `sleep`.
    #[serde(default)]
    end: String,
}

fn once() -> u32 {
    1
}

/// Emits and submits what it is told to, and ends as it is told to. The ids, and the refusals in the place of an id.
#[task(retries = 0)]
fn send(ctx: &Context, input: Sends) -> TaskResult<Vec<Value>> {
    let mut answers = Vec::new();
    for _ in 0..input.times {
        answers.extend(input.emit.iter().map(|(event_type, data)| ctx.emit(event_type, data)));
        answers.extend(input.submit.iter().map(|request| ctx.submit(request)));
        answers.extend(input.workflows.iter().map(|request| ctx.submit_workflow(request)));
    }
    match input.end.as_str() {
        "fail" => return Err(TaskError::fatal("after all that")),
        "panic" => panic!("after all that"),
        "sleep" => std::thread::sleep(Duration::from_secs(3_600)),
        _ => {}
    }
    let told = |error: TaskError| json!({ "kind": error.kind().as_str(), "message": error.message(), "details": error.details() });
    Ok(answers.into_iter().map(|answer| answer.map_or_else(told, Value::from)).collect())
}

/// Submits itself.
#[task(retries = 0)]
fn again(ctx: &Context, _input: Empty) -> TaskResult<String> {
    ctx.submit(&json!({ "task_name": "again" }))
}

#[derive(Deserialize, JsonSchema)]
struct Path {
    path: String,
    #[serde(default)]
    write: Option<String>,
}

/// Reads or writes a file.
#[task(retries = 0)]
fn file(_ctx: &Context, input: Path) -> TaskResult<String> {
    match input.write {
        Some(text) => std::fs::write(&input.path, text).map(|()| String::new()).fatal(),
        None => std::fs::read_to_string(&input.path).fatal(),
    }
}

/// The environment, and whether a connection can be made.
#[task(retries = 0)]
fn surroundings(_ctx: &Context, _input: Empty) -> TaskResult<Value> {
    let environment: Vec<(String, String)> = std::env::vars().collect();
    let connected = std::net::TcpStream::connect("127.0.0.1:8080").is_ok();
    Ok(json!({ "environment": environment, "connected": connected }))
}

/// Says how far it is, then stays there.
#[task(retries = 0)]
fn halfway(ctx: &Context, _input: Empty) -> TaskResult<()> {
    ctx.progress(1, 2, "halfway there");
    log::info!("waiting");
    std::thread::sleep(Duration::from_secs(3_600));
    Ok(())
}

plugin!(
    noop,
    echo,
    version,
    add,
    whoami,
    spin,
    sleep,
    restless,
    nap,
    pay,
    busy,
    polite,
    recurse,
    allocate,
    panics,
    log_lines,
    flood,
    big_result,
    flaky,
    fail,
    fatal,
    picky,
    gather,
    snoozer,
    emitter,
    send,
    again,
    file,
    surroundings,
    halfway
);
