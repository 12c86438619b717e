//! The bridge from the `log` crate to the attempt's log.

use crate::host;
use log::{
    LevelFilter, Log, Metadata, Record,
    kv::{Error, Key, Value, VisitSource},
};

/// Hands every line on; the host bounds and filters.
struct Bridge;

static BRIDGE: Bridge = Bridge;

/// Makes `log::info!` and friends reach the attempt's log. A logger that the plugin installed before stays.
pub(crate) fn install() {
    if log::set_logger(&BRIDGE).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
}

impl Log for Bridge {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut fields = Fields(Vec::new());
        // Never fails: `Fields` accepts everything that can be displayed.
        let _ = record.key_values().visit(&mut fields);
        host::write_log(record.level(), record.args().to_string(), fields.0);
    }

    fn flush(&self) {}
}

struct Fields(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}
