//! The most that evaluating a predicate can cost, computed from its parsed form and the bounds of what it sees.
//!
//! The interpreter has no limit of cost and cannot be interrupted, so that a predicate is refused which could cost too much on some entry.
//! The bound is coarse: every variable counts as if it were as large as any may be. One unit is about what it takes to compare one byte.

use super::{ELEMENTS_MAX, JSON_BYTES_MAX};
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, operators};

/// What one step of the interpreter costs.
const STEP: u64 = 64;
/// The size of a number or boolean.
const SCALAR: u64 = 8;
/// What it costs to copy or compare a value, for each unit of its size: of JSON, every other byte may be a value of its own.
const VALUE: u64 = 8;
/// The most that a predicate may cost for one entry. An optimised build took about 2 ns a unit, so about two seconds for the most expensive.
pub(super) const COST_MAX: u64 = 1 << 30;

/// Upper bounds of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    /// Of evaluating it.
    cost: u64,
    /// Of its value: bytes of its JSON text. Of the variable of a loop it is the average over the elements; that is enough, since no cost
    /// grows faster than sizes.
    size: u64,
    /// Elements of its value, where that is a list or map.
    elements: u64,
}

/// Names of loops around an expression, with bounds of their values.
type Scope<'a> = Vec<(&'a str, Bound)>;

/// The most that evaluating an expression costs.
pub(super) fn most(expr: &Expr) -> u64 {
    bound(expr, &mut Scope::new()).cost
}

impl Bound {
    const fn scalar(cost: u64) -> Self {
        Self {
            cost,
            size: SCALAR,
            elements: 0,
        }
    }

    /// The same value after more was spent on it.
    const fn after(self, cost: u64) -> Self {
        Self {
            cost: self.cost.saturating_add(cost),
            ..self
        }
    }

    /// Both as one value.
    const fn and(self, other: Self) -> Self {
        Self {
            cost: self.cost.saturating_add(other.cost),
            size: self.size.saturating_add(other.size),
            elements: self.elements.saturating_add(other.elements),
        }
    }
}

/// A variable of the entry, and what is within it.
const VARIABLE: Bound = Bound {
    cost: STEP,
    size: JSON_BYTES_MAX as u64,
    elements: ELEMENTS_MAX as u64,
};

fn bound<'a>(expr: &'a Expr, scope: &mut Scope<'a>) -> Bound {
    match expr {
        Expr::Literal(literal) => Bound {
            size: literal_size(literal),
            ..Bound::scalar(STEP)
        },
        Expr::Ident(name) => {
            let inner = scope.iter().rev().find(|(found, _)| found == name);
            inner.map_or(VARIABLE, |(_, bound)| Bound { cost: STEP, ..*bound })
        }
        Expr::Select(select) => {
            let operand = bound(&select.operand.expr, scope).after(STEP);
            if select.test {
                Bound::scalar(operand.cost)
            } else {
                within(operand)
            }
        }
        Expr::List(list) => {
            let all = list.elements.iter().map(|element| bound(&element.expr, scope));
            let all = all.fold(Bound::scalar(STEP), Bound::and);
            let elements = list.elements.len() as u64;
            Bound { elements, ..all }.after(copied(all))
        }
        Expr::Call(call) => a_call(call, scope),
        Expr::Comprehension(all) => a_loop(all, scope),
        // The fence refuses these.
        Expr::Unspecified | Expr::Map(_) | Expr::Struct(_) => Bound::scalar(u64::MAX),
    }
}

/// Something that a value contains. It may be a list of its own length.
fn within(value: Bound) -> Bound {
    let elements = value.elements.max(VARIABLE.elements);
    Bound { elements, ..value }
}

/// What it costs to copy a value.
const fn copied(value: Bound) -> u64 {
    value.size.saturating_mul(VALUE)
}

fn literal_size(literal: &LiteralValue) -> u64 {
    match literal {
        LiteralValue::String(text) => text.inner().len() as u64 + SCALAR,
        LiteralValue::Bytes(bytes) => bytes.inner().len() as u64 + SCALAR,
        _ => SCALAR,
    }
}

fn a_call<'a>(call: &'a CallExpr, scope: &mut Scope<'a>) -> Bound {
    let operands = call.target.iter().map(|target| &**target).chain(&call.args);
    let operands: Vec<Bound> = operands.map(|operand| bound(&operand.expr, scope)).collect();
    let spent = operands
        .iter()
        .fold(STEP, |sum, operand| sum.saturating_add(operand.cost));
    let both = operands
        .iter()
        .copied()
        .reduce(Bound::and)
        .unwrap_or(Bound::scalar(0));
    match call.func_name.as_str() {
        operators::CONDITIONAL => {
            // Not the larger of both: that does not hold for averages.
            let branches = operands.iter().skip(1).copied().reduce(Bound::and);
            Bound {
                cost: spent,
                ..branches.unwrap_or(both)
            }
        }
        operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::NOT_STRICTLY_FALSE => Bound::scalar(spent),
        operators::INDEX => {
            let operand = operands.first().copied().unwrap_or(both);
            Bound {
                cost: spent,
                ..within(operand)
            }
        }
        // Both are read and copied into a new value.
        operators::ADD | "string" => Bound { cost: spent, ..both }.after(copied(both)),
        operators::EQUALS
        | operators::NOT_EQUALS
        | operators::LESS
        | operators::LESS_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS => {
            let smaller = operands.iter().map(|operand| operand.size).min().unwrap_or(0);
            Bound::scalar(spent).after(smaller.saturating_mul(VALUE))
        }
        // All others read their operands at most once and have small values.
        _ => Bound::scalar(spent).after(both.size),
    }
}

fn a_loop<'a>(all: &'a ComprehensionExpr, scope: &mut Scope<'a>) -> Bound {
    let range = bound(&all.iter_range.expr, scope);
    let init = bound(&all.accu_init.expr, scope);
    let times = range.elements;
    let element = Bound {
        cost: 0,
        size: range.size.div_ceil(times.max(1)).max(SCALAR),
        ..within(range)
    };
    let outer = scope.len();
    scope.push((&all.iter_var, element));
    scope.extend(all.iter_var2.as_deref().map(|name| (name, element)));
    let accu = scope.len();
    // The interpreter appends to the accumulator in place, so a step costs as much as on the empty one.
    scope.push((&all.accu_var, init));
    let condition = bound(&all.loop_cond.expr, scope);
    let step = bound(&all.loop_step.expr, scope);
    scope[accu].1 = Bound {
        size: init.size.saturating_add(step.size.saturating_mul(times)),
        elements: init.elements.saturating_add(step.elements.saturating_mul(times)),
        cost: 0,
    };
    let result = bound(&all.result.expr, scope);
    scope.truncate(outer);
    // Each element is copied once.
    let once = range.cost.saturating_add(init.cost).saturating_add(copied(range));
    let each = STEP.saturating_add(condition.cost).saturating_add(step.cost);
    result.after(once).after(each.saturating_mul(times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cel::Program;

    fn cost(source: &str) -> u64 {
        most(&Program::compile(source).expect(source).expression().expr)
    }

    /// A sixteenth of the limit leaves room for sixteen such terms.
    const SMALL: u64 = COST_MAX / 16;

    #[test]
    fn common_predicates_are_far_below_the_limit() {
        for source in [
            "kind == 'effect.failed' && app == 'treasury'",
            "has(payload.amount) && payload.amount + payload.fee > 10000",
            "entry.entry.body.operation in ['transfer', 'refund']",
            "payload.items.exists(item, item.iban.startsWith('DE'))",
            "payload.items.filter(item, item.amount > 5).size() > 2",
            "payload.items.map(item, item.amount) == [1, 2]",
            "[1, 2, 3].all(x, [4, 5, 6].all(y, [7].all(z, x + y + z > 0)))",
        ] {
            assert!(cost(source) < SMALL, "{source}: {}", cost(source));
        }
    }

    #[test]
    fn what_multiplies_costs_more_than_the_limit_or_close_to_it() {
        let pairs = "payload.a.all(x, payload.b.exists(y, x == y))";
        assert!((SMALL..COST_MAX).contains(&cost(pairs)), "{}", cost(pairs));
        for source in [
            "payload.a.all(x, payload.a.all(y, payload.a.all(z, x == z)))",
            "payload.a.all(x, payload.a.all(y, payload == entry))",
            "payload.a.map(x, payload.a.map(y, payload)) == []",
            "payload.a.map(x, payload).map(y, y + y).map(z, z + z) == []",
        ] {
            assert!(cost(source) > COST_MAX, "{source}: {}", cost(source));
        }
        // A value that doubles with each step costs what it becomes.
        let doubled = |n: usize| cost(&format!("size(['x']{}) > 0", ".map(x, x + x)".repeat(n)));
        assert!(doubled(40) > COST_MAX && doubled(8) < COST_MAX);
    }
}
