//! Messages to words of the core and back, one family a file.
//!
//! From the core to the wire is `From` and cannot fail. From the wire to the core is `TryFrom` with [`InvalidField`], which
//! names the field by its path in the message: only checked types reach the core. Bounds that belong to the rules of a stream (how many,
//! how long) are not repeated here.

mod command;
mod drive;
mod effect;
mod entry;
mod erasure;
mod external;
mod field;
mod name;
mod part;
mod reply;
mod retention;
mod run;
mod session;
mod standing;
mod value;
mod work;

pub use command::{ExecuteCommand, execute_request};
pub use erasure::StreamErasure;
pub use field::InvalidField;
pub use retention::RetirementQuery;
pub use run::{DueQuery, RunListQuery};
pub use session::{SessionChange, SessionRequest, SessionRewind, read_state, session_request, write_state};
pub use standing::{Only, RunQuestion};
pub use value::{ValueChange, ValueRequest};
