//! Templates of URLs: words that stand for something of the call.

use crate::connector::Call;
use std::fmt::Write as _;
use tape_core::id::BusinessKey;

/// What stands for something of the call in a template.
const KEY: &str = "{key}";
const BUSINESS_KEY: &str = "{business_key}";
const OPERATION: &str = "{operation}";
const EFFECT: &str = "{effect}";
const TENANT: &str = "{tenant}";
const WORDS: [&str; 5] = [KEY, BUSINESS_KEY, OPERATION, EFFECT, TENANT];

/// A template with the words of a call in it.
pub(super) fn fill(template: &str, call: &Call) -> Result<String, String> {
    let business_key = call.business_key.as_ref().map(BusinessKey::as_str);
    // Under no name, an upstream would do or find something else.
    if business_key.is_none() && template.contains(BUSINESS_KEY) {
        return Err(format!("there is no business key for {template}"));
    }
    let effect = call.effect.to_string();
    Ok(substituted(template, |word| match word {
        KEY => &call.key,
        BUSINESS_KEY => business_key.unwrap_or_default(),
        OPERATION => call.operation.as_str(),
        EFFECT => &effect,
        _ => call.run.tenant.as_str(),
    }))
}

/// A template with what each of its words stands for.
pub(super) fn substituted<'a>(template: &str, value: impl Fn(&'static str) -> &'a str) -> String {
    let mut url = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        url.push_str(&rest[..at]);
        rest = &rest[at..];
        let name = match WORDS.into_iter().find(|word| rest.starts_with(word)) {
            Some(word) => {
                url.push_str(&encoded(value(word)));
                word
            }
            None => {
                url.push('{');
                "{"
            }
        };
        rest = &rest[name.len()..];
    }
    url + rest
}

/// Percent-encoded but for what no part of a URL or header minds.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::http::tests::call;

    #[test]
    fn what_a_template_stands_for_is_encoded() {
        let template = "http://h/{tenant}/{operation}/{key}/{business_key}/{effect}/{other}";
        let url = fill(template, &call()).unwrap();
        assert_eq!(url, "http://h/acme/pay/k-1/a%2Fb%3Fc%20%7Bkey%7D/%230.0/{other}");
    }
}
