//! Business calendars, as users put them, look at them and count with them.

use crate::harness::{Answer, Host, project, taskhost};
use serde_json::{Value, json};
use taskhost::model::calendar::shipped;

fn host() -> Host {
    let mut host = Host::prepare();
    host.start(&[]);
    host
}

fn put(host: &Host, name: &str, document: &Value) -> Answer {
    let body = document.to_string();
    host.request(
        "PUT",
        &format!("/calendar/{name}"),
        Some(body.as_bytes()),
        &[("content-type", "application/json")],
    )
}

/// Open on weekdays from nine to five.
fn desk() -> Value {
    json!({
        "timezone": "Europe/Madrid", "official_until": "2026-12-31",
        "hours": [{"from": "2020-01-01", "open": "09:00", "close": "17:00"}],
        "holidays": [{"date": "2026-12-25", "name": "Navidad"}, {"date": "2026-01-06", "name": "Reyes"}],
        "early_closes": [{"date": "2026-12-24", "close": "14:00"}],
    })
}

fn names(host: &Host, query: &str) -> Vec<String> {
    let list = host.get(&format!("/calendars{query}")).ok();
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|entry| entry["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn six_calendars_ship_and_say_how_far_they_are_confirmed() {
    let host = host();
    assert_eq!(names(&host, ""), ["TARGET2", "XETR", "XHKG", "XLON", "XNYS", "XTKS"]);
    let page = host.get("/calendars?limit=4");
    assert!(page.headers["link"].to_str().expect("text").contains("cursor=XLON"));
    assert_eq!(names(&host, "?cursor=XLON"), ["XNYS", "XTKS"]);
    let list = host.get("/calendars").ok();
    for entry in list.as_array().expect("a list") {
        assert_eq!(
            (&entry["origin"], &entry["updated_at"]),
            (&json!("shipped"), &Value::Null),
            "{entry}"
        );
        assert!(entry["official_until"].as_str().expect("a date") >= "2026-12-31", "{entry}");
    }
    let calendar = host.get("/calendar/XTKS").ok();
    assert_eq!(
        (&calendar["timezone"], &calendar["weekend"]),
        (&json!("Asia/Tokyo"), &json!(["sat", "sun"]))
    );
    let last = calendar["hours"].as_array().and_then(|rows| rows.last()).expect("hours");
    assert_eq!(
        last,
        &json!({"from": "2024-11-05", "open": "09:00", "close": "15:30", "break": {"start": "11:30", "end": "12:30"}})
    );
}

#[test]
fn new_york_traded_on_the_days_that_have_a_price() {
    let prices = std::fs::read_to_string(project().join("samples/sp500-daily-2000-2020.csv")).expect("the sample");
    let days: Vec<&str> = prices.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    let (first, last) = (days[0].parse().expect("a date"), days[days.len() - 1].parse().expect("a date"));
    let sessions = shipped::get("XNYS").expect("it ships");
    let sessions: Vec<String> = sessions.sessions(first, last).map(|session| session.date.to_string()).collect();
    assert!(days.len() > 5_000);
    assert_eq!(sessions, days);
}

#[test]
fn sessions_are_instants_with_half_days_and_breaks() {
    let host = host();
    let sessions = host.get("/calendar/XNYS/sessions?from=2024-11-27&to=2024-12-02").ok();
    assert_eq!(
        sessions,
        json!([
            {"date": "2024-11-27", "open": "2024-11-27T14:30:00Z", "close": "2024-11-27T21:00:00Z", "early_close": false, "official": true,
             "open_local": "2024-11-27T09:30:00-05:00", "close_local": "2024-11-27T16:00:00-05:00"},
            {"date": "2024-11-29", "open": "2024-11-29T14:30:00Z", "close": "2024-11-29T18:00:00Z", "early_close": true, "official": true,
             "open_local": "2024-11-29T09:30:00-05:00", "close_local": "2024-11-29T13:00:00-05:00"},
            {"date": "2024-12-02", "open": "2024-12-02T14:30:00Z", "close": "2024-12-02T21:00:00Z", "early_close": false, "official": true,
             "open_local": "2024-12-02T09:30:00-05:00", "close_local": "2024-12-02T16:00:00-05:00"},
        ])
    );
    let tokyo = host.get("/calendar/XTKS/sessions?from=2030-11-05&to=2030-11-05").ok();
    assert_eq!(
        tokyo[0]["break"],
        json!({"start": "2030-11-05T02:30:00Z", "end": "2030-11-05T03:30:00Z"})
    );
    assert_eq!(tokyo[0]["official"], false);
    let ahead = host.get("/calendar/TARGET2/sessions").ok();
    assert!(
        (15..=23).contains(&ahead.as_array().expect("a list").len()),
        "the next 30 days: {ahead}"
    );
    for (query, pointer) in [
        ("from=2024-11-31", "/from"),
        ("from=20241101", "/from"),
        ("from=2024-11-02&to=2024-11-01", "/to"),
        ("from=2000-01-01&to=2030-12-31", "/to"),
        ("since=2000-01-01", "/since"),
    ] {
        let problem = host.get(&format!("/calendar/XNYS/sessions?{query}")).problem(400);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    host.get("/calendar/XXXX/sessions").problem(404);
}

#[test]
fn a_calendar_of_ones_own_is_kept_shown_and_removed() {
    let mut host = host();
    let created = put(&host, "desk", &desk());
    assert_eq!(created.status, 201);
    let shown = host.get("/calendar/desk").ok();
    assert_eq!(created.ok(), shown);
    assert_eq!(shown["name"], "desk");
    assert_eq!(shown["holidays"][0]["date"], "2026-01-06", "in the order of their dates");
    assert_eq!(put(&host, "desk", &shown).status, 200, "what is shown can be put again");
    host.kill();
    host.start(&[]);
    let sessions = host.get("/calendar/desk/sessions?from=2026-12-24&to=2026-12-28").ok();
    let dates: Vec<&Value> = sessions
        .as_array()
        .expect("a list")
        .iter()
        .map(|session| &session["date"])
        .collect();
    assert_eq!(dates, ["2026-12-24", "2026-12-28"]);
    assert_eq!(sessions[0]["close"], "2026-12-24T13:00:00Z");

    let mut longer = desk();
    longer["hours"][0]["close"] = json!("18:00");
    put(&host, "desk", &longer).ok();
    let sessions = host.get("/calendar/desk/sessions?from=2026-12-28&to=2026-12-28").ok();
    assert_eq!(sessions[0]["close"], "2026-12-28T17:00:00Z", "the next version counts at once");

    assert_eq!(host.delete("/calendar/desk").ok(), json!({"id": "desk", "status": "removed"}));
    host.get("/calendar/desk").problem(404);
    host.delete("/calendar/desk").problem(404);
}

#[test]
fn ones_own_goes_before_the_shipped_one_until_it_is_removed() {
    let host = host();
    let shipped = host.get("/calendar/XLON").ok();
    let mut own = shipped.clone();
    own["holidays"]
        .as_array_mut()
        .expect("a list")
        .push(json!({"date": "2027-06-02", "name": "A day for all"}));
    assert_eq!(put(&host, "XLON", &own).status, 201);
    assert_eq!(host.get("/calendar/XLON/sessions?from=2027-06-02&to=2027-06-02").ok(), json!([]));
    let list = host.get("/calendars").ok();
    let entry = list
        .as_array()
        .and_then(|list| list.iter().find(|entry| entry["name"] == "XLON"))
        .expect("XLON");
    assert_eq!(entry["origin"], "put");
    assert!(entry["updated_at"].is_string(), "{entry}");
    host.delete("/calendar/XLON").ok();
    assert_eq!(host.get("/calendar/XLON").ok(), shipped);
    let problem = host.delete("/calendar/XLON").problem(409);
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("ships with Taskhost")),
        "{problem}"
    );
}

#[test]
fn what_is_no_calendar_is_refused_with_its_place() {
    let host = host();
    let with = |pointer: &str, value: Value| {
        let mut document = desk();
        *document.pointer_mut(pointer).expect("a member") = value;
        document
    };
    for (document, pointer) in [
        (with("/timezone", json!("Europe/Madrit")), "/timezone"),
        (with("/hours/0/close", json!("08:00")), "/hours/0/close"),
        (with("/hours/0/close", json!("8 pm")), "/hours/0/close"),
        (with("/holidays/1/date", json!("2026-12-25")), "/holidays/1/date"),
        (with("/early_closes/0/date", json!("2026-12-25")), "/early_closes/0/date"),
        (with("/official_until", json!(null)), "/official_until"),
    ] {
        let problem = put(&host, "desk", &document).problem(400);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let mut unknown = desk();
    unknown["hollidays"] = json!([]);
    assert_eq!(put(&host, "desk", &unknown).problem(400)["code"], "unknown_member");
    let mut other = desk();
    other["name"] = json!("another");
    put(&host, "desk", &other).problem(400);
    put(&host, "a%20b", &desk()).problem(400);
    let raw = |body: &[u8], kind: &str| host.request("PUT", "/calendar/desk", Some(body), &[("content-type", kind)]);
    assert_eq!(raw(b"{", "application/json").problem(400)["code"], "bad_json");
    raw(b"", "application/json").problem(400);
    raw(&vec![b' '; (1 << 20) + 1], "application/json").problem(413);
    raw(b"{}", "text/plain").problem(415);
    host.get("/calendar/desk").problem(404);
}

#[test]
fn only_so_many_calendars_are_kept() {
    let host = host();
    for n in 0..100 {
        put(&host, &format!("c{n}"), &desk()).ok();
    }
    put(&host, "c100", &desk()).problem(409);
    put(&host, "c99", &desk()).ok();
    assert_eq!(names(&host, "").len(), 106);
    host.delete("/calendar/c0").ok();
    put(&host, "c100", &desk()).ok();
}

#[test]
fn a_trade_settles_n_sessions_later() {
    let host = host();
    let settles = |name: &str, query: &str| host.get(&format!("/calendar/{name}/settlement-date?{query}"));
    assert_eq!(
        settles("TARGET2", "trade_date=2024-03-27").ok(),
        json!({"trade_date": "2024-03-27", "days": 2, "settlement_date": "2024-04-02", "official": true})
    );
    assert_eq!(
        settles("XNYS", "trade_date=2024-11-27&days=1").ok()["settlement_date"],
        "2024-11-29"
    );
    assert_eq!(
        settles("XNYS", "trade_date=2024-11-28&days=0").ok()["settlement_date"],
        "2024-11-29"
    );
    assert_eq!(settles("XLON", "trade_date=2029-01-05").ok()["official"], false);
    settles("XNYS", "").ok();
    for query in ["days=-1", "days=1001", "days=two", "trade_date=tomorrow"] {
        settles("XNYS", query).problem(400);
    }
}

#[test]
fn a_person_lists_shows_puts_and_removes_them() {
    let host = host();
    let ask = |arguments: &[&str]| {
        let output = taskhost().env("TASKHOST_URL", host.url()).arg("calendar").args(arguments).output();
        let output = output.expect("the command runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let file = host.path("desk.json");
    std::fs::write(&file, desk().to_string()).expect("a file");
    let (code, out, err) = ask(&["put", "desk", &format!("@{}", file.display())]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("Europe/Madrid") && out.contains("holidays: 2"), "{out}");
    let (_, out, _) = ask(&["list"]);
    assert!(out.contains("desk") && out.contains("XNYS") && out.contains("2028-12-31"), "{out}");
    let (_, out, _) = ask(&["show", "desk", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).expect("json"), host.get("/calendar/desk").ok());
    let (_, out, _) = ask(&["sessions", "XNYS", "--from", "2024-11-28", "--to", "2024-11-29"]);
    assert!(out.contains("2024-11-29 18:00:00Z") && !out.contains("2024-11-28 "), "{out}");
    assert_eq!(ask(&["settles", "TARGET2", "2024-03-27"]).1.trim(), "2024-04-02");
    assert_eq!(ask(&["remove", "desk"]).1.trim(), "removed desk");
    let (code, _, err) = ask(&["remove", "XNYS"]);
    assert!(code == Some(1) && err.contains("ships with Taskhost"), "{err}");
}
