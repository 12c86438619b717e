//! What filters mean, what is refused, and what the worst of them cost.

use super::*;
use proptest::prelude::*;

fn facts(data: &str) -> Facts {
    let time = "2026-03-02T09:30:00Z".parse().unwrap();
    Facts::new("position_change", "/desk/1", time, data).unwrap()
}

fn verdict(filter: &str, data: &str) -> Verdict {
    Filter::compile(filter).expect(filter).matches(&facts(data))
}

const DATA: &str = r#"{"delta": 1500000, "ratio": 2.5, "big": 12345678901234567890, "huge": 1e300, "desk": "fx", "none": null,
    "a-b": 1, "items": [{"q": 1, "s": "x"}, {"q": 7, "s": "y"}], "deep": {"er": {"n": -3}}, "tags": ["eu", "us"]}"#;

#[test]
fn filters_say_what_they_mean() {
    for (filter, expected) in [
        ("data.delta > 1000000.0", true),
        ("data.delta > 1000000", true),
        ("data.delta == 1500000.0", true),
        ("data.delta >= 1500000u", true),
        ("data.ratio < 3", true),
        ("data.ratio == 2.5", true),
        ("data.big > 9223372036854775807", true),
        ("data.big > data.delta && data.huge > data.big", true),
        ("data.delta + 1 == 1500001", true),
        ("double(data.delta) * 2.0 == 3000000.0", true),
        ("type == 'position_change' && source == '/desk/1'", true),
        ("time > timestamp('2026-03-02T09:00:00Z') && time.getHours() == 9", true),
        ("time - timestamp('2026-03-02T09:00:00Z') == duration('30m')", true),
        ("time.getDayOfWeek('Europe/London') == 1", true),
        ("data['a-b'] == 1", true),
        ("data.desk in ['fx', 'rates']", true),
        ("'eu' in data.tags && size(data.tags) == 2", true),
        ("data.items.exists(x, x.q > 5)", true),
        ("data.items.all(x, x.q < data.delta)", true),
        ("data.items.all(x, x.q > 5)", false),
        ("has(data.delta) && !has(data.gamma)", true),
        ("has(data.deep.er) && data.deep.er.n == -3", true),
        ("data.desk.startsWith('f') && data.desk.matches('^f.$')", true),
        ("type(data.desk) == string && data.none == null", true),
        ("data.desk == 'fx' ? data.ratio > 2.0 : false", true),
        ("true", true),
        ("data.delta < 0", false),
        // A missing member is no match, wherever it stands, unless the rest decides.
        ("data.gamma > 5", false),
        ("!(data.gamma > 5)", false),
        ("data.deep.gone.n == 1", false),
        ("data.items.exists(x, x.missing == 1)", false),
        ("data.gamma > 5 || data.delta > 5", true),
        ("data.gamma == 5 && data.delta > 5", false),
    ] {
        let expected = if expected { Verdict::Match } else { Verdict::NoMatch };
        assert_eq!(verdict(filter, DATA), expected, "{filter}");
    }
}

#[test]
fn what_is_neither_true_nor_false_is_no_match_and_says_why() {
    for (filter, word) in [
        ("data.desk > 5", "no matching overload"),
        ("data.delta", "true or false"),
        ("data.items[5].q == 1", "shorter"),
        ("data.delta / 0 == 1", "zero"),
        ("data.delta * 9223372036854775807 > 1", "too large"),
        ("data.none.x == 1", "o"),
        ("timestamp(data.desk) > time", "timestamp"),
    ] {
        let Verdict::Failed(sentence) = verdict(filter, DATA) else {
            panic!("{filter}: {:?}", verdict(filter, DATA));
        };
        assert!(sentence.contains(word), "{filter}: {sentence}");
    }
}

#[test]
fn a_filter_that_cannot_be_meant_is_refused_with_a_sentence() {
    let deep = format!("{}1{} == 1", "[".repeat(50), "]".repeat(50));
    let sums = format!("size({}) > 0", ["data.a"; 10].join(" + "));
    let many = vec!["data.a == 1"; 90].join(" && ");
    let listed = format!("data.desk in [{}]", vec!["'fx'"; 500].join(","));
    assert!(Filter::compile(&listed).is_ok());
    let long = format!("data.a == '{}'", "x".repeat(MAX_FILTER));
    for (filter, word) in [
        ("", "empty"),
        ("  ", "empty"),
        ("data.delta >", "line 1, column"),
        ("data.delta > 1 )", "line 1, column"),
        ("delta > 1", "data.delta"),
        ("data.items.exists(x, y.q > 1)", "no variable \"y\""),
        ("x > 1 && data.items.exists(x, x.q > 1)", "no variable \"x\""),
        ("now() > time", "no function \"now\""),
        ("optional.of(data).hasValue()", "no function"),
        ("data.?a == 1", "line 1"),
        ("data.delta + 1", "true or false"),
        ("'yes'", "true or false"),
        ("time", "true or false"),
        ("[true]", "true or false"),
        ("Foo{a: 1} == 1", "no type"),
        ("data.items.map(x, x.q) == [1]", "exists and all"),
        ("data.items.filter(x, x.q > 1) == []", "exists and all"),
        ("data.items.exists_one(x, x.q > 1)", "exists and all"),
        ("data.a.exists(x, data.b.exists(y, y == x))", "within another"),
        ("data.a.exists(x, x + 'a' == 'ba')", "add up within a loop"),
        ("data.a.exists(data, data == 1)", "must not be called"),
        ("data.a.matches(data.b)", "written out"),
        ("data.a.matches('(')", "pattern"),
        ("data.a.matches('((a{1,100}){1,100}){1,100}')", "pattern"),
        ("data.a.exists(x, x.matches('a'))", "within a loop"),
        (&deep, "nested deeper"),
        (&sums, "at most 8"),
        (&many, "at most 200"),
        (&long, "4096 characters"),
    ] {
        let sentence = Filter::compile(filter).expect_err(filter);
        assert!(sentence.contains(word), "{filter}: {sentence}");
        assert!(sentence.chars().count() < 500, "{sentence}");
    }
}

/// Shapes on which a parser or an evaluator that recurses runs out of stack.
#[test]
fn nothing_that_fits_in_a_filter_takes_the_process() {
    for unit in [
        "(",
        "!",
        "-",
        "[",
        "{",
        "a.",
        "a[",
        "f(",
        "1+",
        "1?",
        "a?b:",
        "true&&",
        "'",
        "data.a.exists(x,",
        "{1:",
        "/*",
        "\\",
        "a.b(",
        "!(",
        "-(",
    ] {
        let text: String = unit.repeat(10_000);
        assert!(Filter::compile(&text).is_err());
        let text: String = text.chars().take(MAX_FILTER).collect();
        let _ = Filter::compile(&text);
        for close in ["1", "1)", "true"] {
            let text: String = unit.chars().cycle().take(MAX_FILTER - close.len()).chain(close.chars()).collect();
            let _ = Filter::compile(&text);
        }
    }
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("!(", "true", ")"),
        ("f(", "1", ")"),
        ("a[", "1", "]"),
    ] {
        let levels = (MAX_FILTER - 8) / (open.len() + close.len());
        let text = format!("{}{middle}{}", open.repeat(levels), close.repeat(levels));
        assert!(Filter::compile(&text).is_err(), "{open}");
    }
}

#[test]
fn what_was_accepted_is_read_again_on_any_thread() {
    let levels = (MAX_FILTER - 4) / 2;
    for text in [
        format!("{}true{}", "(".repeat(levels), ")".repeat(levels)),
        format!("{}true", "!".repeat(MAX_FILTER - 4)),
        format!("{}1 == 1", "-".repeat(MAX_FILTER - 6)),
        format!("true{}", " && true".repeat(190)),
        format!("{}1{} == [1]", "[".repeat(46), "]".repeat(46)),
    ] {
        Filter::compile(&text).expect(&text);
        Filter::restore(&text).expect(&text).matches(&facts("{}"));
    }
}

#[test]
fn the_deepest_filter_is_evaluated() {
    let text = format!("data{} == 1", ".a".repeat(MAX_DEEP));
    let filter = Filter::compile(&text).unwrap();
    assert_eq!(filter.matches(&facts("{}")), Verdict::NoMatch);
    let text = format!("{}data.a == 1", "!".repeat(2));
    assert_eq!(Filter::compile(&text).unwrap().matches(&facts(r#"{"a": 1}"#)), Verdict::Match);
    let text = format!("1{} == 46", " - -1".repeat(MAX_DEEP - 1));
    assert!(matches!(
        Filter::compile(&text).unwrap().matches(&facts("{}")),
        Verdict::Match | Verdict::NoMatch
    ));
}

const MAX_DEEP: usize = 45;

#[test]
fn a_loop_over_much_data_ends() {
    let items = vec!["1"; 200_000].join(",");
    let data = format!(r#"{{"limit": 5, "items": [{items}]}}"#);
    assert_eq!(verdict("data.items.all(x, x < data.limit)", &data), Verdict::Match);
    let Verdict::Failed(sentence) = verdict("data.items.all(x, data.items == data.items)", &data) else {
        panic!("that would take hours");
    };
    assert!(sentence.contains("looks up more"), "{sentence}");
    assert!(
        Facts::new(
            "a",
            "b",
            crate::model::Time::UNIX_EPOCH,
            &format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_DATA))
        )
        .is_none()
    );
}

#[test]
fn what_each_round_of_a_loop_makes_anew_is_counted() {
    for list in [
        vec!["2"; 100].join(","),
        format!("'{}'", "x".repeat(2_000)),
        format!("b'{}'", "x".repeat(2_000)),
    ] {
        let sentence = Filter::compile(&format!("data.a.all(x, !(x in [{list}]))")).unwrap_err();
        assert!(sentence.contains("within its loops"), "{sentence}");
    }
    let once = format!(
        "data.a in [{}] && [{}].exists(x, x == data.a)",
        vec!["2"; 500].join(","),
        vec!["2"; 500].join(",")
    );
    Filter::compile(&once).unwrap();
}

/// The most that can be written of what costs most, on the most data.
#[test]
fn the_costliest_filters_end_soon() {
    let numbers = vec!["1"; 200_000].join(",");
    let list = format!(r#"{{"a": [{numbers}]}}"#);
    let ones = format!(r#"{{"a":[{}]}}"#, vec!["1"; MAX_DATA / 2 - 8].join(","));
    let one_text = |text: String| format!(r#"{{"a": "{text}"}}"#);
    let letters = one_text("a".repeat(1_000_000));
    let texts = format!(r#"{{"a": [{}]}}"#, vec![format!("\"{}\"", "a".repeat(1_000)); 1_000].join(","));
    let and = |term: &str, times: usize| vec![term; times].join(" && ");
    for (filter, data) in [
        (and("data.a == data.a", 33), &list),
        (and("data == data", 50), &list),
        (format!("data.a.all(x, {})", and("x == x", 25)), &ones),
        (format!("data.a.all(x, {})", and("x == x", 25)), &texts),
        (format!("data.a.all(x, !(x in [{}]))", vec!["2"; 90].join(",")), &ones),
        (format!("data.a.all(x, !(x in ['{}']))", "b".repeat(1_400)), &ones),
        (format!("data.a.all(x, double('{}') > 0.0)", "9".repeat(1_400)), &ones),
        ("data.a.all(x, x in data.a)".to_owned(), &list),
        (
            format!("[{}].all(x, {})", vec!["1"; 80].join(","), and("data.a == data.a", 16)),
            &list,
        ),
        (
            format!(
                "data.a.all(x, {})",
                and("x.contains('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab') == false", 12)
            ),
            &texts,
        ),
        (format!("size({}) > 0", ["data.a"; 9].join(" + ")), &letters),
        (format!("({}) == data.a", ["data.a"; 9].join(" + ")), &list),
        (
            and("data.a.contains('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab')", 45),
            &letters,
        ),
        (and("data.a.matches('(a|aa|aaa){1,40}b|(x+x+)+y$') == false", 2), &letters),
        (and("size(string(data.a)) == size(data.a)", 20), &letters),
        ("duration(data.a) == duration('1h')".to_owned(), &one_text("1h".repeat(500_000))),
        ("timestamp(data.a) == time".to_owned(), &one_text("2".repeat(1_000_000))),
        ("double(data.a) == 1.0".to_owned(), &one_text("9".repeat(1_000_000))),
    ] {
        let filter = Filter::compile(&filter).expect(&filter);
        let facts = facts(data);
        let began = std::time::Instant::now();
        let verdict = filter.matches(&facts);
        let took = began.elapsed();
        assert!(took.as_secs() < 10, "{took:?}, {verdict:?}: {filter:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}") {
        if let Ok(filter) = Filter::compile(&text) {
            filter.matches(&facts(DATA));
        }
    }

    #[test]
    fn any_words_of_the_language_are_read_or_refused(words in prop::collection::vec(prop::sample::select(vec![
        "data", ".", "delta", "items", "(", ")", "[", "]", "1", "-1", "2.5", "'fx'", "true", "&&", "||", "!", "-", "+", "*", "/", "%", "==",
        "<", ">", "in", "?", ":", ",", "exists(x,", "all(x,", "x", "has(", "size(", "time", "type", "source", "matches(", "int(", "duration(",
        "timestamp(", "string(", "null", "9223372036854775807", "-9223372036854775808", "b'a'", "r'a'", "\"\"\"a\"\"\"", "{", "}",
    ]), 1..14)) {
        if let Ok(filter) = Filter::compile(&words.join(" ")) {
            filter.matches(&facts(DATA));
        }
    }
}
