//! Signed notes: C2SP `signed-note`.

use super::key::{Name, PrivateKey, VerifierKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What each line of a signature begins with: an em dash and a space.
const MARK: &str = "\u{2014} ";
/// Most bytes of a note.
pub(crate) const NOTE_BYTES_MAX: usize = 1_000_000;
/// Most signatures of a note.
const SIGNATURES_MAX: usize = 100;

/// Why a note is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoteError {
    /// It is written otherwise.
    #[error("it is no signed note: {0}")]
    Malformed(&'static str),
    /// Other keys may have signed it.
    #[error("it is not signed by {0}")]
    Unsigned(String),
    /// The text, the signature or the key is another.
    #[error("its signature by {0} does not hold: the note was changed, or signed with another key")]
    Forged(String),
}

/// The note of a text.
///
/// # Panics
/// Where the text does not end with its line.
pub(crate) fn sign(text: &str, key: &PrivateKey) -> String {
    assert!(text.ends_with('\n'), "a text is whole lines");
    let verifier = key.verifier();
    let signature = [&verifier.id()[..], &key.sign(text.as_bytes())].concat();
    let signature = STANDARD.encode(signature);
    format!("{text}\n{MARK}{} {signature}\n", verifier.name())
}

/// The text of a note that the key signed. Signatures by other keys, such as those of witnesses, are ignored.
///
/// # Errors
/// Where the note is malformed, the key has not signed it, or a signature that names the key does not hold.
pub(crate) fn open<'a>(note: &'a str, key: &VerifierKey) -> Result<&'a str, NoteError> {
    let (text, signatures) = split(note)?;
    let mut signed = false;
    for line in signatures {
        let (name, signature) = parse(line)?;
        let (id, signature) = signature
            .split_first_chunk()
            .ok_or(NoteError::Malformed("a signature is too short"))?;
        if name != key.name().as_str() || *id != key.id() {
            continue;
        }
        if !key.has_signed(text.as_bytes(), signature) {
            return Err(NoteError::Forged(key.short()));
        }
        signed = true;
    }
    if signed {
        Ok(text)
    } else {
        Err(NoteError::Unsigned(key.short()))
    }
}

/// The text with the end of its last line, and the lines of its signatures.
fn split(note: &str) -> Result<(&str, Vec<&str>), NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::Malformed("it is too long"));
    }
    if note.contains(|char: char| char < ' ' && char != '\n') {
        return Err(NoteError::Malformed("it has a control character"));
    }
    let end = note
        .rfind("\n\n")
        .ok_or(NoteError::Malformed("no empty line ends its text"))?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    let signatures = signatures
        .strip_suffix('\n')
        .ok_or(NoteError::Malformed("the line of a signature has no end"))?;
    let signatures: Vec<&str> = signatures.split('\n').collect();
    if signatures.len() > SIGNATURES_MAX {
        return Err(NoteError::Malformed("it has too many signatures"));
    }
    Ok((text, signatures))
}

/// The name and the bytes of a signature.
fn parse(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    let malformed = || NoteError::Malformed("after its text is a line that is no signature");
    let parts = line.strip_prefix(MARK).and_then(|line| line.split_once(' '));
    let (name, signature) = parts.ok_or_else(malformed)?;
    let bytes = STANDARD.decode(signature).map_err(|_| malformed())?;
    if name.parse::<Name>().is_err() {
        return Err(malformed());
    }
    Ok((name, bytes))
}

#[cfg(test)]
mod tests {
    use super::super::key::tests::{PRIVATE, PUBLIC};
    use super::super::key::{PrivateKey, VerifierKey};
    use super::{NoteError, open, sign};

    // The examples of Go's `sumdb/note`.
    const TEXT: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const PETER: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    const ENOCH: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
    const ENOCH_KEY: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";

    fn peter() -> VerifierKey {
        PUBLIC.parse().unwrap()
    }

    #[test]
    fn the_examples_of_another_implementation_are_signed_and_opened() {
        let key: PrivateKey = PRIVATE.parse().unwrap();
        let note = format!("{TEXT}\n{PETER}");
        assert_eq!(sign(TEXT, &key), note);
        assert_eq!(open(&note, &peter()), Ok(TEXT));
        // With a witness.
        let both = format!("{TEXT}\n{ENOCH}{PETER}");
        assert_eq!(open(&both, &peter()), Ok(TEXT));
        assert_eq!(open(&both, &ENOCH_KEY.parse().unwrap()), Ok(TEXT));
        let unsigned = NoteError::Unsigned("PeterNeumann+c74f20a3".to_owned());
        assert_eq!(open(&format!("{TEXT}\n{ENOCH}"), &peter()), Err(unsigned));
    }

    #[test]
    fn every_bit_of_a_note_counts() {
        let note = format!("{TEXT}\n{PETER}");
        for bit in 0..note.len() * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // What is not UTF-8 is not read.
            if let Ok(other) = String::from_utf8(bytes) {
                open(&other, &peter()).unwrap_err();
            }
        }
    }

    #[test]
    fn a_false_signature_spoils_a_note_that_is_signed() {
        // By that name and number, and beside a true one.
        let mut false_one = PETER.to_owned();
        false_one.replace_range(40..44, "AAAA");
        let note = format!("{TEXT}\n{PETER}{false_one}");
        let forged = NoteError::Forged("PeterNeumann+c74f20a3".to_owned());
        assert_eq!(open(&note, &peter()), Err(forged.clone()));
        // Another text.
        assert_eq!(open(&format!("x{TEXT}\n{PETER}"), &peter()), Err(forged));
    }

    #[test]
    fn what_is_no_note_is_refused() {
        for note in [
            String::new(),
            TEXT.to_owned(),
            format!("{TEXT}\n"),
            format!("{TEXT}\n\n{PETER}\n"),
            format!("{TEXT}\n{}", PETER.trim_end()),
            format!("{TEXT}{PETER}"),
            format!("\u{1}{TEXT}\n{PETER}"),
            format!("{TEXT}\n{PETER}Unexpected line.\n"),
            format!("{TEXT}\n{PETER}— Bad Name x08go/ZJ\n"),
            format!("{TEXT}\n{PETER}— a+b x08go/ZJ\n"),
            format!("{TEXT}\n{PETER}— short AAA=\n"),
            format!("{TEXT}\n{PETER}- PeterNeumann x08go/ZJ\n"),
            format!("{TEXT}\n{}", PETER.repeat(101)),
            format!("{}\n{PETER}", TEXT.repeat(20_000)),
        ] {
            let error = open(&note, &peter()).unwrap_err();
            assert!(
                matches!(error, NoteError::Malformed(_)),
                "{error}: {:?}",
                note.get(..200)
            );
        }
    }
}
