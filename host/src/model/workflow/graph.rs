//! The steps of a workflow as they are checked when it comes in: every name known, nothing in a circle.

use super::When;
use crate::model::name;
use crate::model::request::{Refusal, RefusalKind};
use std::collections::{HashMap, HashSet};

/// Most steps of a workflow.
pub const MAX_STEPS: usize = 1_000;
/// Most needs of all its steps together: each end of a step looks at all of them.
pub const MAX_NEEDS: usize = 10_000;
/// Steps of a circle that a sentence names.
const SHOWN: usize = 10;

/// What of a step decides when it runs.
#[derive(Clone, Debug)]
pub struct StepRule<'a> {
    /// Its name within the workflow.
    pub key: &'a str,
    /// The keys of the steps before it.
    pub needs: &'a [String],
    /// When it runs.
    pub when: When,
}

/// Steps and their needs, by their places in the request.
#[derive(Clone, Debug)]
pub struct Graph {
    needs: Vec<Vec<usize>>,
    when: Vec<When>,
    /// Each step after its needs.
    order: Vec<usize>,
}

impl Graph {
    /// Checks the steps of a request; what is wrong is told with its pointer.
    pub fn new(steps: &[StepRule<'_>]) -> Result<Self, Refusal> {
        if steps.is_empty() {
            return Err(fault("/steps", "has no step; a workflow has at least one"));
        }
        if steps.len() > MAX_STEPS {
            let sentence = format!("has {} steps; a workflow has at most {MAX_STEPS}", steps.len());
            return Err(fault("/steps", sentence));
        }
        let places = places(steps)?;
        let mut needs = Vec::with_capacity(steps.len());
        for (place, step) in steps.iter().enumerate() {
            needs.push(needs_of(place, step, &places)?);
        }
        if needs.iter().map(Vec::len).sum::<usize>() > MAX_NEEDS {
            let sentence = format!("its steps have more than {MAX_NEEDS} needs together; put steps between that gather them");
            return Err(fault("/steps", sentence));
        }
        let when = steps.iter().map(|step| step.when).collect();
        match sorted(&needs) {
            Ok(order) => Ok(Self { needs, when, order }),
            Err(circle) => Err(round(&circle, steps)),
        }
    }

    /// Steps that were checked before, as the store kept them; `None` where they were damaged since.
    pub fn of_checked(needs: Vec<Vec<usize>>, when: Vec<When>) -> Option<Self> {
        let whole = needs.len() == when.len() && needs.iter().flatten().all(|need| *need < needs.len());
        let order = sorted(&needs).ok().filter(|_| whole)?;
        Some(Self { needs, when, order })
    }

    /// The places of a step's needs.
    pub fn needs(&self, step: usize) -> &[usize] {
        &self.needs[step]
    }

    /// When a step runs.
    pub fn when(&self, step: usize) -> When {
        self.when[step]
    }

    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }
}

fn fault(pointer: impl Into<String>, sentence: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Value, pointer, sentence)
}

fn places<'a>(steps: &[StepRule<'a>]) -> Result<HashMap<&'a str, usize>, Refusal> {
    let mut places = HashMap::with_capacity(steps.len());
    for (place, step) in steps.iter().enumerate() {
        let at = format!("/steps/{place}/key");
        if !name::is_valid(step.key) {
            return Err(fault(at, name::why_invalid("the key", step.key)));
        }
        if let Some(first) = places.insert(step.key, place) {
            let sentence = format!("step {first} has the key {:?} already; each step has its own", step.key);
            return Err(fault(at, sentence));
        }
    }
    Ok(places)
}

fn needs_of(place: usize, step: &StepRule<'_>, places: &HashMap<&str, usize>) -> Result<Vec<usize>, Refusal> {
    let mut seen = HashSet::new();
    let mut needs = Vec::with_capacity(step.needs.len());
    for (index, need) in step.needs.iter().enumerate() {
        let wrong = |sentence: String| fault(format!("/steps/{place}/needs/{index}"), sentence);
        let shown: String = need.chars().take(40).collect();
        let Some(&found) = places.get(need.as_str()) else {
            return Err(wrong(format!("no step has the key {shown:?}")));
        };
        if found == place {
            return Err(wrong(format!("step {shown:?} needs itself")));
        }
        if !seen.insert(found) {
            return Err(wrong(format!("names {shown:?} a second time; name each need once")));
        }
        needs.push(found);
    }
    Ok(needs)
}

/// Each step after its needs, as early as the order of the request allows; or a circle, each step needing the next.
fn sorted(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut dependents = vec![Vec::new(); needs.len()];
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    for (step, needs) in needs.iter().enumerate() {
        for &need in needs {
            dependents.get_mut(need).ok_or_else(Vec::new)?.push(step);
        }
    }
    let mut order: Vec<usize> = (0..needs.len()).filter(|step| open[*step] == 0).collect();
    let mut next = 0;
    while let Some(&done) = order.get(next) {
        next += 1;
        for &step in &dependents[done] {
            open[step] -= 1;
            if open[step] == 0 {
                order.push(step);
            }
        }
    }
    if order.len() == needs.len() {
        Ok(order)
    } else {
        Err(circle(needs, &open))
    }
}

/// Every step that is left needs another that is left: whoever goes from need to need comes round.
fn circle(needs: &[Vec<usize>], open: &[usize]) -> Vec<usize> {
    let Some(mut step) = open.iter().position(|open| *open > 0) else {
        return Vec::new();
    };
    let mut path = Vec::new();
    let mut met = HashMap::new();
    while !met.contains_key(&step) {
        met.insert(step, path.len());
        path.push(step);
        let Some(&need) = needs[step].iter().find(|need| open[**need] > 0) else {
            break;
        };
        step = need;
    }
    path.split_off(met.get(&step).copied().unwrap_or(0))
}

fn round(circle: &[usize], steps: &[StepRule<'_>]) -> Refusal {
    let mut keys: Vec<&str> = circle.iter().take(SHOWN).map(|step| steps[*step].key).collect();
    if circle.len() > SHOWN {
        keys.push("…");
    }
    keys.extend(circle.first().map(|step| steps[*step].key));
    let place = circle.first().copied().unwrap_or(0);
    let sentence = format!(
        "these steps need one another in a circle: {}; none of them could ever run",
        keys.join(" → ")
    );
    fault(format!("/steps/{place}/needs"), sentence)
}
