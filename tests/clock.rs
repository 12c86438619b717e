//! The machine's clock is set while a host runs: by hours, forwards and back. What was due fires once, and nothing is lost.

use crate::harness::{Host, eventually, guests, taskhost, tools};
use chrono::{DurationRound, TimeDelta};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use taskhost::clock::Clock;
use taskhost::model::Time;

/// A host whose clock is the machine's and an offset.
struct Shifted {
    host: Host,
    offset: TimeDelta,
}

impl Shifted {
    fn start() -> Self {
        let host = Host::prepare();
        host.drop_plugin("probe", &guests::probe());
        let mut shifted = Self {
            host,
            offset: TimeDelta::zero(),
        };
        shifted.tell();
        let faked = Command::new("faketime")
            .args(["-f", "+0", "printenv", "LD_PRELOAD"])
            .output()
            .expect("faketime");
        let library = String::from_utf8(faked.stdout).expect("a path");
        let mut command = taskhost();
        command
            .env("LD_PRELOAD", library.trim())
            .env("FAKETIME_TIMESTAMP_FILE", shifted.host.path("offset"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
        shifted.host.start_by(command, &[]);
        shifted
    }

    /// In one step, so that no half of it is read.
    fn tell(&self) {
        let whole = self.host.path("offset.new");
        std::fs::write(&whole, format!("{:+}", self.offset.num_seconds())).expect("an offset");
        std::fs::rename(whole, self.host.path("offset")).expect("an offset");
    }

    fn now(&self) -> Time {
        Clock::System.now() + self.offset
    }

    /// Sets its clock to about this.
    fn set(&mut self, to: Time) {
        self.offset = TimeDelta::seconds((to - Clock::System.now()).num_seconds());
        self.tell();
    }

    fn next_fire(&self, id: &str) -> Time {
        let record = self.host.get(&format!("/schedule/{id}")).ok();
        record["next_fire"].as_str().and_then(|text| text.parse().ok()).expect("a time")
    }

    /// When the schedule fired, and how many fires it was told to have skipped since some time. Fails where an hour fired twice.
    fn fires(&self, id: &str, since: Time) -> (BTreeSet<Time>, u64) {
        let fires = self.host.get(&format!("/schedule/{id}/fires?limit=1000")).ok();
        let (mut made, mut skipped) = (BTreeSet::new(), 0);
        for fire in fires.as_array().expect("a list") {
            let at: Time = fire["at"].as_str().and_then(|text| text.parse().ok()).expect("a time");
            match fire["task_id"].is_string() {
                true => assert!(made.insert(at), "{at} twice: {fires}"),
                false if at >= since => skipped += fire["count"].as_u64().unwrap_or(1),
                false => {}
            }
        }
        (made, skipped)
    }
}

#[test]
fn a_clock_that_is_set_neither_doubles_a_fire_nor_loses_one() {
    if !tools::works(
        "a_clock_that_is_set_neither_doubles_a_fire_nor_loses_one",
        "faketime",
        &["-f", "+0", "true"],
    ) {
        return;
    }
    let mut shifted = Shifted::start();
    let hour = TimeDelta::hours(1);
    // From the middle of an hour on, so that no real one ends meanwhile.
    let first = shifted.now().duration_trunc(hour).expect("an hour") + hour * 24;
    let soon_after = |hours: i32| first + hour * hours + TimeDelta::minutes(10);
    shifted.set(soon_after(-1));
    let body = json!({"task_name": "echo", "cron_expression": "0 * * * *", "payload": {"value": 1}, "overlap": "allow"});
    let id = shifted.host.post("/task/cron", &body).ok()["task_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let dated = json!({"task_name": "echo", "payload": {"value": 2}, "trigger_time": soon_after(-1) + TimeDelta::minutes(30)});
    let dated = shifted.host.submit(&dated);

    let hours = |numbers: &[i32]| numbers.iter().map(|n| first + hour * *n).collect::<BTreeSet<_>>();
    shifted.set(soon_after(0));
    eventually("the hour's fire", || shifted.fires(&id, first).0 == hours(&[0]));
    assert_eq!(shifted.host.end_of(&dated)["attempts"].as_array().map(Vec::len), Some(1));

    // Back before the hour that has fired, and over it again.
    shifted.set(soon_after(-1));
    eventually("the hour is ahead again", || shifted.next_fire(&id) == first);
    assert_eq!(shifted.host.run("echo", &json!({"value": 3}))["status"], "success", "work goes on");
    shifted.set(soon_after(0));
    eventually("the hour is over again", || shifted.next_fire(&id) == first + hour);
    assert_eq!(shifted.fires(&id, first), (hours(&[0]), 0));

    // Back again, and over that hour and the next: what fired is not told to have been missed.
    shifted.set(soon_after(-1));
    eventually("the hour is ahead again", || shifted.next_fire(&id) == first);
    shifted.set(soon_after(1));
    eventually("the next hour's fire", || shifted.fires(&id, first) == (hours(&[0, 1]), 0));
    assert_eq!(shifted.host.get("/alerts?alert_type=absent").ok(), json!([]));

    // Some hours ahead: the latest is made, and those between are told of.
    shifted.set(soon_after(5));
    eventually("the latest fire", || shifted.fires(&id, first) == (hours(&[0, 1, 5]), 3));

    // A day back: what is asked now does not wait for the clock to catch up.
    shifted.set(soon_after(-20));
    eventually("the earlier day is ahead again", || shifted.next_fire(&id) == first - hour * 19);
    assert_eq!(shifted.host.run("echo", &json!({"value": 4}))["status"], "success");
    shifted.set(soon_after(-19));
    eventually("a fire of the earlier day", || {
        shifted.fires(&id, first).0 == hours(&[-19, 0, 1, 5])
    });

    // And ahead again: of the hours between, those three that fired are not told to have been skipped.
    shifted.set(soon_after(6));
    let of_these = first - hour * 18;
    eventually("the next hour after all", || {
        shifted.fires(&id, of_these) == (hours(&[-19, 0, 1, 5, 6]), 3 + 24 - 3)
    });
    eventually("all have ended", || shifted.host.get("/tasks/running").ok() == json!({}));
    let tasks = shifted.host.get("/tasks/history?limit=1000").ok();
    let of_schedule = |task: &&Value| task["payload"]["value"] == 1;
    assert_eq!(tasks.as_array().expect("a list").iter().filter(of_schedule).count(), 5, "{tasks}");
}
