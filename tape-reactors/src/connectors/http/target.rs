//! URLs from templates: a requested URL differs from its template only in the values of its words.

use super::template::{Part, Template, Word, encoded, stands_for_nothing};
use crate::connector::Call;
use reqwest::Url;

/// Rounds of percent-encoding that are decoded in the search for a dot segment; more than any value of a call can have.
const ENCODINGS_MAX: usize = 8;

/// A URL with words in it.
#[derive(Clone)]
pub(super) struct Target {
    /// The fixed parts are as a parsed URL has them.
    template: Template,
}

impl Target {
    /// Reads the template of a URL.
    ///
    /// # Errors
    /// What is wrong with it. The URL itself may have a secret and is not repeated.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let template = Template::parse(text)?;
        let wanted = || "is no URL that begins with `http://` or `https://` and a host".to_owned();
        let marked: Vec<String> = (0..template.0.len()).map(mark).collect();
        let parts = template.0.iter().zip(&marked);
        let text: String = parts
            .map(|(part, mark)| match part {
                Part::Fixed(fixed) => fixed.as_str(),
                Part::Word(_) => mark,
            })
            .collect();
        let url = Url::parse(&text).map_err(|_| wanted())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wanted());
        }
        if url.fragment().is_some() {
            return Err("has a `#`: what comes after it is never sent".to_owned());
        }
        let path = text.split('?').next().unwrap_or_default();
        if path.split(['/', '\\']).any(is_dots) {
            return Err("has a dot segment in its path".to_owned());
        }
        let template = fixed_as_parsed(url.as_str(), &template, &marked).ok_or_else(wanted)?;
        Ok(Self { template })
    }

    /// The URL for a call.
    ///
    /// # Errors
    /// Why there is no URL that differs from the template only in the values of its words. No other attempt would have one.
    pub(super) fn fill(&self, call: &Call) -> Result<Url, String> {
        let value = |word: Word| {
            let value = word.of(call).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| stands_for_nothing(word))?;
            if value.contains(char::is_control) {
                return Err(format!("the {} has a control character", word.name()));
            }
            Ok(encoded(&value))
        };
        let text = self.template.filled(value)?;
        let elsewhere = || {
            let words = self.template.words().filter_map(|word| {
                let value = word.of(call)?;
                Some(format!("the {} {value:?}", word.name().replace('_', " ")))
            });
            let words: Vec<String> = words.collect();
            format!("it would be another URL with {}", words.join(", "))
        };
        let url = Url::parse(&text).map_err(|_| elsewhere())?;
        // A part that parsing changes, such as a dot segment, makes another URL than the template.
        if url.as_str() != text || url.path().split('/').any(is_dots) {
            return Err(elsewhere());
        }
        Ok(url)
    }
}

/// The placeholder for the n-th word while the fixed parts are parsed: parsing never changes it.
fn mark(n: usize) -> String {
    format!("tapeword{n}x")
}

/// The template with its fixed parts as they are in the parsed URL.
fn fixed_as_parsed(url: &str, template: &Template, marks: &[String]) -> Option<Template> {
    let mut parts = Vec::new();
    let mut rest = url;
    for (part, mark) in template.0.iter().zip(marks) {
        let Part::Word(word) = part else { continue };
        let (fixed, after) = rest.split_once(mark.as_str())?;
        parts.extend([Part::Fixed(fixed.to_owned()), Part::Word(*word)]);
        rest = after;
    }
    parts.push(Part::Fixed(rest.to_owned()));
    Some(Template(parts))
}

/// Whether a segment of a path, or a part of it that some server takes for a segment, is `.` or `..` in any encoding.
fn is_dots(segment: &str) -> bool {
    let mut text = segment.as_bytes().to_vec();
    for _ in 0..ENCODINGS_MAX {
        let dots = |piece: &[u8]| {
            // Some servers strip parameters from a segment before they interpret it.
            let name = piece.split(|byte| *byte == b';').next().unwrap_or_default();
            matches!(name.trim_ascii(), b"." | b"..")
        };
        if text.split(|byte| b"/\\".contains(byte)).any(dots) {
            return true;
        }
        let once = decoded(&text);
        if once == text {
            return false;
        }
        text = once;
    }
    true
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let escaped = (byte == b'%')
            .then(|| Some(digit(at + 1)? * 16 + digit(at + 2)?))
            .flatten();
        match escaped.and_then(|code| u8::try_from(code).ok()) {
            Some(code) => {
                decoded.push(code);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::http::tests::call;
    use tape_core::id::BusinessKey;

    fn filled(template: &str, business_key: &str) -> Result<String, String> {
        let call = Call {
            business_key: Some(BusinessKey::new(business_key).unwrap()),
            ..call()
        };
        Ok(Target::parse(template).unwrap().fill(&call)?.to_string())
    }

    #[test]
    fn what_a_word_stands_for_is_encoded() {
        let template = "http://h/{tenant}/{operation}/{key}/{business_key}/{effect}";
        let url = filled(template, "a/b?c #{key}%").unwrap();
        assert_eq!(url, "http://h/acme/pay/k-1/a%2Fb%3Fc%20%23%7Bkey%7D%25/%230.0");
    }

    #[test]
    fn a_segment_that_some_parser_takes_for_dots_is_refused() {
        let template = "http://h/transfers/{business_key}/reversals";
        for key in [
            ".",
            "..",
            "%2e",
            "%2E%2e",
            ".%2e",
            "%2e.",
            "%252e%252E",
            "../..",
            "a/../b",
            "a/..",
            "..\\x",
            "a%2f..%2Fb",
            "a%5c%2e%2e",
            "..;x",
            " .. ",
        ] {
            let refused = filled(template, key).unwrap_err();
            assert!(refused.contains("another URL"), "{key}: {refused}");
        }
        for key in [
            "...", "a..b", "..a", "order-7", "a/b", "a\\b", "a?b#c", ".hidden", "100%", "é",
        ] {
            let url = filled(template, key).unwrap();
            assert_eq!(url.matches('/').count(), 5, "{key}: {url}");
        }
        // Within a query a dot is a dot, and so it is beside other letters.
        assert_eq!(
            filled("http://h/t?by={business_key}", "..").unwrap(),
            "http://h/t?by=.."
        );
        assert_eq!(
            filled("http://h/t-{business_key}", "..").unwrap(),
            "http://h/t-.."
        );
    }

    #[test]
    fn a_word_of_another_host_is_refused() {
        for key in ["evil.example/", "a/b", "A", "a b", "x@evil.example", "x:80"] {
            let refused = filled("http://{business_key}.example/", key).unwrap_err();
            assert!(refused.contains("another URL"), "{key}: {refused}");
        }
        assert_eq!(
            filled("http://{business_key}.example", "b1").unwrap(),
            "http://b1.example/"
        );
    }

    #[test]
    fn a_template_that_is_no_url_of_one_act_is_refused_without_being_repeated() {
        for (template, problem) in [
            ("bank.example/{key}", "`https://`"),
            ("localhost:80/by/{key}", "`https://`"),
            ("ftp://bank.example/{key}", "`https://`"),
            ("https://", "`https://`"),
            ("{tenant}://h/", "`https://`"),
            ("https://h:{key}/", "`https://`"),
            ("https://u:S3CRET@h/../x?token=S3CRET", "dot segment"),
            ("https://h/%2e%2E/x", "dot segment"),
            ("https://h/#{key}", "`#`"),
        ] {
            let said = Target::parse(template).map(|_| ()).unwrap_err();
            assert!(said.contains(problem), "{template}: {said}");
            assert!(!said.contains("S3CRET"), "{said}");
        }
    }
}
