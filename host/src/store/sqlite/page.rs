//! Cursors: the sort key and the id of the last row shown, so that a page costs the same wherever it is.

use super::Failed;
use crate::store::{Page, PageRequest, Result, StoreError};

/// A sort key and an id.
pub(super) type Key = (i64, [u8; 16]);

/// One more than asked for: whether it comes tells whether there is a next page.
pub(super) fn sql_limit(request: &PageRequest) -> i64 {
    i64::try_from(request.limit.saturating_add(1)).unwrap_or(i64::MAX)
}

/// Drops what is beyond those shown and, where there was any, turns the last one shown into the cursor.
pub(super) fn cut<T>(mut items: Vec<T>, shown: usize, key: impl Fn(&T) -> Key) -> Page<T> {
    let more = items.len() > shown;
    items.truncate(shown);
    let next = if more { items.last().map(|last| encode(key(last))) } else { None };
    Page { items, next }
}

/// Bytes after which a page ends early, with a cursor: a thousand rows of some megabytes each would be more than a host has.
pub(super) const BYTES: usize = 16 << 20;

/// As [`cut`], of rows that may be large: those that come after [`BYTES`] are left to the next page.
pub(super) fn fill<T>(
    rows: impl Iterator<Item = rusqlite::Result<T>>,
    shown: usize,
    size: impl Fn(&T) -> usize,
    key: impl Fn(&T) -> Key,
) -> Result<Page<T>> {
    let (mut items, mut bytes, mut more) = (Vec::new(), 0, false);
    for row in rows {
        if items.len() == shown || bytes >= BYTES {
            more = true;
            break;
        }
        let item = row.failed()?;
        bytes += size(&item);
        items.push(item);
    }
    let next = items.last().filter(|_| more).map(|last| encode(key(last)));
    Ok(Page { items, next })
}

/// As users carry it around.
pub(super) fn encode((sort, id): Key) -> String {
    format!("{:016x}{:032x}", sort.cast_unsigned(), u128::from_be_bytes(id))
}

/// The reverse of [`encode`].
pub(super) fn decode(cursor: Option<&str>) -> Result<Option<Key>> {
    let Some(text) = cursor else { return Ok(None) };
    if text.len() != 48 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(StoreError::BadCursor);
    }
    let sort = u64::from_str_radix(&text[..16], 16).map_err(|_| StoreError::BadCursor)?;
    let id = u128::from_str_radix(&text[16..], 16).map_err(|_| StoreError::BadCursor)?;
    Ok(Some((sort.cast_signed(), id.to_be_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went_and_nothing_else_passes() {
        for key in [(0, [0; 16]), (-5, [7; 16]), (i64::MAX, [0xff; 16])] {
            assert_eq!(decode(Some(&encode(key))).unwrap(), Some(key));
        }
        for bad in ["", "x", &"g".repeat(48), &"0".repeat(47), "é"] {
            assert!(matches!(decode(Some(bad)), Err(StoreError::BadCursor)), "{bad}");
        }
    }
}
