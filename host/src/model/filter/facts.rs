//! What filters see of an event.

use crate::model::Time;
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp, CelUInt};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use serde_json::{Number, Value};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of data, as JSON, that filters look at: every value of it becomes some dozens of bytes.
pub const MAX_DATA: usize = 1 << 20;
/// Values that one evaluation may look up, counted with all that they hold. Each lookup may be compared with another as large, and a loop
/// looks up again with each of its rounds.
const MAX_LOOKED_UP: u64 = 20_000_000;

/// One event as filters see it: made once, whatever the number of filters.
#[derive(Debug)]
pub struct Facts {
    event_type: CelString<'static>,
    source: CelString<'static>,
    time: CelTimestamp,
    data: CelMap<'static>,
    /// What the evaluation under way may still look up.
    left: AtomicU64,
}

impl Facts {
    /// Of an event; `data` is the JSON text of an object of at most [`MAX_DATA`] bytes. `None` where it is not.
    pub fn new(event_type: &str, source: &str, time: Time, data: &str) -> Option<Self> {
        if data.len() > MAX_DATA {
            return None;
        }
        let Ok(Value::Object(members)) = serde_json::from_str(data) else {
            return None;
        };
        Some(Self {
            event_type: event_type.to_owned().into(),
            source: source.to_owned().into(),
            time: time.fixed_offset().into(),
            data: map(members),
            left: AtomicU64::new(0),
        })
    }

    pub(super) fn refill(&self) {
        self.left.store(MAX_LOOKED_UP, Ordering::Relaxed);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn pay<'b>(&self, value: &'b (dyn Val + 'static)) -> Option<CowVal<'b, 'b>> {
        let left = self.left.load(Ordering::Relaxed);
        let left = if left == 0 { 0 } else { left.saturating_sub(weight(value)) };
        self.left.store(left, Ordering::Relaxed);
        (left > 0).then_some(CowVal::Borrowed(value))
    }

    /// A member of the data by the names on the way to it.
    fn find<'b>(&'b self, path: &str) -> Option<&'b (dyn Val + 'static)> {
        let mut at: &(dyn Val + 'static) = &self.data;
        for name in path.split('.') {
            let members = at.downcast_ref::<CelMap<'static>>()?;
            at = members.get(&CelMapKey::from(name.to_owned()))?.as_ref();
        }
        Some(at)
    }
}

/// Asked for the whole of `data.a.b` before `data.a`, so that no more is paid for than is looked at.
impl VariableResolver for Facts {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match variable {
            "type" => self.pay(&self.event_type),
            "source" => self.pay(&self.source),
            "time" => self.pay(&self.time),
            "data" => self.pay(&self.data),
            _ => self.pay(self.find(variable.strip_prefix("data.")?)?),
        }
    }
}

fn val(value: Value) -> Box<dyn Val> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(value)),
        Value::Number(number) => self::number(&number),
        Value::String(text) => Box::new(CelString::from(text)),
        Value::Array(items) => Box::new(CelList::from(items.into_iter().map(val).collect::<Vec<_>>())),
        Value::Object(members) => Box::new(map(members)),
    }
}

/// A whole number is one to CEL as well, as far as it has such; comparisons between its kinds of number go by value.
fn number(number: &Number) -> Box<dyn Val> {
    if let Some(whole) = number.as_i64() {
        Box::new(CelInt::from(whole))
    } else if let Some(whole) = number.as_u64() {
        Box::new(CelUInt::from(whole))
    } else {
        Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
    }
}

fn map(members: serde_json::Map<String, Value>) -> CelMap<'static> {
    let entries = members.into_iter().map(|(name, value)| (CelMapKey::from(name), val(value)));
    CelMap::from(entries.collect::<HashMap<_, _>>())
}

/// How many values there are to compare.
fn weight(value: &(dyn Val + 'static)) -> u64 {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        1 + text.inner().len() as u64 / 16
    } else if let Some(list) = value.downcast_ref::<CelList<'static>>() {
        1 + list.inner().iter().map(|item| weight(item.as_ref())).sum::<u64>()
    } else if let Some(map) = value.downcast_ref::<CelMap<'static>>() {
        1 + map.inner().values().map(|item| weight(item.as_ref())).sum::<u64>()
    } else {
        1
    }
}
