//! The mix of work: what its tasks are, and in which order. The peers are given the same lines.
//!
//! A burn is so much time of a processor, whatever the language. A guest sees no processor time, so that here it is turns of a loop,
//! as many as the host took that time for when there was one of them on each core.

use super::batch::working_host;
use crate::Bench;
use crate::host::{BASE, Host};
use anyhow::Result;

/// What some tasks of the mix do.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Of a hundred tasks.
    pub(super) share: usize,
    handler: &'static str,
    /// The member of the payload that bounds it, and how it does.
    bound: Option<(&'static str, u64)>,
}

pub(super) const KINDS: [Kind; 5] = [
    Kind {
        name: "burn 50 ms",
        share: 20,
        handler: "burn",
        bound: Some(("ms", 50)),
    },
    Kind {
        name: "sleep 100 ms",
        share: 30,
        handler: "sleep",
        bound: Some(("ms", 100)),
    },
    Kind {
        name: "read 416 kB",
        share: 30,
        handler: "read",
        bound: None,
    },
    Kind {
        name: "return 100 kB",
        share: 15,
        handler: "give",
        bound: Some(("bytes", 100_000)),
    },
    Kind {
        name: "return 1 MB",
        share: 5,
        handler: "give",
        bound: Some(("bytes", 1_000_000)),
    },
];
/// Tasks of which each kind has its share.
pub(super) const HUNDRED: usize = 100;

impl Kind {
    /// The line of a batch that asks for one. `burn` is its payload where the handlers do not know processor time.
    fn line(&self, burn: Option<&Burn>) -> String {
        match (self.bound, burn) {
            (Some((_, ms)), Some(burn)) if self.handler == "burn" => burn.line(ms as f64, ""),
            (Some((member, bound)), _) => format!("{{\"task_name\":\"{}\",\"payload\":{{\"{member}\":{bound}}}}}\n", self.handler),
            (None, _) => format!("{{\"task_name\":\"{}\",\"payload\":{{}}}}\n", self.handler),
        }
    }

    /// Milliseconds that a processor is busy with one.
    pub(super) fn burns(&self) -> f64 {
        self.bound.filter(|_| self.handler == "burn").map_or(0.0, |(_, ms)| ms as f64)
    }

    /// Whether a task of this name and payload is one.
    pub(super) fn is(&self, name: &str, payload: &str) -> bool {
        match name {
            "spin" => self.handler == "burn",
            "give" => self
                .bound
                .is_some_and(|(member, bound)| payload.contains(&format!("\"{member}\":{bound}}}"))),
            _ => self.handler == name,
        }
    }
}

/// Milliseconds of a processor that so many tasks of the mix take besides what it costs to run them.
pub(super) fn burns(tasks: usize) -> f64 {
    let each: f64 = KINDS.iter().map(|kind| kind.share as f64 * kind.burns()).sum();
    each * tasks as f64 / HUNDRED as f64
}

/// So many tasks, some hundreds, in an order that looks like chance and is the same each time.
pub(super) fn lines(tasks: usize, burn: Option<&Burn>) -> Vec<String> {
    let hundred: Vec<String> = KINDS
        .iter()
        .flat_map(|kind| std::iter::repeat_n(kind.line(burn), kind.share))
        .collect();
    let mut lines: Vec<String> = hundred.iter().cycle().take(tasks).cloned().collect();
    let mut state = 1_u64;
    for place in (1..lines.len()).rev() {
        // Knuth's MMIX generator: its upper half is random enough to shuffle by.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        lines.swap(place, (state >> 33) as usize % (place + 1));
    }
    lines
}

/// How many turns of a guest's loop take a processor a millisecond.
pub(super) struct Burn {
    thousands_per_ms: f64,
}

impl Burn {
    /// Measured on a host of its own, which does nothing else: a tenth of a second tells how many turns a second takes, and that
    /// second how many a millisecond does.
    pub(super) fn calibrate(bench: &Bench) -> Result<Self> {
        const GUESS: f64 = 1_000.0;
        let host = working_host(bench)?;
        let mut burn = Self { thousands_per_ms: GUESS };
        for ms in [100.0, 1_000.0, 1_000.0] {
            burn.thousands_per_ms *= ms / burn.one_on_each_core(&host, ms)?;
        }
        Ok(burn)
    }

    /// Milliseconds that one took a processor: of the time that the host was given, whatever else the machine did.
    fn one_on_each_core(&self, host: &Host, ms: f64) -> Result<f64> {
        let cores = super::cores();
        let line = self.line(ms, "");
        let before = host.processor_time()?;
        std::thread::scope(|scope| -> Result<()> {
            let ask = || -> Result<()> {
                let path = format!("POST {BASE}/task/submit");
                host.client()?.ask(&path, "prefer: wait=60\r\n", &line).map(drop)
            };
            let asked: Vec<_> = (0..cores).map(|_| scope.spawn(ask)).collect();
            asked
                .into_iter()
                .try_for_each(|asked| asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let spent = host.processor_time()?.saturating_sub(before);
        Ok(spent.as_secs_f64() * 1e3 / cores as f64)
    }

    /// A submission of one, with further members.
    pub(super) fn line(&self, ms: f64, members: &str) -> String {
        let thousands = (ms * self.thousands_per_ms).round();
        format!("{{\"task_name\":\"spin\",\"payload\":{{\"thousands\":{thousands}}}{members}}}\n")
    }
}
