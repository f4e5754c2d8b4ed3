//! Log lines about calls to upstreams.

/// A line of the log about a call. It always names the run, the effect, the upstream and the business key, so that an operator can find the
/// payment.
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
