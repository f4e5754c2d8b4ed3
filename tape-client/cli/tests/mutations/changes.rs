//! Single changes of a file: of its bytes and lines here, of what they say in `forgeries`, and of nothing that counts in `neutral`.

use crate::journals::Base;
use crate::random::Random;
use crate::{forgeries, neutral};

/// A file after a change.
pub(crate) struct Change {
    pub(crate) what: String,
    pub(crate) data: Vec<u8>,
    /// Whether the change counts; none where that follows from what the file means.
    pub(crate) counts: Option<bool>,
}

impl Change {
    pub(crate) fn new(what: impl Into<String>, data: Vec<u8>) -> Self {
        let (what, counts) = (what.into(), None);
        Self { what, data, counts }
    }
}

/// A change of any kind.
pub(crate) fn any(base: &Base, random: &mut Random) -> Change {
    match random.below(20) {
        0..8 => byte(base, random),
        8..12 => line(base, random),
        12..17 => forgeries::any(base, random),
        _ => neutral::any(base, random),
    }
}

fn byte(base: &Base, random: &mut Random) -> Change {
    let mut data = base.data.clone();
    let at = random.below(data.len());
    let other = random.byte();
    let what = match random.below(8) {
        0..4 => {
            data[at] ^= 1 << random.below(8);
            format!("byte {at} becomes {:#04x}", data[at])
        }
        4 => {
            data.remove(at);
            format!("byte {at} is deleted")
        }
        5 => {
            data.insert(at, other);
            format!("{other:#04x} is inserted before byte {at}")
        }
        6 => {
            data[at] = other;
            format!("byte {at} becomes {other:#04x}")
        }
        _ => {
            data.truncate(at);
            format!("it ends after {at} bytes")
        }
    };
    Change::new(what, data)
}

fn line(base: &Base, random: &mut Random) -> Change {
    let mut lines: Vec<&[u8]> = base.data.split_inclusive(|byte| *byte == b'\n').collect();
    let (one, two) = (random.below(lines.len()), random.below(lines.len()));
    let what = match random.below(4) {
        0 => {
            lines.remove(one);
            format!("line {} is deleted", one + 1)
        }
        1 => {
            lines.insert(one, lines[one]);
            format!("line {} is doubled", one + 1)
        }
        2 => {
            lines.insert(two, lines[one]);
            format!("line {} stands once more before line {}", one + 1, two + 1)
        }
        _ => {
            lines.swap(one, two);
            format!("lines {} and {} are swapped", one + 1, two + 1)
        }
    };
    Change::new(what, lines.concat())
}
