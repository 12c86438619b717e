//! The calendars that are part of the program. `host/calendars/generate.py` makes them and says from what; `docs/calendars.md`
//! says how far they can be trusted.

use super::Calendar;
use std::sync::{Arc, LazyLock};

const DOCUMENTS: [(&str, &str); 6] = [
    ("TARGET2", include_str!("../../../calendars/TARGET2.json")),
    ("XETR", include_str!("../../../calendars/XETR.json")),
    ("XHKG", include_str!("../../../calendars/XHKG.json")),
    ("XLON", include_str!("../../../calendars/XLON.json")),
    ("XNYS", include_str!("../../../calendars/XNYS.json")),
    ("XTKS", include_str!("../../../calendars/XTKS.json")),
];

static SHIPPED: LazyLock<Vec<Arc<Calendar>>> = LazyLock::new(|| {
    // A test reads them all, so none is ever left out.
    let read = |(name, text): &(&str, &str)| Calendar::parse(name, text.as_bytes()).map(Arc::new).ok();
    DOCUMENTS.iter().filter_map(read).collect()
});

/// All of them, in the order of their names.
pub fn all() -> &'static [Arc<Calendar>] {
    &SHIPPED
}

/// The one of that name.
pub fn get(name: &str) -> Option<Arc<Calendar>> {
    all().iter().find(|calendar| calendar.name() == name).cloned()
}
