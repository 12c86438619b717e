//! Prices from a CSV file in a folder that the operator granted.
//!
//! Whose mistake it is decides the kind of the error: a folder that is not granted is the operator's (fatal, with the line
//! that grants it), a file that is not there or not readable as prices is the submitter's (invalid input).

use crate::input::{Checked, Close, too_many};
use business_days::parse_date;
use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Component, Path},
};
use taskhost_sdk::{InputErrors, prelude::*};

/// Where names without a folder are looked up: the guest side of the grant in the shipped manifest.
const FOLDER: &str = "/samples";
/// How often a reader looks up from its work.
const CHECK_EVERY: usize = 4096;

pub(crate) fn read(ctx: &Context, name: &str, errors: &mut InputErrors) -> TaskResult<Vec<Close>> {
    let path = Path::new(FOLDER).join(name);
    let file = open(name, &path)?;
    parse(ctx, file, errors)
}

fn open(name: &str, path: &Path) -> TaskResult<File> {
    if name.is_empty() {
        return Err(TaskError::invalid("/data", "is empty: give the name of a file"));
    }
    if Path::new(name).components().any(|part| part == Component::ParentDir) {
        return Err(TaskError::invalid("/data", "must not go up by `..`"));
    }
    match File::open(path) {
        Ok(file) if file.metadata().is_ok_and(|about| about.is_dir()) => Err(TaskError::invalid("/data", format!("{name} is a folder"))),
        Ok(file) => Ok(file),
        Err(error) => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            let is_there = std::fs::metadata(folder).is_ok();
            match error.kind() {
                ErrorKind::NotFound if is_there => Err(TaskError::invalid("/data", format!("{} has no file {name}", folder.display()))),
                _ if !is_there => Err(TaskError::fatal(format!(
                    "this plugin has no folder {0}: grant it in its manifest by fs = [{{ host = \"…\", guest = \"{0}\", mode = \"ro\" }}]",
                    folder.display()
                ))),
                _ => Err(TaskError::retryable(format!("cannot open {}: {error}", path.display()))),
            }
        }
    }
}

fn parse(ctx: &Context, file: impl Read, errors: &mut InputErrors) -> TaskResult<Vec<Close>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let headers = reader.headers().invalid("/data")?.clone();
    let column = |name: &str| headers.iter().position(|header| header.trim().eq_ignore_ascii_case(name));
    let (Some(date), Some(close)) = (column("date"), column("close")) else {
        let found: Vec<&str> = headers.iter().collect();
        return Err(TaskError::invalid(
            "/data",
            format!("needs columns `date` and `close`, has: {:.200}", found.join(", ")),
        ));
    };
    let mut checked = Checked::default();
    let mut record = csv::StringRecord::new();
    let mut rows = 0;
    while reader.read_record(&mut record).invalid("/data")? && !errors.is_full() {
        let line = record.position().map_or(0, csv::Position::line);
        if checked.is_full() {
            errors.add("/data", too_many());
            break;
        }
        if let Err(detail) = row(&mut checked, record.get(date), record.get(close)) {
            errors.add("/data", format!("line {line}: {detail}"));
        }
        rows += 1;
        if rows % CHECK_EVERY == 0 {
            ctx.check_cancelled()?;
        }
    }
    Ok(checked.bars)
}

fn row(checked: &mut Checked, date: Option<&str>, close: Option<&str>) -> Result<(), String> {
    let date = parse_date(date.ok_or("has no date")?.trim())?;
    let close = close.ok_or("has no close")?.trim();
    let price = close.parse().map_err(|_| format!("`{close:.40}` is no price"))?;
    checked.push(date, price).map_err(|(_, detail)| detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskhost_sdk::FailureKind;

    fn parsed(text: &str) -> TaskResult<Vec<Close>> {
        let mut errors = InputErrors::default();
        let bars = parse(&Context::mock(), text.as_bytes(), &mut errors)?;
        errors.finish().map(|()| bars)
    }

    fn details(text: &str) -> Vec<String> {
        let members = parsed(text).unwrap_err().invalid_input();
        assert!(members.iter().all(|member| member.pointer == "/data"));
        members.into_iter().map(|member| member.detail).collect()
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let bars = parsed("\u{feff}volume,Close, Date\n7, 10.5 ,2020-01-02\n8,11,2020-01-03\n").unwrap();
        assert_eq!(bars.iter().map(|bar| bar.close).collect::<Vec<_>>(), [10.5, 11.0]);
        assert_eq!(bars[0].date.to_string(), "2020-01-02");
    }

    #[test]
    fn a_file_without_the_columns_is_refused_with_those_it_has() {
        assert_eq!(
            details("day,price\n2020-01-02,1\n"),
            ["needs columns `date` and `close`, has: day, price"]
        );
        assert_eq!(details(""), ["needs columns `date` and `close`, has: "]);
    }

    #[test]
    fn every_bad_row_is_named_by_its_line() {
        let text = "date,close\n2020-01-02,1\n2020-01-03,0\n02/01/2020,1\n2020-01-03,2\n2020-01-06,abc\n2020-01-07\n2020-01-07,NaN\n";
        assert_eq!(
            details(text),
            [
                "line 3: 0 is no price: it must be above 0",
                "line 4: `02/01/2020` is no date YYYY-MM-DD",
                "line 5: 2020-01-03 occurs twice",
                "line 6: `abc` is no price",
                "line 7: has no close",
                "line 8: NaN is no price: it must be above 0",
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_told_apart_from_what_is_not_granted() {
        let refused = |name: &str| read(&Context::mock(), name, &mut InputErrors::default()).unwrap_err();
        let ungranted = refused("prices.csv");
        assert_eq!(ungranted.kind(), FailureKind::Fatal);
        assert!(ungranted.message().contains("guest = \"/samples\""), "{ungranted}");
        let here = env!("CARGO_MANIFEST_DIR");
        let missing = refused(&format!("{here}/none.csv"));
        assert_eq!(missing.kind(), FailureKind::InvalidInput);
        assert!(missing.message().contains("has no file"), "{missing}");
        assert!(refused(here).message().contains("is a folder"));
        assert!(refused("").message().contains("is empty"));
        assert!(refused("../prices.csv").message().contains("must not go up"));
    }

    #[test]
    fn reading_stops_when_the_attempt_is_cancelled() {
        let mut text = String::from("date,close\n");
        let day = chrono::NaiveDate::from_ymd_opt(1900, 1, 1).unwrap();
        for offset in 0..5000 {
            text.push_str(&format!("{},1\n", day + chrono::Days::new(offset)));
        }
        let ctx = Context::mock().cancelled();
        let error = parse(&ctx, text.as_bytes(), &mut InputErrors::default()).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Cancelled);
    }
}
