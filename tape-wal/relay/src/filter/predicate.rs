//! Predicates over entries in CEL.

use super::evaluator::{Evaluator, FilterError, TIME_LIMIT};
use super::variables::{self, Missing, Used};
use super::{DEPTH_MAX, LOOP_DEPTH_MAX, Outcome, SOURCE_BYTES_MAX, cost, fence};
use cel::{Context, Env, ExecutionError, Program, Value};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tape_core::codec::StoredEntry;
use tape_core::id::StreamId;
use tape_environment::Environment;

/// The stack of the thread that parses, in bytes. Parsing calls itself for each level of the source, some of which the parser does not bound,
/// such as `.a.a.a`; a debug build takes tens of KiB a level. The thread ends once the source is parsed.
const PARSER_STACK_BYTES: usize = 256 * 1024 * 1024;
/// Longest part of what the parser says that an error has, in bytes.
const SYNTAX_BYTES_MAX: usize = 512;

/// A predicate over entries in the Common Expression Language (CEL), such as `kind == 'effect.failed' && app == 'treasury'`.
///
/// The page `docs/relays.md` says which variables and functions there are. It is compiled once, at configuration; what it can cost is bounded
/// then, see [`InvalidPredicate`]. It is evaluated in a thread of its own, one per predicate.
#[derive(Clone, Debug)]
pub struct Predicate {
    evaluator: Evaluator,
}

/// Why a text is not taken as a predicate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPredicate {
    /// The source is too long.
    #[error("the predicate has {bytes} bytes, the limit is {SOURCE_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The source is not CEL, or is nested too deeply for its parser.
    #[error("the predicate cannot be parsed: {problem}")]
    Syntax {
        /// What the parser says, in at most 512 bytes.
        problem: String,
    },
    /// There is no variable of that name.
    #[error(
        "the predicate uses '{name}': the variables are tenant, stream, app, kind, seq, at, entry and payload"
    )]
    Variable {
        /// The name.
        name: String,
    },
    /// The function or operator is not among those of predicates.
    #[error("the predicate calls '{name}', which predicates have not")]
    Function {
        /// Its name.
        name: String,
    },
    /// It makes a map or message.
    #[error("the predicate has a map, a message or an optional element in it, which predicates have not")]
    Form,
    /// Its parts stand too deep within one another.
    #[error(
        "the predicate is nested deeper than {DEPTH_MAX} levels; a chain of operators or members counts as well"
    )]
    Depth,
    /// Loops stand too deep within one another.
    #[error(
        "the predicate has all, exists, exists_one, map or filter within one another or over the result of one another, \
         deeper than {LOOP_DEPTH_MAX}"
    )]
    LoopDepth,
    /// On a large entry it could take too long.
    #[error("the predicate could cost {cost} steps on a large entry, the limit is {max}: use fewer loops", max = cost::COST_MAX)]
    Cost {
        /// The bound that was computed.
        cost: u64,
    },
    /// The machine gives no thread for it.
    #[error("no thread could be started for the predicate: {problem}")]
    Thread {
        /// What the system says.
        problem: String,
    },
}

impl Predicate {
    /// Parses and checks a source, and starts the thread that evaluates it. This takes milliseconds and blocks: call it at configuration,
    /// with a source from an operator, never from a request.
    ///
    /// # Errors
    /// [`InvalidPredicate`] says what is wrong; nothing is left behind then.
    pub fn compile(source: &str, environment: &Arc<dyn Environment>) -> Result<Self, InvalidPredicate> {
        let bytes = source.len();
        if bytes > SOURCE_BYTES_MAX {
            return Err(InvalidPredicate::TooLong { bytes });
        }
        let compiled = on_a_large_stack(source.to_owned())?;
        let evaluate = move |stream: &StreamId, entry: &StoredEntry| compiled.evaluate(stream, entry);
        let started = Evaluator::start(Arc::clone(environment), TIME_LIMIT, evaluate);
        let evaluator = started.map_err(no_thread)?;
        Ok(Self { evaluator })
    }

    /// The outcomes of the first of some entries, in order, at least of one.
    pub(super) async fn evaluate(
        &self,
        entries: Vec<(StreamId, StoredEntry)>,
    ) -> Result<Vec<Outcome>, FilterError> {
        self.evaluator.evaluate(entries).await
    }
}

/// Compiles a source in a thread of its own, which is waited for.
fn on_a_large_stack(source: String) -> Result<Compiled, InvalidPredicate> {
    let thread = std::thread::Builder::new()
        .name("tape-filter-parse".to_owned())
        .stack_size(PARSER_STACK_BYTES);
    let compiled = thread.spawn(move || Compiled::new(&source)).map_err(no_thread)?;
    compiled
        .join()
        .unwrap_or_else(|_| Err(syntax("the parser failed on it")))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what errors are mapped by")]
fn no_thread(error: std::io::Error) -> InvalidPredicate {
    let problem = error.to_string();
    InvalidPredicate::Thread { problem }
}

/// A predicate as the thread has it.
struct Compiled {
    program: Program,
    used: Used,
    functions: Arc<Env>,
}

impl Compiled {
    fn new(source: &str) -> Result<Self, InvalidPredicate> {
        let program = Program::compile(source).map_err(syntax)?;
        let expr = &program.expression().expr;
        let used = fence::check(expr)?;
        let cost = cost::most(expr);
        if cost > cost::COST_MAX {
            return Err(InvalidPredicate::Cost { cost });
        }
        let functions = Arc::new(Env::stdlib());
        Ok(Self {
            program,
            used,
            functions,
        })
    }

    fn evaluate(&self, stream: &StreamId, entry: &StoredEntry) -> Outcome {
        let mut context = Context::with_env(Arc::clone(&self.functions));
        match variables::add(&mut context, self.used, stream, entry) {
            Ok(()) => {}
            Err(Missing::Unreadable) => return Outcome::Match,
            Err(Missing::EnvelopeTooLarge) => {
                return Outcome::Failed("the envelope is too large for 'entry'");
            }
        }
        // A defect of the interpreter on one entry is a failure like any other.
        let value = catch_unwind(AssertUnwindSafe(|| self.program.execute(&context)));
        match value {
            Ok(Ok(Value::Bool(true))) => Outcome::Match,
            Ok(Ok(Value::Bool(false))) => Outcome::NoMatch,
            Ok(Ok(_)) => Outcome::Failed("its value is not a boolean"),
            Ok(Err(error)) => Outcome::Failed(reason(&error)),
            Err(_) => Outcome::Failed("the interpreter panicked"),
        }
    }
}

/// What failed, without the values that the interpreter's own text has: those are of payloads, and this goes to logs.
const fn reason(error: &ExecutionError) -> &'static str {
    match error {
        ExecutionError::NoSuchKey(_) => "a member is missing: ask for it by has() first",
        ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds",
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "a division by zero",
        ExecutionError::Overflow(..) => "a number is out of range",
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::UnexpectedType { .. } => "a value has another type than the predicate expects",
        _ => "an expression has no value",
    }
}

fn syntax(problem: impl std::fmt::Display) -> InvalidPredicate {
    let mut problem = problem.to_string();
    problem.truncate(problem.floor_char_boundary(SYNTAX_BYTES_MAX));
    InvalidPredicate::Syntax { problem }
}
