//! Every bound of Tape, in one place.
//!
//! Each stays below what the smallest supported store allows (a Bigtable cell is at most 100 MiB and should stay
//! under 10 MiB, a Spanner column value under 10 MiB, a gRPC message under 4 MiB by default). A caller that
//! goes over one gets an error that names the limit; nothing is written.

/// Longest identifier or name, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 200;
/// Longest name of a reaction, in bytes of UTF-8: names of values and of relays are made of it.
pub const REACTION_NAME_BYTES_MAX: usize = 128;
/// Longest business key, in bytes of UTF-8.
pub const BUSINESS_KEY_BYTES_MAX: usize = 256;
/// Longest pattern over subjects, in bytes: the longest subject fits, also where every character of it is escaped.
pub const PATTERN_BYTES_MAX: usize = 4_096;
/// Longest human text that an entry carries inline (a reason, an error, a rationale), in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Largest payload, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Longest content type, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 100;
/// Most labels on a run.
pub const LABELS_MAX: usize = 32;
/// Deepest scope path: agents inside agents.
pub const SCOPE_DEPTH_MAX: usize = 16;
/// Longest text form of a scope path, in bytes.
pub const SCOPE_BYTES_MAX: usize = 512;
/// Most scopes in one run.
pub const SCOPES_MAX: usize = 4_096;
/// Most calls under one decision.
pub const CALLS_PER_DECISION_MAX: u16 = 256;
/// Most effects of one run that are not settled at the same time.
pub const OPEN_EFFECTS_MAX: usize = 256;
/// Most armed obligations of one run.
pub const OBLIGATIONS_MAX: usize = 16_384;
/// Most gates in the life of one run.
pub const GATES_MAX: usize = 1_024;
/// Most timers in the life of one run.
pub const TIMERS_MAX: usize = 1_024;
/// Most signals that wait for their gate to open.
pub const BUFFERED_SIGNALS_MAX: usize = 256;
/// Most budgets in one run.
pub const BUDGETS_MAX: usize = 64;
/// Highest number that a new entry has: programs that keep numbers as doubles read it exactly. Times are at most as far from 1970, in
/// microseconds, which is in the year 2255. Entries of earlier builds may have higher ones.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;
/// Highest limit of a budget and highest amount of it, in units of its currency.
pub const BUDGET_UNITS_MAX: u64 = NUMBER_MAX;
/// Deepest budget tree.
pub const BUDGET_DEPTH_MAX: usize = 8;
/// Most spends in one reservation.
pub const SPENDS_MAX: usize = 16;
/// Most parts of a request fingerprint.
pub const FINGERPRINT_PARTS_MAX: usize = 32;
/// Longest preview of a fingerprint part, in bytes.
pub const FINGERPRINT_PREVIEW_BYTES_MAX: usize = 160;
/// How long a stream remembers a reply, in milliseconds of the journal's time, so that a repeated request gets its first outcome: ten times
/// as long as clients retry by default. A request that is repeated later is refused, since its outcome is forgotten.
pub const REPLY_WINDOW_MS: u64 = 600_000;
/// Most replies that a stream remembers, however young they are; beyond it the replies to the oldest ids are forgotten.
pub const REMEMBERED_REPLIES_MAX: usize = 2_048;
/// How far ahead of the journal's time a request's id may be dated, in milliseconds.
pub const REQUEST_AHEAD_MS_MAX: u64 = 5_000;
/// Most commands that one driver has under way at once. After a lost connection it repeats all of them.
pub const COMMANDS_UNDER_WAY_MAX: usize = 64;
/// Events of a session whose ids are remembered, so that one that is appended again under another request is found.
pub const REMEMBERED_EVENTS_MAX: usize = 1_024;
/// Shortest lease or claim, in milliseconds.
pub const LEASE_MS_MIN: u64 = 100;
/// Longest lease or claim, in milliseconds (one hour).
pub const LEASE_MS_MAX: u64 = 3_600_000;
/// The largest uncertainty, in milliseconds, with which a server may know the journal's time. Beyond it, the server treats no lease or
/// claim of others as over and is not ready. Work of a vanished worker waits at most this much longer than its claim.
pub const CLOCK_ERROR_MS_MAX: u64 = 1_000;
/// Most attempts a retry policy may ask for.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// Longest backoff between attempts, in milliseconds (one day).
pub const BACKOFF_MS_MAX: u64 = 86_400_000;
/// Shortest wait after an upstream was not reached, in milliseconds: nothing bounds how often that happens.
pub const UNREACHED_BACKOFF_MS_MIN: u64 = 100;
/// The bound to which the wait after an upstream was not reached may grow whatever the policy says, in milliseconds.
pub const UNREACHED_BACKOFF_MS_MAX: u64 = 30_000;
/// Longest part of a reason that the state of a run keeps, in bytes of UTF-8; an entry has all of it.
pub const PREVIEW_BYTES_MAX: usize = 300;
/// Most duplicates of one effect that are undone without a person.
pub const DUPLICATES_MAX: usize = 64;
/// How much of bytes that could not be kept is kept in their place, from their beginning, in bytes.
pub const UNKEPT_HEAD_BYTES_MAX: usize = 4 * 1024;
/// Re-drives that reached an agent and made no progress, after which a run is stuck and waits for a person.
pub const REDRIVES_WITHOUT_PROGRESS_MAX: u32 = 20;
/// Most keys in the state of one session, or of one scope of state.
pub const STATE_KEYS_MAX: usize = 4_096;
/// Most bytes in the state of one session, or of one scope of state: of its keys and their JSON texts, as they appear within JSON strings.
pub const STATE_BYTES_MAX: usize = 1024 * 1024;
/// Most keys that one event changes in a session's state.
pub const STATE_DELTA_KEYS_MAX: usize = 1_024;
/// Most events of a session whose changes of `app:` and `user:` state are not merged yet, and most merged changes that shared state
/// remembers.
pub const PENDING_MERGES_MAX: usize = 1_024;
/// Most entries whose payloads one request erases.
pub const ERASED_AT_ONCE_MAX: usize = 256;
/// Most erasures of one stream that the store has not carried out yet.
pub const ERASURES_MAX: usize = 64;
/// Most refusals of a relay that its stream in a tenant remembers, so that one that is recorded again is answered with the first.
pub const REFUSALS_MAX: usize = 1_024;
/// Most receipts of erasures that the stream of a relay remembers, so that one that is recorded again is answered with the first.
pub const RECEIPTS_MAX: usize = 1_024;
/// Most sessions for which shared state remembers how far their changes are merged.
pub const SHARED_SESSIONS_MAX: usize = 1_024;
/// Most entries that one commit appends to one stream.
pub const BATCH_ENTRIES_MAX: usize = 512;
/// Most bytes that one commit appends to one stream.
pub const BATCH_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Most streams or hints that one call compares when it checks indexes against streams.
pub const INDEX_PAGE_MAX: u32 = 500;
/// Most entries in one page of a read or of the feed.
pub const PAGE_ENTRIES_MAX: u32 = 4_096;
/// Most runs of one page that retention looks at.
pub const RETIRED_PER_PAGE_MAX: u32 = 256;
/// Most runs, sessions or values whose states one page of a list needs.
pub const STATES_PER_PAGE_MAX: u32 = 256;
/// Most runs that one page of a list or of a count of runs looks at.
pub const RUNS_LOOKED_AT_MAX: u32 = 4_096;
/// Most hints of each shard that a summary of a queue counts.
pub const HINTS_COUNTED_MAX: u32 = 1_024;
/// Most hints of each shard, of all tenants, that a summary of a queue looks at to find those of one.
pub const HINTS_LOOKED_AT_MAX: u32 = 65_536;
/// Longest lease of a relay on a part of the feed, in milliseconds.
pub const RELAY_LEASE_MS_MAX: u64 = LEASE_MS_MAX;
/// Most relays of one tenant that have a place, and most relays of all tenants. Reactions are among them.
pub const RELAYS_MAX: usize = 512;
/// Most shards whose places one part of a relay keeps.
pub const RELAY_SHARDS_MAX: usize = 1_024;
/// Longest cursor of a shard, in bytes. The cursors of the stores have under 100.
pub const CURSOR_BYTES_MAX: usize = 512;
/// Most bytes of its own that a relay keeps beside its cursors.
pub const RELAY_STATE_BYTES_MAX: usize = 16 * 1024;
