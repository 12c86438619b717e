"""Writes the calendars that ship with Taskhost, and what exchange_calendars says of the same days.

    python3 -m venv v && v/bin/pip install -r host/calendars/requirements.txt
    v/bin/python host/calendars/generate.py

Packages: exchange_calendars (sessions, half days; Apache-2.0), pandas_market_calendars (unusual openings of the NYSE; MIT) and
holidays (names, and a second opinion on the days; MIT), in the versions of requirements.txt. Where they are wrong or silent, what the
exchanges published counts: the tables below, each line with its source. docs/calendars.md tells the whole of it.

Output: NAME.json, the calendars; golden/NAME.txt, exchange_calendars' own answer for each day, untouched by the tables below, against
which a test compares day by day (see `write_golden`).
"""

import datetime as dt
import json
import pathlib
import warnings
from zoneinfo import ZoneInfo

import exchange_calendars
import holidays
import pandas as pd
import pandas_market_calendars
from dateutil.easter import easter

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent
FIRST, LAST = dt.date(2000, 1, 1), dt.date(2030, 12, 31)
YEARS = range(FIRST.year, LAST.year + 1)
DAYS = [FIRST + dt.timedelta(n) for n in range((LAST - FIRST).days + 1)]
WEEKDAYS = [day for day in DAYS if day.weekday() < 5]


def day(text):
    return dt.date.fromisoformat(text)


def row(start, opens, closes, pause=None):
    entry = {"from": start, "open": opens, "close": closes}
    if pause:
        entry["break"] = {"start": pause[0], "end": pause[1]}
    return entry


# ---------------------------------------------------------------------------------------------- what the packages say

def sessions_of(name):
    """date -> (open, close, break start, break end), all UTC, or None for no break."""
    factory = exchange_calendars.calendar_utils._default_calendar_factories[name]
    schedule = factory(start=pd.Timestamp(FIRST), end=pd.Timestamp(LAST)).schedule
    as_time = lambda value: None if pd.isna(value) else value.to_pydatetime()
    return {
        label.date(): (as_time(r.open), as_time(r.close), as_time(r.break_start), as_time(r.break_end))
        for label, r in zip(schedule.index, schedule.itertuples())
    }


def early_closes_of(sessions, zone, regular):
    """The days that close earlier than `regular(date)`, an HH:MM."""
    local = {date: times[1].astimezone(zone).strftime("%H:%M") for date, times in sessions.items()}
    return {date: close for date, close in local.items() if close < regular(date)}


def names_of(*sources):
    """date -> name, the first source that knows it."""
    known = {}
    for source in sources:
        for date, name in source.items():
            # "National Day (observed); The day following National Day": once is enough.
            parts = name.split("; ")
            known.setdefault(date, "; ".join([part for part in parts if "(observed)" not in part] or parts))
    return known


# ------------------------------------------------------------------------------------------------------- the calendars

def xnys():
    sessions = sessions_of("XNYS")
    zone = ZoneInfo("America/New_York")
    early = early_closes_of(sessions, zone, lambda date: "16:00")
    late = {}
    # Moments of silence, memorials and one failure, as pandas_market_calendars has them from the exchange's list of special closings.
    schedule = pandas_market_calendars.get_calendar("NYSE").schedule(FIRST, LAST)
    for label, r in zip(schedule.index, schedule.itertuples()):
        opens = r.market_open.astimezone(zone).strftime("%H:%M")
        closes = r.market_close.astimezone(zone).strftime("%H:%M")
        if opens != "09:30":
            late[label.date()] = opens
        if closes != early.get(label.date(), "16:00"):
            assert str(label.date()) == "2005-06-01", label
            early[label.date()] = closes
    names = names_of(holidays.XNYS(years=YEARS))
    write("XNYS", "New York Stock Exchange, equities, core session", "America/New_York", [row("2000-01-01", "09:30", "16:00")],
          sessions, names, early, late=late,
          # "NYSE Group Announces 2026, 2027 and 2028 Holiday and Early Closings Calendar", 23 December 2025.
          official_until="2028-12-31")


def xlon():
    sessions = sessions_of("XLON")
    zone = ZoneInfo("Europe/London")
    names = names_of(holidays.UnitedKingdom(subdiv="ENG", years=YEARS))
    write("XLON", "London Stock Exchange, SETS, continuous trading and opening auction", "Europe/London",
          [row("2000-01-01", "08:00", "16:30")], sessions, names, early_closes_of(sessions, zone, lambda date: "16:30"),
          # Eight hours of failure: from 15:45 until 20:00 instead (BBC and This is Money, 5 April 2000).
          special=[{"date": "2000-04-05", "open": "15:45", "close": "20:00"}],
          # The exchange's page of business days, 17 June 2026.
          official_until="2026-12-31")


def xetr():
    sessions = sessions_of("XETR")
    zone = ZoneInfo("Europe/Berlin")
    early = early_closes_of(sessions, zone, lambda date: "17:30")
    # dpa-AFX of 29 December 2005: the closing auction begins at 14:00.
    early[day("2005-12-30")] = "14:00"
    names = names_of(holidays.XETR(years=YEARS, language="en_US"), holidays.Germany(years=YEARS, language="en_US"), {
        **{dt.date(year, 12, 24): "Christmas Eve" for year in YEARS}, **{dt.date(year, 12, 31): "New Year's Eve" for year in YEARS},
    })
    hours = [
        row("2000-01-01", "09:00", "17:30"),
        # Deutsche Börse: until 20:00 from 2 June 2000, until 17:30 again from 3 November 2003 (DW, Handelsblatt, 3 November 2003).
        row("2000-06-02", "09:00", "20:00"),
        row("2003-11-03", "09:00", "17:30"),
    ]
    write("XETR", "Xetra, Frankfurt, continuous trading and opening auction", "Europe/Berlin", hours, sessions, names, early,
          # The exchange's trading calendar of 2026; the half day is decided anew each December.
          official_until="2026-12-31")


def xtks():
    sessions = sessions_of("XTKS")
    early = {}
    # First and last day of the year: morning only, until the new trading system. "From the last day of 2009 full days" (TSE; Rakuten
    # Securities' chronicle of 30 December 2009).
    for year in range(2000, 2010):
        of_year = [date for date in sessions if date.year == year]
        early[min(of_year)] = "11:00"
        if year < 2009:
            early[max(of_year)] = "11:00"
    # All shares halted at 14:40 (Nikkei indexes, "Livedoor shock").
    early[day("2006-01-18")] = "14:40"
    # The system failure of that morning: trading from 13:30 (Yomiuri, 1 November 2005).
    late = {day("2005-11-01"): "13:30"}
    hours = [
        row("2000-01-01", "09:00", "15:00", ("11:00", "12:30")),
        # Afternoons from 13:00 while the system was short of capacity (Nikkei; the TSE's notice of 20 April 2006 ended it).
        row("2006-01-19", "09:00", "15:00", ("11:00", "13:00")),
        row("2006-04-24", "09:00", "15:00", ("11:00", "12:30")),
        # Mornings until 11:30 (Mainichi, 21 November 2011).
        row("2011-11-21", "09:00", "15:00", ("11:30", "12:30")),
        # Afternoons until 15:30 (JPX).
        row("2024-11-05", "09:00", "15:30", ("11:30", "12:30")),
    ]
    new_year = {date: "New Year holiday" for date in DAYS if (date.month, date.day) in ((12, 31), (1, 1), (1, 2), (1, 3))}
    names = names_of(new_year, holidays.XJPX(years=YEARS, language="en_US"), {day("2020-10-01"): "Failure of the trading system"})
    write("XTKS", "Tokyo Stock Exchange, equities", "Asia/Tokyo", hours, sessions, names, early, late=late,
          # National Astronomical Observatory's calendar for 2027 in the Official Gazette of 2 February 2026; the exchange closes on
          # national holidays and from 31 December to 3 January by its rules.
          official_until="2027-12-31")


def xhkg():
    sessions = sessions_of("XHKG")
    zone = ZoneInfo("Asia/Hong_Kong")
    early = early_closes_of(sessions, zone, lambda date: "16:00")
    # No afternoon on the eve of Lunar New Year; exchange_calendars has that from 2013 only.
    for eve in ("2001-01-23", "2002-02-11", "2004-01-21", "2005-02-08", "2008-02-06"):
        early[day(eve)] = "12:30"
    early[day("2011-02-02")] = "12:30"
    # Typhoon Nalgae: suspended at 13:55 (HKEX, 2 November 2022).
    early[day("2022-11-02")] = "13:55"
    late = {
        # Mornings cancelled for weather. Until 2014: exchange_calendars names the days in comments; the afternoon began as usual.
        day("2008-06-25"): "14:30", day("2009-09-15"): "14:30", day("2012-07-24"): "13:00",
        day("2013-05-22"): "13:00", day("2013-09-23"): "13:00", day("2014-09-16"): "13:00",
        day("2020-08-19"): "13:30",  # HKEX 2008192news
        day("2021-06-28"): "13:30",  # HKEX 2106283news
        day("2022-08-25"): "13:00",  # Ma-on, SCMP 3190086
        day("2023-10-09"): "14:00",  # Koinu, HKEX by Mondo Visione
    }
    hours = [
        row("2000-01-01", "10:00", "16:00", ("12:30", "14:30")),
        # HKEX news releases of 24 January 2011 and 1 March 2012.
        row("2011-03-07", "09:30", "16:00", ("12:00", "13:30")),
        row("2012-03-05", "09:30", "16:00", ("12:00", "13:00")),
    ]
    closed = {
        day("2023-09-01"): "Typhoon Saola",  # HKEX 2309012news
        day("2023-09-08"): "Black rainstorm",  # HKEX 2309083news
        # Mid-autumn falls on Saturday, so the day after it is a Sunday and moves to Monday (General Holidays Ordinance since 2011).
        day("2029-09-24"): "The second day following Mid-Autumn Festival",
    }
    weather = {day(text): f"Severe weather ({name})" for text, name in {
        "2001-07-06": "Utor", "2001-07-25": "Yutu", "2008-08-06": "Kammuri", "2008-08-22": "Nuri", "2011-09-29": "Nesat",
        "2013-08-14": "Utor", "2016-08-02": "Nida", "2016-10-21": "Haima", "2017-08-23": "Hato", "2020-10-13": "Nangka",
        "2021-10-13": "Kompasu", "2023-07-17": "Talim", "2024-09-06": "Yagi",
    }.items()}
    names = names_of(closed, weather, holidays.HongKong(years=YEARS, categories=("public", "optional"), language="en_US"))
    write("XHKG", "Hong Kong Stock Exchange, securities market", "Asia/Hong_Kong", hours, sessions, names, early, late=late,
          closed=closed,
          # General holidays for 2026, gazetted 16 May 2025.
          official_until="2026-12-31")


def target2():
    """Not an exchange: the ECB's decisions. 2000: 15 July 1999; 31 December 2001: 25 May 2000 (pr000525_2); since 2002 the long-term calendar of
    14 December 2000, until further notice, which T2 keeps."""
    names = {}
    for year in YEARS:
        sunday = easter(year)
        names |= {
            dt.date(year, 1, 1): "New Year's Day", sunday - dt.timedelta(2): "Good Friday", sunday + dt.timedelta(1): "Easter Monday",
            dt.date(year, 5, 1): "Labour Day", dt.date(year, 12, 25): "Christmas Day", dt.date(year, 12, 26): "26 December",
        }
    names[day("2001-12-31")] = "Changeover to euro cash"
    sessions = {date: None for date in WEEKDAYS if date not in names}
    # A second opinion.
    theirs = {date for date in holidays.XECB(years=YEARS) if date.weekday() < 5}
    assert theirs == {date for date in names if date.weekday() < 5}, theirs ^ set(names)
    write("TARGET2", "TARGET, TARGET2 and T2 of the Eurosystem, day trade phase", "Europe/Berlin", [row("2000-01-01", "07:00", "18:00")],
          sessions, names, {}, official_until="2030-12-31")


# -------------------------------------------------------------------------------------------------------------- output

def write(name, description, zone, hours, sessions, names, early, official_until, late=None, closed=None, special=None):
    late, closed = late or {}, closed or {}
    shut = [date for date in WEEKDAYS if date not in sessions or date in closed]
    unnamed = [str(date) for date in shut if date not in names]
    assert not unnamed, (name, unnamed)
    clashes = [str(date) for date in [*early, *late] if date in shut or date.weekday() > 4]
    assert not clashes, (name, clashes)
    lines = lambda entries: "[\n" + ",\n".join("    " + json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n  ]"
    members = {
        "name": json.dumps(name),
        "description": json.dumps(description, ensure_ascii=False),
        "timezone": json.dumps(zone),
        "weekend": '["sat", "sun"]',
        "hours": lines(hours),
        "holidays": lines({"date": str(date), "name": names[date]} for date in shut),
    }
    if early:
        members["early_closes"] = lines({"date": str(date), "close": early[date]} for date in sorted(early))
    if late:
        members["late_opens"] = lines({"date": str(date), "open": late[date]} for date in sorted(late))
    if special:
        members["special_sessions"] = lines(special)
    members["official_until"] = json.dumps(official_until)
    text = "{\n" + ",\n".join(f'  "{key}": {value}' for key, value in members.items()) + "\n}\n"
    json.loads(text)
    (HERE / f"{name}.json").write_text(text, encoding="utf-8")
    if all(sessions.values()):
        write_golden(name, sessions)


def write_golden(name, sessions):
    """A letter for each set of hours in UTC (open, close and, where there is one, start and end of the break), then a line a year with
    a sign a day: a letter, or a dot for closed."""
    clock = lambda time: time.astimezone(dt.timezone.utc).strftime("%H:%M")
    legend, years = {}, {year: "" for year in YEARS}
    for date in DAYS:
        times = sessions.get(date)
        if not times:
            years[date.year] += "."
            continue
        assert all(time.astimezone(dt.timezone.utc).date() == date for time in times if time), date
        hours = " ".join(clock(time) for time in times if time)
        years[date.year] += legend.setdefault(hours, "abcdefghijklmnopqrstuvwxyz"[len(legend)])
    lines = [f"{letter} {hours}" for hours, letter in legend.items()] + [f"{year} {signs}" for year, signs in years.items()]
    (HERE / "golden").mkdir(exist_ok=True)
    head = f"# exchange_calendars {exchange_calendars.__version__}, {name}; written by generate.py\n"
    (HERE / "golden" / f"{name}.txt").write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    for calendar in (xnys, xlon, xetr, xtks, xhkg, target2):
        calendar()
