//! Disturbances of an agent, and when they happen.

use std::fmt;

/// What disturbs a drive from the start to the end of a run. Numbers count from 1, over all processes of the drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disturbance {
    /// Nothing.
    None,
    /// The process dies before the n-th write to the journal is sent.
    KilledBeforeWrite(u32),
    /// The process dies after the n-th write to the journal is durable, and before it gets the answer.
    KilledAfterWrite(u32),
    /// The process dies when the agent waits for the n-th time.
    KilledAtAwait(u32),
    /// The n-th write to the journal does not arrive.
    WriteLost(u32),
    /// The n-th write to the journal is durable, and its answer is lost.
    WriteAnswerLost(u32),
    /// The n-th call of the upstream does not arrive.
    CallLost(u32),
    /// The upstream acts on its n-th call, and its answer is lost.
    CallAnswerLost(u32),
}

impl Disturbance {
    pub(super) const fn kills(self) -> bool {
        matches!(
            self,
            Self::KilledBeforeWrite(_) | Self::KilledAfterWrite(_) | Self::KilledAtAwait(_)
        )
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "undisturbed"),
            Self::KilledBeforeWrite(n) => write!(f, "killed before write {n} to the journal"),
            Self::KilledAfterWrite(n) => write!(f, "killed after write {n} to the journal"),
            Self::KilledAtAwait(n) => write!(f, "killed at await {n}"),
            Self::WriteLost(n) => write!(f, "with write {n} to the journal lost"),
            Self::WriteAnswerLost(n) => write!(f, "with the answer to write {n} lost"),
            Self::CallLost(n) => write!(f, "with call {n} of the upstream lost"),
            Self::CallAnswerLost(n) => write!(f, "with the answer to call {n} of the upstream lost"),
        }
    }
}

/// How often a drive reached each kind of point that can be disturbed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pub(super) writes: u32,
    pub(super) awaits: u32,
    pub(super) calls: u32,
}

impl Moments {
    /// All disturbances of such a drive.
    pub(super) fn disturbances(self) -> impl Iterator<Item = Disturbance> {
        use Disturbance as D;
        let each = |n: u32, of: &'static [fn(u32) -> D]| (1..=n).flat_map(|n| of.iter().map(move |of| of(n)));
        const WRITES: &[fn(u32) -> Disturbance] = &[
            D::KilledBeforeWrite,
            D::KilledAfterWrite,
            D::WriteLost,
            D::WriteAnswerLost,
        ];
        const AWAITS: &[fn(u32) -> Disturbance] = &[D::KilledAtAwait];
        const CALLS: &[fn(u32) -> Disturbance] = &[D::CallLost, D::CallAnswerLost];
        each(self.writes, WRITES)
            .chain(each(self.awaits, AWAITS))
            .chain(each(self.calls, CALLS))
    }
}
