//! Keys of notes, in the text form of Go's `sumdb/note`: `NAME+ID+BASE64`, and `PRIVATE+KEY+` before it where it is private.

use crate::verify::path_of;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use std::fmt::{self, Write as _};
use std::str::FromStr;
use tape_client::core::id::Tenant;
use tape_client::core::payload::Digest;

/// The byte that stands for Ed25519.
const ED25519_TYPE: u8 = 1;
/// What a private key begins with.
const PRIVATE: &str = "PRIVATE+KEY+";

/// The name of a key, and of the log that it signs: no empty text, without white space, `+` and control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    /// The name of a tenant's log where no other is given: `tape/` and the tenant as in the names of its streams, in which `+` and white
    /// space are escaped too.
    pub(crate) fn of_tenant(tenant: &Tenant) -> Self {
        let mut name = "tape/".to_owned();
        for char in path_of(tenant).chars() {
            if is_name(char) {
                name.push(char);
            } else {
                for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                    // A text takes everything.
                    let _ = write!(name, "%{byte:02X}");
                }
            }
        }
        Self(name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || !text.chars().all(is_name) {
            return Err("a name is not empty, and has no white space, '+' or control characters".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

fn is_name(char: char) -> bool {
    char != '+' && !char.is_whitespace() && !char.is_control()
}

/// A text is no key. It does not say more, since the text may be secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no {0} key of Ed25519, {form}", form = form(.0))]
pub(crate) struct NoKey(&'static str);

fn form(which: &str) -> &'static str {
    if which == "private" {
        "PRIVATE+KEY+NAME+ID+BASE64"
    } else {
        "NAME+ID+BASE64"
    }
}

/// A key that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VerifierKey {
    name: Name,
    public: [u8; 32],
}

impl VerifierKey {
    pub(crate) const fn name(&self) -> &Name {
        &self.name
    }

    /// The number by which signatures name the key.
    pub(crate) fn id(&self) -> [u8; 4] {
        let name = self.name.as_str().as_bytes();
        let digest = Digest::of(&[name, b"\n", &[ED25519_TYPE], &self.public].concat());
        *digest.0.first_chunk().expect("a digest has 32 bytes")
    }

    /// Whether a text was signed with the private key of this one.
    pub(crate) fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public)
            .verify(text, signature)
            .is_ok()
    }

    /// The key's name and number, for messages.
    pub(crate) fn short(&self) -> String {
        format!("{}+{:08x}", self.name, u32::from_be_bytes(self.id()))
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.short(), encoded(&self.public))
    }
}

impl FromStr for VerifierKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let no_key = NoKey("public");
        let (name, public) = parts(text).ok_or(no_key)?;
        let key = Self { name, public };
        if key.to_string() == text {
            Ok(key)
        } else {
            Err(no_key)
        }
    }
}

/// A key that signs.
pub(crate) struct PrivateKey {
    verifier: VerifierKey,
    pair: Ed25519KeyPair,
}

impl PrivateKey {
    fn of_seed(name: Name, seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed is any 32 bytes");
        let public = pair.public_key().as_ref();
        let public = public.try_into().expect("a public key has 32 bytes");
        let verifier = VerifierKey { name, public };
        Self { verifier, pair }
    }

    pub(crate) const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    pub(crate) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }
}

/// Without what is secret.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.verifier.short())
    }
}

impl FromStr for PrivateKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let no_key = NoKey("private");
        let (name, seed) = text.strip_prefix(PRIVATE).and_then(parts).ok_or(no_key)?;
        let key = Self::of_seed(name, &seed);
        if private(&key.verifier, &seed) == text {
            Ok(key)
        } else {
            Err(no_key)
        }
    }
}

/// A key that was just made. Its private text is secret.
pub(crate) struct NewKey {
    pub(crate) private: String,
    pub(crate) verifier: VerifierKey,
}

/// Makes a key; `None` where there is no randomness.
pub(crate) fn generate(name: Name, random: &dyn SecureRandom) -> Option<NewKey> {
    let mut seed = [0; 32];
    random.fill(&mut seed).ok()?;
    let PrivateKey { verifier, .. } = PrivateKey::of_seed(name, &seed);
    Some(NewKey {
        private: private(&verifier, &seed),
        verifier,
    })
}

fn private(verifier: &VerifierKey, seed: &[u8; 32]) -> String {
    format!("{PRIVATE}{}+{}", verifier.short(), encoded(seed))
}

fn encoded(key: &[u8; 32]) -> String {
    STANDARD.encode([&[ED25519_TYPE], &key[..]].concat())
}

/// The name and the key's bytes; the number is compared when the text is written anew.
fn parts(text: &str) -> Option<(Name, [u8; 32])> {
    let mut parts = text.splitn(3, '+');
    let name = parts.next()?.parse().ok()?;
    let bytes = STANDARD.decode(parts.nth(1)?).ok()?;
    let key = bytes.strip_prefix(&[ED25519_TYPE])?.try_into().ok()?;
    Some((name, key))
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Name, PrivateKey, VerifierKey, generate};
    use ring::rand::SystemRandom;
    use tape_client::core::id::Tenant;

    /// The example of Go's `sumdb/note`.
    pub(in super::super) const PRIVATE: &str =
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    pub(in super::super) const PUBLIC: &str =
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn the_example_of_another_implementation_is_read_and_written() {
        let key: PrivateKey = PRIVATE.parse().unwrap();
        assert_eq!(key.verifier().to_string(), PUBLIC);
        assert_eq!(&PUBLIC.parse::<VerifierKey>().unwrap(), key.verifier());
        assert_eq!(key.verifier().short(), "PeterNeumann+c74f20a3");
    }

    #[test]
    fn a_key_that_differs_in_one_bit_or_is_a_part_is_none() {
        fn check<Key: std::str::FromStr>(text: &str) {
            for bit in 0..text.len() * 8 {
                let mut bytes = text.as_bytes().to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                if let Ok(other) = String::from_utf8(bytes) {
                    assert!(other.parse::<Key>().is_err(), "{other}");
                }
            }
            for end in 0..text.len() {
                assert!(text[..end].parse::<Key>().is_err());
                assert!(text[end + 1..].parse::<Key>().is_err());
            }
        }
        check::<PrivateKey>(PRIVATE);
        check::<VerifierKey>(PUBLIC);
        // Of another length or kind, with the number that fits.
        for text in [
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
            "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            PRIVATE,
        ] {
            text.parse::<VerifierKey>().unwrap_err();
        }
    }

    #[test]
    fn a_private_key_is_in_no_message() {
        let secret = PRIVATE.rsplit('+').next().unwrap();
        let key: PrivateKey = PRIVATE.parse().unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(PeterNeumann+c74f20a3)");
        for text in [format!("{PRIVATE}x"), secret.to_owned()] {
            let error = text.parse::<PrivateKey>().unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(!told.contains(&secret[..8]), "{told}");
            assert!(
                told.starts_with("it is no private key of Ed25519, PRIVATE+KEY+"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_key_that_is_made_is_another_each_time_and_is_read() {
        let name: Name = "tape/acme".parse().unwrap();
        let [one, two] = [(); 2].map(|()| generate(name.clone(), &SystemRandom::new()).unwrap());
        assert_ne!(one.private, two.private);
        let read: PrivateKey = one.private.parse().unwrap();
        assert_eq!(read.verifier(), &one.verifier);
        assert!(one.verifier.has_signed(b"text", &read.sign(b"text")));
        assert!(!two.verifier.has_signed(b"text", &read.sign(b"text")));
    }

    #[test]
    fn a_tenant_has_a_name_for_its_log() {
        for (tenant, name) in [
            ("acme", "tape/acme"),
            ("a b/c+d", "tape/a%20b%2Fc%2Bd"),
            ("a%2Bd", "tape/a%252Bd"),
            ("ü\u{a0}\u{3000}ü", "tape/ü%C2%A0%E3%80%80ü"),
        ] {
            let of = Name::of_tenant(&Tenant::new(tenant).unwrap());
            assert_eq!(of.as_str(), name);
            assert_eq!(name.parse::<Name>().unwrap(), of);
        }
        for text in ["", "a b", "a+b", "a\nb", "a\u{2003}b", "a\u{0}"] {
            text.parse::<Name>().unwrap_err();
        }
    }
}
