//! What a filter may say.
//!
//! Its cost is bounded by what it cannot write: no loop within a loop, no list or text that grows in a loop, no pattern that is only known
//! when an event arrives.

use super::shorten;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

/// Names that an event has.
const VARIABLES: [&str; 4] = ["type", "source", "time", "data"];
/// Names of types, to compare `type(…)` with.
const TYPES: [&str; 8] = ["int", "uint", "double", "bool", "string", "list", "map", "null_type"];
const OPERATORS: [&str; 18] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
];
const FUNCTIONS: [&str; 23] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "type",
    "timestamp",
    "duration",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
];
/// Levels of an expression: each is a step of recursion in whoever evaluates it.
const MAX_DEPTH: usize = 48;
/// Names, operators and calls; what is written out, such as the texts in a list, costs next to nothing where it is made once.
const MAX_NODES: usize = 200;
/// The same within loops, which may have half a million rounds: here what is written out counts too, since each round makes it anew.
const MAX_IN_LOOPS: usize = 100;
/// Bytes of a text within a loop that count as one more.
const TEXT: usize = 16;
/// Sums, each of which may copy a text as long as the data.
const MAX_SUMS: usize = 8;
/// Patterns, each of which is compiled for each event.
const MAX_PATTERNS: usize = 2;
/// The longest pattern, in characters, and the memory of one that was compiled, in bytes.
const MAX_PATTERN: usize = 256;
const MAX_PATTERN_SIZE: usize = 64 << 10;

#[derive(Default)]
struct Walk<'e> {
    /// The variable of the loop that is walked through.
    each: Option<&'e ComprehensionExpr>,
    nodes: usize,
    in_loops: usize,
    sums: usize,
    patterns: usize,
}

/// A sentence says what is wrong.
pub(super) fn check(expression: &IdedExpr) -> Result<(), String> {
    if !may_be_bool(&expression.expr) {
        return Err("a filter must be true or false, such as data.delta > 1000000.0".into());
    }
    Walk::default().walk(expression, 1)
}

fn may_be_bool(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(literal) => matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => false,
        Expr::Ident(name) => name == "data" || !VARIABLES.contains(&name.as_str()) && !TYPES.contains(&name.as_str()),
        Expr::Call(call) => !matches!(
            call.func_name.as_str(),
            operators::ADD
                | operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO
                | operators::NEGATE
                | "size"
        ),
        Expr::Unspecified | Expr::Comprehension(_) | Expr::Select(_) => true,
    }
}

fn text_length(expr: &Expr) -> usize {
    match expr {
        Expr::Literal(LiteralValue::String(text)) => text.inner().len(),
        Expr::Literal(LiteralValue::Bytes(bytes)) => bytes.inner().len(),
        _ => 0,
    }
}

impl<'e> Walk<'e> {
    fn walk(&mut self, expression: &'e IdedExpr, depth: usize) -> Result<(), String> {
        self.nodes += usize::from(!matches!(expression.expr, Expr::Literal(_)));
        self.in_loops += self.each.map_or(0, |_| 1 + text_length(&expression.expr) / TEXT);
        if depth > MAX_DEPTH {
            return Err(format!("a filter must not be nested deeper than {MAX_DEPTH} levels"));
        }
        if self.nodes > MAX_NODES {
            return Err(format!("a filter has at most {MAX_NODES} names, operators and calls"));
        }
        if self.in_loops > MAX_IN_LOOPS {
            return Err(format!(
                "within its loops a filter has at most {MAX_IN_LOOPS} names, operators, calls and values, of which a long text counts as several; \
                 compare with fewer"
            ));
        }
        match &expression.expr {
            Expr::Unspecified => Err("cannot be read as a CEL expression".into()),
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.walk(&select.operand, depth + 1),
            Expr::List(list) => list.elements.iter().try_for_each(|item| self.walk(item, depth + 1)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => self.walk(&entry.key, depth + 1).and_then(|()| self.walk(&entry.value, depth + 1)),
                EntryExpr::StructField(field) => Err(format!("the field {:?} belongs to no type", shorten(&field.field))),
            }),
            Expr::Struct(of) => Err(format!("there is no type {:?} to make a value of", shorten(&of.type_name))),
            Expr::Call(call) => self.call(call, depth),
            Expr::Comprehension(each) => self.each(each, depth),
        }
    }

    fn name(&self, name: &str) -> Result<(), String> {
        let of_loop = self.each.is_some_and(|each| each.iter_var == name);
        if of_loop || VARIABLES.contains(&name) || TYPES.contains(&name) {
            return Ok(());
        }
        Err(format!(
            "there is no variable {:?}; a filter sees type, source, time and data, and a member of the data as data.{}",
            shorten(name),
            shorten(name)
        ))
    }

    fn call(&mut self, call: &'e CallExpr, depth: usize) -> Result<(), String> {
        let name = call.func_name.as_str();
        match name {
            "matches" => self.pattern(call)?,
            operators::ADD if self.each.is_some() => return Err("a filter cannot add up within a loop".into()),
            operators::ADD => {
                self.sums += 1;
                if self.sums > MAX_SUMS {
                    return Err(format!("a filter adds up at most {MAX_SUMS} times"));
                }
            }
            operators::EXISTS_ONE | operators::MAP | operators::FILTER | operators::EXISTS | operators::ALL | operators::HAS => {
                return Err(format!(
                    "{name} is written as in data.items.exists(x, x.quantity > 5) or has(data.delta)"
                ));
            }
            _ if OPERATORS.contains(&name) || FUNCTIONS.contains(&name) => {}
            _ => {
                return Err(format!(
                    "there is no function {:?}; a filter may use has, exists, all, {}",
                    shorten(name),
                    FUNCTIONS.join(", ")
                ));
            }
        }
        call.target
            .iter()
            .map(AsRef::as_ref)
            .chain(&call.args)
            .try_for_each(|part| self.walk(part, depth + 1))
    }

    fn pattern(&mut self, call: &CallExpr) -> Result<(), String> {
        let Some(Expr::Literal(LiteralValue::String(pattern))) = call.args.last().map(|pattern| &pattern.expr) else {
            return Err("the pattern of matches must be written out as text".into());
        };
        if self.each.is_some() {
            return Err("matches cannot be used within a loop".into());
        }
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(format!("a filter uses matches at most {MAX_PATTERNS} times"));
        }
        let pattern = pattern.inner();
        if pattern.chars().count() > MAX_PATTERN {
            return Err(format!("a pattern has at most {MAX_PATTERN} characters"));
        }
        let compiled = regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN_SIZE).build();
        compiled.map(drop).map_err(|error| {
            let reason = error.to_string();
            let last = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            shorten(&format!("the pattern {pattern:?} cannot be used: {last}"))
        })
    }

    fn each(&mut self, each: &'e ComprehensionExpr, depth: usize) -> Result<(), String> {
        if self.each.is_some() {
            return Err("a loop (exists, all) must not stand within another".into());
        }
        let Expr::Literal(LiteralValue::Boolean(_)) = each.accu_init.expr else {
            return Err("of the loops a filter may use exists and all; the others build lists and counts".into());
        };
        if VARIABLES.contains(&each.iter_var.as_str()) || TYPES.contains(&each.iter_var.as_str()) {
            return Err(format!("the variable of a loop must not be called {:?}", each.iter_var));
        }
        self.walk(&each.iter_range, depth + 1)?;
        // The step is `@result && …` or `@result || …`; the rest of the loop is the language's own.
        let Expr::Call(CallExpr { args, .. }) = &each.loop_step.expr else {
            return Err("cannot be read as a CEL expression".into());
        };
        self.each = Some(each);
        let walked = args.iter().skip(1).try_for_each(|part| self.walk(part, depth + 2));
        self.each = None;
        walked
    }
}
