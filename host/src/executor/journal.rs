//! What a guest says while it runs: log lines, stdout and stderr, as lines of bounded number and length.
//!
//! Each line costs its text and [`LINE_COST`], so that a million empty lines end as surely as one endless line. Once the budget is
//! spent, one line of the host says so and the rest is dropped without being looked at.

use super::HostCall;
use super::limits::Throttle;
use crate::clock::Clock;
use crate::model::attempt::{Level, LogLine, Source};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc::UnboundedSender;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// What a line costs besides its text.
const LINE_COST: usize = 64;
/// Bytes of a line; a longer one goes on in the next.
const MAX_LINE: usize = 16 << 10;
/// Bytes of stderr that are kept for the report of a trap.
const TAIL: usize = 4 << 10;
/// How long a guest may keep its thread before a host call gives it up: fuel counts no work of the host, and a guest that hands it
/// 30 MiB at each call would otherwise pass its timeout, and hold up all others, for minutes.
const TURN: Duration = Duration::from_millis(1);
/// Bytes that a guest may write to a stream in one go.
const PERMIT: usize = 64 << 10;

/// Writes lines until the budget is spent.
#[derive(Debug)]
pub(crate) struct Journal {
    calls: Option<UnboundedSender<HostCall>>,
    clock: Clock,
    attempt: u32,
    limit: usize,
    left: usize,
    cut: bool,
    out: Vec<u8>,
    err: Vec<u8>,
    tail: Vec<u8>,
}

impl Journal {
    /// `limit` in bytes. Without `calls` nothing is kept but the end of stderr.
    pub(crate) fn new(calls: Option<UnboundedSender<HostCall>>, clock: Clock, attempt: u32, limit: usize) -> Self {
        Self {
            cut: calls.is_none(),
            calls,
            clock,
            attempt,
            limit,
            left: limit,
            out: Vec::new(),
            err: Vec::new(),
            tail: Vec::new(),
        }
    }

    /// Keeps one line, or says once that no more are kept.
    pub(crate) fn line(&mut self, level: Level, source: Source, message: String, fields: Map<String, Value>) {
        if self.cut {
            return;
        }
        let text = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(8, str::len) + 8;
        let cost = LINE_COST + message.len() + fields.iter().map(text).sum::<usize>();
        if cost > self.left {
            self.cut = true;
            let note = format!(
                "the log is cut here: an attempt may write {} bytes; the rest is dropped",
                self.limit
            );
            return self.send(Level::Warn, Source::Host, note, Map::new());
        }
        self.left -= cost;
        self.send(level, source, message, fields);
    }

    /// The host's own note; it costs the guest nothing, so callers bound how many there are.
    pub(crate) fn note(&self, message: String) {
        self.send(Level::Warn, Source::Host, message, Map::new());
    }

    fn send(&self, level: Level, source: Source, message: String, fields: Map<String, Value>) {
        let Some(calls) = &self.calls else { return };
        let line = LogLine {
            time: self.clock.now(),
            level,
            attempt: self.attempt,
            source,
            message,
            fields,
        };
        let _ = calls.send(HostCall::Log(line)); // nobody listens any more: the attempt is being stopped
    }

    /// Takes what was written to a stream and keeps its finished lines.
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Err {
            self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
            if self.tail.len() > 2 * TAIL {
                self.tail.drain(..self.tail.len() - TAIL);
            }
        }
        if self.cut {
            return;
        }
        let mut pending = std::mem::take(self.pending(stream));
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut piece = piece;
            while pending.len() + piece.len() > MAX_LINE {
                let at = boundary(piece, MAX_LINE - pending.len());
                pending.extend_from_slice(&piece[..at]);
                piece = &piece[at..];
                self.finish(stream, &mut pending);
            }
            pending.extend_from_slice(piece);
            if pending.ends_with(b"\n") {
                self.finish(stream, &mut pending);
            }
        }
        *self.pending(stream) = pending;
    }

    fn finish(&mut self, stream: Stream, pending: &mut Vec<u8>) {
        let text = pending.strip_suffix(b"\n").unwrap_or(pending);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let (level, source) = match stream {
            Stream::Out => (Level::Info, Source::Stdout),
            Stream::Err => (Level::Error, Source::Stderr),
        };
        if !self.cut {
            self.line(level, source, String::from_utf8_lossy(text).into_owned(), Map::new());
        }
        pending.clear();
    }

    fn pending(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }

    /// Keeps what was written without a line break at its end.
    pub(crate) fn flush(&mut self) {
        for stream in [Stream::Out, Stream::Err] {
            let mut pending = std::mem::take(self.pending(stream));
            if !pending.is_empty() {
                self.finish(stream, &mut pending);
            }
        }
    }

    /// The end of stderr.
    pub(crate) fn stderr(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        super::answer::end(&text, TAIL).to_owned()
    }
}

/// Where to cut at most `at` bytes off, so that no character of UTF-8 is torn where it is UTF-8.
fn boundary(bytes: &[u8], at: usize) -> usize {
    let inside = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xC0 == 0x80);
    let back = (at.saturating_sub(3)..=at).rev().find(|at| !inside(at));
    back.unwrap_or(at)
}

/// What the host functions and the guest's streams share.
#[derive(Debug)]
pub(crate) struct Outlet {
    journal: Mutex<Journal>,
    pace: Mutex<Pace>,
    /// Whether the host was called since the guest was last held to its pace: what wasm asks of its own runtime costs no look at
    /// the clock.
    called: AtomicBool,
}

#[derive(Debug)]
struct Pace {
    throttle: Throttle,
    /// When a host call last let others have the thread.
    turn: Instant,
}

impl Outlet {
    pub(crate) fn new(journal: Journal, throttle: Throttle) -> Arc<Self> {
        Arc::new(Self {
            journal: Mutex::new(journal),
            pace: Mutex::new(Pace {
                throttle,
                turn: Instant::now(),
            }),
            called: AtomicBool::new(false),
        })
    }

    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one host call.
    pub(crate) fn count(&self) {
        self.called.store(true, Ordering::Relaxed);
        self.pace().throttle.take(Instant::now());
    }

    /// How long a guest has to wait before it goes on: zero lets others have the thread, `None` nobody.
    pub(crate) fn owed(&self) -> Option<Duration> {
        if !self.called.swap(false, Ordering::Relaxed) {
            return None;
        }
        let now = Instant::now();
        let mut pace = self.pace();
        let wait = pace.throttle.owed(now);
        let is_over = now.saturating_duration_since(pace.turn) >= TURN;
        if wait.is_some() || is_over {
            pace.turn = now;
        }
        wait.or(is_over.then_some(Duration::ZERO))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// The guest's stdout or stderr.
#[derive(Clone)]
pub(crate) struct Stdio {
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) stream: Stream,
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::empty()) // WASI 0.3 only, which is not linked
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdio {
    async fn ready(&mut self) {}
}

impl OutputStream for Stdio {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.outlet.journal().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    fn lines(limit: usize, act: impl FnOnce(&mut Journal)) -> Vec<(Source, String)> {
        let (calls, mut received) = mpsc::unbounded_channel();
        let mut journal = Journal::new(Some(calls), Clock::System, 1, limit);
        act(&mut journal);
        journal.flush();
        std::iter::from_fn(|| received.try_recv().ok())
            .map(|call| match call {
                HostCall::Log(line) => (line.source, line.message),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn streams_become_lines_and_the_last_needs_no_line_break() {
        let kept = lines(1 << 20, |journal| {
            journal.write(Stream::Out, b"one\ntw");
            journal.write(Stream::Err, b"oh");
            journal.write(Stream::Out, b"o\r\n\nthree");
        });
        let of = |source| {
            kept.iter()
                .filter(|line| line.0 == source)
                .map(|line| line.1.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Source::Stdout), ["one", "two", "", "three"]);
        assert_eq!(of(Source::Stderr), ["oh"]);
    }

    #[test]
    fn a_long_line_goes_on_in_the_next() {
        let text = "ä".repeat(MAX_LINE);
        let kept = lines(1 << 20, |journal| journal.write(Stream::Out, format!("x{text}").as_bytes()));
        assert!(kept.len() > 1 && kept.iter().all(|line| line.1.len() <= MAX_LINE));
        assert_eq!(kept.into_iter().map(|line| line.1).collect::<String>(), format!("x{text}"));
    }

    #[test]
    fn the_budget_ends_a_flood_with_one_note() {
        let flood = vec![b'\n'; 1 << 20];
        let kept = lines(LINE_COST * 10, |journal| {
            journal.write(Stream::Out, &flood);
            journal.write(Stream::Out, &flood);
            journal.line(Level::Info, Source::Log, "more".into(), Map::new());
        });
        assert_eq!(kept.len(), 11);
        assert_eq!(kept[10].0, Source::Host);
    }

    #[test]
    fn the_end_of_stderr_outlives_the_budget() {
        lines(0, |journal| {
            (0..1_000).for_each(|n| journal.write(Stream::Err, format!("line {n}\n").as_bytes()));
            assert!(journal.stderr().ends_with("line 999\n") && journal.stderr().len() <= TAIL);
        });
    }
}
