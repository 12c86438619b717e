//! What a text of JSON takes in memory once it is read: sixteen megabytes of small objects are a gigabyte.

/// The least that an object takes, and what each member takes of a large one; what an item of a list takes. All beside their texts, about,
/// measured with `serde_json::Value`.
const OBJECT: usize = 640;
const MEMBER: usize = 160;
const ITEM: usize = 64;
/// Deeper than any text that is taken: what lies there is not read.
const MAX_DEPTH: usize = 256;

/// Bytes that a text takes as values, about.
pub(super) fn weight(text: &[u8]) -> usize {
    // Members of each object that is open; `None` of a list.
    let mut open: Vec<Option<usize>> = Vec::new();
    let (mut total, mut at) = (text.len(), 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at),
            b'{' | b'[' if open.len() == MAX_DEPTH => return total,
            b'{' => open.push(Some(0)),
            b'[' => {
                open.push(None);
                total += ITEM;
            }
            b':' => {
                if let Some(Some(members)) = open.last_mut() {
                    *members += 1;
                }
            }
            b',' if open.last() == Some(&None) => total += ITEM,
            b'}' | b']' => {
                if let Some(Some(members)) = open.pop() {
                    total += OBJECT.max(MEMBER * members);
                }
            }
            _ => {}
        }
        at += 1;
    }
    total
}

/// The place of the quote that ends the string that begins at `at`, or the end of a text that has none.
fn end_of_string(text: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        match rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            Some(found) if rest[found] == b'\\' => at += found + 2,
            Some(found) => return at + found,
            None => return text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_items_weigh_and_texts_do_not() {
        let check = |text: &str, expected: usize| assert_eq!(weight(text.as_bytes()), text.len() + expected, "{text}");
        check("{}", OBJECT);
        check(r#"{"a":1,"b":2}"#, OBJECT);
        check("[]", ITEM);
        check("[1,2,3]", 3 * ITEM);
        check(r#"[{"a":[1,2]},{}]"#, 2 * ITEM + OBJECT + 2 * ITEM + OBJECT);
        check(r#"{"csv":"1,2,{[:\"]}\\","n":1}"#, OBJECT);
        let members: Vec<String> = (0..1_000).map(|n| format!(r#""{n}":1"#)).collect();
        check(&format!("{{{}}}", members.join(",")), 1_000 * MEMBER);
        for broken in ["{", "[[", r#"{"a"#, r#"{"a\"#, "}}]]", ",,::"] {
            assert!(weight(broken.as_bytes()) < 1_000, "{broken}");
        }
        assert!(weight("[".repeat(1 << 20).as_bytes()) < 2 << 20);
    }
}
