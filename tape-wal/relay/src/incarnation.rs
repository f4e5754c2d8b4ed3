//! Relays that are removed, and others that are made under their names.

use crate::kept::Kept;
use tape_core::relay::Place;

/// Which of the relays that had a name one is: it grows with each that is made. The place of the relay keeps it.
///
/// A process may learn late that a relay was removed, or that another one was made under its name, while others carry that already. So it judges
/// by what the place says, and not by the order in which it learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

/// Whose a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// One's own, or that of no relay that says which it is.
    Own,
    /// That of a relay that was removed since.
    Earlier,
    /// That of one that was made since.
    Later,
}

impl Incarnation {
    /// What a place says; none where it says nothing, as one that was reset.
    pub(crate) fn of(place: &Place) -> Option<Self> {
        Kept::read(&place.state).incarnation
    }

    pub(crate) fn whose(self, place: &Place) -> Whose {
        match Self::of(place) {
            Some(other) if other < self => Whose::Earlier,
            Some(other) if other > self => Whose::Later,
            _ => Whose::Own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Incarnation, Whose};
    use crate::kept::Kept;
    use std::time::Duration;
    use tape_core::relay::Place;

    #[test]
    fn a_place_is_that_of_the_relay_whose_number_it_has() {
        let mut place = Place::default();
        assert_eq!(Incarnation(4).whose(&place), Whose::Own);
        place.state = Kept::write(Duration::ZERO, &[].into(), Some(Incarnation(4)));
        let whose = [3, 4, 5].map(|number| Incarnation(number).whose(&place));
        assert_eq!(whose, [Whose::Later, Whose::Own, Whose::Earlier]);
    }
}
