//! Words of the core's closed lists as the names of the contract's enums, and back.

use tape_core::reply::Word;

/// The name of a word's value in the contract: `OpenGate` of `Missing` is `MISSING_OPEN_GATE`.
pub(crate) fn write<W: Word>(word: W) -> String {
    format!("{}_{}", constant(W::LIST), constant(word.name()))
}

/// The word whose value has this name. A name that this build does not know is from a newer server and becomes the unrecognized word.
pub(crate) fn read<W: Word>(name: &str) -> W {
    let known = W::ALL.iter().copied().find(|word| write(*word) == name);
    known.unwrap_or(W::UNRECOGNIZED)
}

/// `OpenGate` as `OPEN_GATE`.
fn constant(camel: &str) -> String {
    let mut constant = String::with_capacity(camel.len() + 4);
    for (at, letter) in camel.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            constant.push('_');
        }
        constant.push(letter.to_ascii_uppercase());
    }
    constant
}

#[cfg(test)]
mod tests {
    use super::{constant, read, write};
    use crate::FILE_DESCRIPTOR_SET;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use std::collections::BTreeSet;
    use tape_core::reply::{ClosingPhase, Field, Limit, Missing, Versioned, Word};

    fn names_in_the_contract(list: &str) -> BTreeSet<String> {
        let contract = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let lists = contract.file.iter().flat_map(|file| &file.enum_type);
        let found = lists.filter(|found| found.name() == list);
        let values = found.flat_map(|found| &found.value);
        values.map(|value| value.name().to_owned()).collect()
    }

    fn are_the_contracts<W: Word + std::fmt::Debug>() {
        let mut names: BTreeSet<_> = W::ALL.iter().copied().map(write).collect();
        for word in W::ALL {
            assert_eq!(read::<W>(&write(*word)), *word);
        }
        names.insert(format!("{}_UNSPECIFIED", constant(W::LIST)));
        assert_eq!(names, names_in_the_contract(W::LIST));
        assert_eq!(read::<W>("SOMETHING_NEW"), W::UNRECOGNIZED);
    }

    #[test]
    fn the_words_are_those_of_the_contract() {
        are_the_contracts::<Missing>();
        are_the_contracts::<ClosingPhase>();
        are_the_contracts::<Versioned>();
        are_the_contracts::<Limit>();
        are_the_contracts::<Field>();
    }
}
