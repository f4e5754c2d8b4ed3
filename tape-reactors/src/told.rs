//! What the log says of calls of upstreams.

/// A line of the log about a call. Whatever else it says, it names the run, the effect, the upstream and the business key: who reads it
/// looks for the money.
macro_rules! tell {
    ($level:ident, $call:expr, $($said:tt)+) => {
        tracing::$level!(
            run = %tape_core::id::StreamId::Run($call.run.clone()),
            effect = %$call.effect,
            connector = %$call.connector,
            business_key = $call.business_key.as_ref().map(tracing::field::display),
            $($said)+
        )
    };
}

pub(crate) use tell;
