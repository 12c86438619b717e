//! The filter of a trigger: a CEL expression over `type`, `source`, `time` and `data` that says whether an event fires it.
//!
//! Whoever may register a trigger writes it, and the host's own threads evaluate it, so it is checked before it is kept ([`check`]): what
//! it names, how long and deep it is, and that no loop runs within a loop. What evaluating one costs is then bounded by the size of the
//! event's data, and that by [`MAX_DATA`]; looking up data is paid for besides ([`facts`]).
//!
//! A member that is missing, or a value of another type than the filter compares it with, is no match.

mod check;
mod facts;

use cel::common::ast::IdedExpr;
use cel::parser::PrattParser;
use cel::{Context, Env, ExecutionError, ParseErrors, Value};
pub use facts::{Facts, MAX_DATA};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

/// The longest filter, in characters.
pub const MAX_FILTER: usize = 4_096;
/// Levels of brackets that the parser descends.
const MAX_LEVELS: u16 = 64;
/// Stack for whatever walks over what was read, which is as deep as `a.b.c` is long: more than the longest filter can ask for.
const STACK: usize = 64 << 20;
/// The longest reason that is told, in characters.
const MAX_REASON: usize = 300;

/// The functions and types of the language.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// A filter that was checked.
#[derive(Debug)]
pub struct Filter {
    expression: IdedExpr,
}

/// What a filter says of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fires the trigger.
    Match,
    /// It does not.
    NoMatch,
    /// It does not, and neither true nor false came out of it: why, as a sentence.
    Failed(String),
}

impl Filter {
    /// Reads and checks a filter; a sentence says what is wrong with it. Takes up to some milliseconds, on a thread of its own: a few
    /// kilobytes of brackets need more stack than most threads have.
    pub fn compile(text: &str) -> Result<Self, String> {
        let length = text.chars().count();
        if length > MAX_FILTER {
            return Err(format!("a filter has at most {MAX_FILTER} characters, and this one {length}"));
        }
        if text.trim().is_empty() {
            return Err("a filter must not be empty; leave it out where every event of the type counts".into());
        }
        with_stack(|| compile(text))
    }

    /// Reads a filter that [`Filter::compile`] has accepted before, on this thread.
    pub fn restore(text: &str) -> Result<Self, String> {
        compile(text)
    }

    /// Whether an event fires the trigger.
    pub fn matches(&self, facts: &Facts) -> Verdict {
        facts.refill();
        let mut context = Context::with_env(LANGUAGE.clone());
        context.set_variable_resolver(facts);
        // A mistake in the library must not cost the thread, and with it the event.
        let result = catch_unwind(AssertUnwindSafe(|| Value::resolve(&self.expression, &context)));
        if facts.is_spent() {
            return Verdict::Failed("it looks up more of the data than a filter may; compare fewer or smaller members in a loop".into());
        }
        match result {
            Ok(Ok(Value::Bool(true))) => Verdict::Match,
            Ok(Ok(Value::Bool(false)) | Err(ExecutionError::NoSuchKey(_))) => Verdict::NoMatch,
            Ok(Ok(other)) => Verdict::Failed(format!("it must be true or false, and was a value of type {:?}", other.type_of())),
            Ok(Err(error)) => Verdict::Failed(shorten(&explain(&error))),
            Err(_) => Verdict::Failed("it could not be evaluated; the host's stderr says why".into()),
        }
    }
}

/// Runs what descends deeply.
fn with_stack<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    let unreadable = || "cannot be read as a CEL expression".to_owned();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("filter".into()).stack_size(STACK);
        let started = thread
            .spawn_scoped(scope, work)
            .map_err(|error| format!("cannot be read now: {error}"))?;
        started.join().map_err(|_| unreadable())?
    })
}

fn compile(text: &str) -> Result<Filter, String> {
    let expression = PrattParser::new()
        .max_recursion_depth(MAX_LEVELS)
        .parse(text)
        .map_err(|errors| syntax(&errors))?;
    check::check(&expression)?;
    Ok(Filter { expression })
}

fn syntax(errors: &ParseErrors) -> String {
    let Some(first) = errors.errors.first() else {
        return "cannot be read as a CEL expression".into();
    };
    let (line, column) = first.pos;
    shorten(&format!(
        "cannot be read as a CEL expression at line {}, column {}: {}",
        line.max(1),
        column.max(0) + 1,
        first.msg
    ))
}

/// The library's sentences show whole values, which may be large and are the emitter's business.
fn explain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        ExecutionError::ValuesNotComparable(left, right) => {
            format!(
                "a value of type {:?} cannot be compared with one of type {:?}",
                left.type_of(),
                right.type_of()
            )
        }
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => format!(
            "the operator {operator:?} does not work on values of type {:?} and {:?}",
            left.type_of(),
            right.type_of()
        ),
        ExecutionError::UnexpectedType { got, want } => format!("a value of type {got:?} stands where {want:?} is needed"),
        ExecutionError::FunctionError { function, .. } => format!("the function {function:?} does not work on this value"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "it divides by zero".into(),
        ExecutionError::Overflow(..) => "a number in it becomes too large".into(),
        ExecutionError::IndexOutOfBounds(_) => "a list is shorter than it expects".into(),
        _ => "it does not work on the values of this event".into(),
    }
}

fn shorten(text: &str) -> String {
    let mut flat: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_REASON + 1)
        .collect();
    if flat.chars().count() > MAX_REASON {
        flat = flat.chars().take(MAX_REASON).chain(['…']).collect();
    }
    flat
}

#[cfg(test)]
mod tests;
