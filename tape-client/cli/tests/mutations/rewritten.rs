//! An envelope in another form, under a chain, a head and a published head that are computed anew: only the form tells. Whether it counts is
//! for the two verifiers to say, and they must say the same.

use crate::changes::Change;
use crate::forgeries::Forged;
use crate::journals::Base;
use crate::random::Random;
use serde_json::Value;

/// What is replaced in an envelope, once, and by what. `N` is the first number there, and `X` a digest.
const FORMS: [(&str, &str); 34] = [
    ("\"req\":", "\"by\":null,\"req\":"),
    ("\"req\":", "\"trace\":null,\"req\":"),
    ("\"req\":", "\"new\":null,\"req\":"),
    ("\"req\":", "\"new\":{\"seq\":null,\"a\":[null]},\"req\":"),
    ("\"req\":", "\"new\":1e400,\"new\":-0,\"req\":"),
    ("\"req\":", "\"new\":\"\\ud800\",\"req\":"),
    ("\"req\":", "\"\\udc00\":1,\"req\":"),
    ("\"req\":", "\"decided\":5,\"req\":"),
    ("\"req\":", "\"decided\":9223372036854775807,\"req\":"),
    ("\"req\":", "\"trace\":\"00-0-0-0\",\"req\":"),
    ("\"req\":", "\"\\u0062y\":\"eve\",\"req\":"),
    ("\"req\":\"", "\"req\":\"A"),
    ("\"req\":\"01", "\"req\":\"0A"),
    ("\"sha256\":\"", "\"sha256\":\"A"),
    ("\"v\":2", "\"v\":3"),
    ("\"v\":2", "\"v\":1"),
    ("\"v\":2", "\"v\":0"),
    ("\"v\":2", "\"v\":2,\"v\":2"),
    ("\"v\":2", "\"v\":2.0"),
    ("\"v\":2", "\"v\":4294967298"),
    ("\"v\":2", "\"v\":18446744073709551616"),
    ("\"v\":2", " \"v\" :\t2"),
    ("\"v\":2", "\n\"v\":2"),
    ("\"v\":2", "\"v\":\r2"),
    ("\"at\":1", "\"at\":9"),
    ("\"at\":1", "\"at\":-1"),
    ("\"at\":17", "\"at\":017"),
    ("\"kind\":\"", "\"kind\":\"new."),
    ("\"body\":{", "\"body\":{\"new\":[null,1.5],"),
    (
        "\"body\":{",
        "\"body\":{\"previous\":null,\"undo\":null,\"output\":null,",
    ),
    ("\"reason\":\"\"", "\"reason\":\"left\""),
    (
        "\"who\":\"driver\"",
        "\"who\":\"driver\",\"holder\":7,\"holder\":8",
    ),
    (
        "\"semantics\":\"idempotent\"",
        "\"semantics\":{\"idempotent\":null}",
    ),
    ("\"currency\":\"micro_usd\"", "\"currency\":{\"micro_usd\":null}"),
];

pub(crate) fn any(base: &Base, random: &mut Random) -> (Change, Base) {
    let (from, to) = *random.of_all(&FORMS);
    let fits = |line: &&usize| {
        let envelope = base.lines[**line]["envelope"].as_str();
        envelope.is_some_and(|envelope| envelope.contains(from))
    };
    let all: Vec<usize> = (0..base.lines.len()).collect();
    let fitting: Vec<usize> = all.iter().filter(fits).copied().collect();
    let mut file = Forged {
        lines: base.lines.clone(),
        random,
    };
    let mut what = format!("no envelope has {from}");
    if !fitting.is_empty() {
        let at = *file.random.of_all(&fitting);
        let begin = file.begin(at);
        let envelope = file.lines[at]["envelope"].as_str().unwrap();
        file.lines[at]["envelope"] = Value::from(envelope.replacen(from, to, 1));
        file.compute(begin);
        file.fit(begin);
        what = format!("line {} has {to} for {from}", at + 1);
    }
    let rewritten = Base::of(base.name.clone(), file.lines);
    (Change::new(what, rewritten.data.clone()), rewritten)
}
