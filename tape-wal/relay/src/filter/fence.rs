//! What a predicate may consist of.
//!
//! Everything is refused that is not listed here: what a later version of the interpreter adds is outside of the fence.

use super::predicate::InvalidPredicate;
use super::{DEPTH_MAX, LOOP_DEPTH_MAX, variables};
use cel::common::ast::{ComprehensionExpr, Expr, operators};

/// Operators and functions of a predicate. None of them makes text longer but `_+_`, whose results [`cost`](super::cost) bounds.
const FUNCTIONS: &[&str] = &[
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
    // Loops are made of it.
    operators::NOT_STRICTLY_FALSE,
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "int",
    "uint",
    "double",
    "string",
    "bool",
];

/// Checks a parsed predicate, and says which variables it uses.
pub(super) fn check(expr: &Expr) -> Result<variables::Used, InvalidPredicate> {
    let mut walk = Walk::default();
    walk.expr(expr)?;
    Ok(walk.used)
}

#[derive(Default)]
struct Walk<'a> {
    used: variables::Used,
    /// The variables of the loops around an expression.
    scope: Vec<&'a str>,
    /// The levels around an expression.
    depth: usize,
    /// The loops among them.
    loops: usize,
}

impl<'a> Walk<'a> {
    fn expr(&mut self, expr: &'a Expr) -> Result<(), InvalidPredicate> {
        if self.depth == DEPTH_MAX {
            return Err(InvalidPredicate::Depth);
        }
        self.depth += 1;
        self.one(expr)?;
        self.depth -= 1;
        Ok(())
    }

    fn one(&mut self, expr: &'a Expr) -> Result<(), InvalidPredicate> {
        match expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.expr(&select.operand.expr),
            Expr::List(list) if list.optional_indices.is_empty() => list
                .elements
                .iter()
                .try_for_each(|element| self.expr(&element.expr)),
            Expr::Call(call) => {
                if !FUNCTIONS.contains(&call.func_name.as_str()) {
                    let name = call.func_name.clone();
                    return Err(InvalidPredicate::Function { name });
                }
                let mut all = call.target.iter().map(|target| &**target).chain(&call.args);
                all.try_for_each(|argument| self.expr(&argument.expr))
            }
            Expr::Comprehension(all) => self.a_loop(all),
            Expr::Unspecified | Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => Err(InvalidPredicate::Form),
        }
    }

    fn name(&mut self, name: &str) -> Result<(), InvalidPredicate> {
        if self.scope.contains(&name) || self.used.add(name) {
            return Ok(());
        }
        let name = name.to_owned();
        Err(InvalidPredicate::Variable { name })
    }

    /// A loop. What it loops over counts as standing within it: a loop over the result of a loop multiplies like one within the other.
    fn a_loop(&mut self, all: &'a ComprehensionExpr) -> Result<(), InvalidPredicate> {
        self.loops += 1;
        if self.loops > LOOP_DEPTH_MAX {
            return Err(InvalidPredicate::LoopDepth);
        }
        self.expr(&all.iter_range.expr)?;
        self.expr(&all.accu_init.expr)?;
        let outer = self.scope.len();
        self.scope.extend([all.iter_var.as_str(), all.accu_var.as_str()]);
        self.scope.extend(all.iter_var2.as_deref());
        for part in [&all.loop_cond, &all.loop_step, &all.result] {
            self.expr(&part.expr)?;
        }
        self.scope.truncate(outer);
        self.loops -= 1;
        Ok(())
    }
}
