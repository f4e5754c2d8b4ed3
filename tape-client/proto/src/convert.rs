//! Messages to words of the core and back, one family a file.
//!
//! From the core to the wire is `From` and cannot fail. From the wire to the core is `TryFrom` with [`InvalidField`], which
//! names the field by its path in the message: only checked types reach the core. Bounds that belong to the rules of a stream (how many,
//! how long) are not repeated here.

mod command;
mod drive;
mod due;
mod effect;
mod entry;
mod external;
mod field;
mod name;
mod part;
mod relay;
mod relay_place;
mod reply;
mod retention;
mod run;
mod session;
mod standing;
mod stream;
mod value;
mod version;
mod work;

pub use command::{RunCall, RunRequest, run_call};
pub use due::{DueFilter, DueHint, DueList, DueWatch};
pub use field::InvalidField;
pub use relay::{RelayReport, RelayRequest};
pub use relay_place::{RelayMove, RelayReset, RelayTarget, shard_cursors};
pub use retention::RetirementQuery;
pub use run::RunFilter;
pub use session::{SessionChange, SessionRequest, SessionRewind, read_state, session_request, write_state};
pub use standing::{Only, RunQuestion};
pub use stream::{StreamErasure, Tenants};
pub use value::{ValueChange, ValueRequest};
pub use version::{CONTRACT_VERSION, Program, Side, Versions};
