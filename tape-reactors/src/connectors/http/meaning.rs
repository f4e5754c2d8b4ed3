//! The meaning of answers.

use super::super::answer::{compensated, dispatched, observed};
use super::exchange::Answer;
use super::pattern::Pattern;
use crate::connector::{Call, NotUndone, Observation};
use reqwest::StatusCode;
use tape_core::command::AttemptOutcome;
use tape_core::payload::Payload;

/// The configured patterns of answers to a question, each with its setting.
pub(super) struct Says<'a> {
    pub(super) yes: (&'static str, Option<&'a Pattern>),
    pub(super) no: (&'static str, Option<&'a Pattern>),
}

/// What the answer to a repeated request says about all attempts.
pub(super) fn repeated(
    answer: &Answer,
    call: &Call,
    not_done: &[Pattern],
    absent: Option<&Pattern>,
) -> Observation {
    match ending(answer, call, not_done) {
        AttemptOutcome::Confirmed { result, undo, .. } => Observation::Found { result, undo },
        AttemptOutcome::Failed { .. } => Observation::Absent,
        _ if absent.is_some_and(|absent| absent.fits(answer, call)) => Observation::Absent,
        AttemptOutcome::Retry { error: why, .. }
        | AttemptOutcome::Refused { error: why, .. }
        | AttemptOutcome::Repeat { cause: why, .. }
        | AttemptOutcome::Unknown { cause: why } => Observation::Inconclusive { why },
        AttemptOutcome::Unreached { error: why } => Observation::Unreached { why },
    }
}

fn confirms(status: StatusCode) -> bool {
    status.is_success() && status != StatusCode::ACCEPTED
}

pub(super) fn ending(answer: &Answer, call: &Call, not_done: &[Pattern]) -> AttemptOutcome {
    match answer.typed(dispatched) {
        Some(typed) => typed.unwrap_or_else(|cause| AttemptOutcome::Unknown { cause }),
        None => by_status(answer, call, not_done),
    }
}

pub(super) fn undoing(answer: &Answer, call: &Call, not_done: &[Pattern]) -> Result<Payload, NotUndone> {
    if let Some(typed) = answer.typed(compensated) {
        return typed.unwrap_or_else(|cause| Err(NotUndone::Unknown { cause }));
    }
    match by_status(answer, call, not_done) {
        AttemptOutcome::Confirmed { result, .. } => Ok(result),
        AttemptOutcome::Retry { error, .. }
        | AttemptOutcome::Refused { error, .. }
        | AttemptOutcome::Failed { error, .. } => Err(NotUndone::Retry { error }),
        AttemptOutcome::Unreached { error } => Err(NotUndone::Unreached { error }),
        AttemptOutcome::Unknown { cause } | AttemptOutcome::Repeat { cause, .. } => {
            Err(NotUndone::Unknown { cause })
        }
    }
}

/// The meaning of an answer that may come from a proxy and not from the upstream.
fn by_status(answer: &Answer, call: &Call, not_done: &[Pattern]) -> AttemptOutcome {
    use StatusCode as S;
    let after_ms = answer
        .retry_after()
        .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    let said = answer.said();
    if not_done.iter().any(|pattern| pattern.fits(answer, call)) {
        return AttemptOutcome::Retry {
            error: said,
            after_ms,
        };
    }
    match answer.status {
        status if confirms(status) => AttemptOutcome::confirmed(answer.payload()),
        S::UNAUTHORIZED | S::PROXY_AUTHENTICATION_REQUIRED | S::TOO_EARLY => AttemptOutcome::Retry {
            error: said,
            after_ms,
        },
        // A proxy in between gives such answers as well, also while the upstream works on the request.
        S::TOO_MANY_REQUESTS | S::BAD_GATEWAY | S::SERVICE_UNAVAILABLE | S::GATEWAY_TIMEOUT => {
            AttemptOutcome::Repeat {
                cause: said,
                after_ms,
            }
        }
        S::REQUEST_TIMEOUT => AttemptOutcome::Unknown { cause: said },
        S::CONFLICT if call.attempt > 1 => AttemptOutcome::Unknown { cause: said },
        S::NOT_IMPLEMENTED | S::HTTP_VERSION_NOT_SUPPORTED => refused(said, answer),
        status if status.is_client_error() => refused(said, answer),
        // Among them redirections: after a successful POST, a client is often redirected to the result.
        _ => AttemptOutcome::Unknown { cause: said },
    }
}

fn refused(error: String, answer: &Answer) -> AttemptOutcome {
    AttemptOutcome::Refused {
        error,
        detail: Some(answer.payload()),
    }
}

pub(super) fn seen(answer: &Answer, call: &Call, says: &Says<'_>) -> Observation {
    if let Some(typed) = answer.typed(observed) {
        return typed.unwrap_or_else(|why| Observation::Inconclusive { why });
    }
    let fits = |pattern: Option<&Pattern>| pattern.is_some_and(|pattern| pattern.fits(answer, call));
    let (yes, no) = (says.yes.0, says.no.0);
    let inconclusive = |why: &str| Observation::inconclusive(format_args!("{}: {why}", answer.said()));
    match (fits(says.yes.1), fits(says.no.1)) {
        (true, true) => inconclusive(&format!("it fits both `{yes}` and `{no}`")),
        (true, false) => Observation::found(answer.payload()),
        (false, true) => Observation::Absent,
        (false, false) => inconclusive(&says.why_nothing()),
    }
}

impl Says<'_> {
    /// Why an answer that matches no pattern says nothing, and which setting to add. The form of an answer proves nothing by itself: a no
    /// names the act as well as a yes does.
    fn why_nothing(&self) -> String {
        let ((yes, is_yes), (no, is_no)) = (self.yes, self.no);
        match (is_yes, is_no) {
            (Some(_), Some(_)) => format!("it fits neither `{yes}` nor `{no}`"),
            (Some(_), None) => format!("it does not fit `{yes}`, and `{no}` is not configured"),
            (None, Some(_)) => format!("it does not fit `{no}`, and `{yes}` is not configured"),
            (None, None) => format!("neither `{yes}` nor `{no}` is configured"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::answer::CONTENT_TYPE;
    use super::super::endpoints::HttpPattern;
    use super::super::tests::call;
    use super::*;
    use reqwest::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderMap, HeaderValue, RETRY_AFTER};

    fn answer(status: u16, retry_after: Option<u64>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: b"{}"[..].into(),
        }
    }

    fn attempt(attempt: u32) -> Call {
        Call { attempt, ..call() }
    }

    fn pattern(json: &str) -> Pattern {
        let pattern: HttpPattern = serde_json::from_str(json).unwrap();
        Pattern::read(&pattern).unwrap()
    }

    fn asked<'a>(yes: Option<&'a Pattern>, no: Option<&'a Pattern>) -> Says<'a> {
        Says {
            yes: ("found", yes),
            no: ("absent", no),
        }
    }

    fn word(status: u16, retry_after: Option<u64>, n: u32) -> &'static str {
        match ending(&answer(status, retry_after), &attempt(n), &[]) {
            AttemptOutcome::Confirmed { .. } => "confirmed",
            AttemptOutcome::Failed { .. } => "failed",
            AttemptOutcome::Refused { .. } => "refused",
            AttemptOutcome::Retry { .. } => "retry",
            AttemptOutcome::Repeat { .. } => "repeat",
            AttemptOutcome::Unknown { .. } => "unknown",
            AttemptOutcome::Unreached { .. } => "unreached",
        }
    }

    #[test]
    fn what_answers_to_a_dispatch_mean() {
        for (status, first, later) in [
            (200, "confirmed", "confirmed"),
            (201, "confirmed", "confirmed"),
            (202, "unknown", "unknown"),
            (301, "unknown", "unknown"),
            (303, "unknown", "unknown"),
            (400, "refused", "refused"),
            (401, "retry", "retry"),
            (404, "refused", "refused"),
            (408, "unknown", "unknown"),
            (409, "refused", "unknown"),
            (413, "refused", "refused"),
            (422, "refused", "refused"),
            (425, "retry", "retry"),
            (429, "repeat", "repeat"),
            (500, "unknown", "unknown"),
            (501, "refused", "refused"),
            (502, "repeat", "repeat"),
            (503, "repeat", "repeat"),
            (504, "repeat", "repeat"),
            (600, "unknown", "unknown"),
        ] {
            assert_eq!(word(status, None, 1), first, "{status}");
            assert_eq!(word(status, None, 2), later, "{status}");
        }
        assert_eq!(word(503, Some(7), 1), "repeat");
        let wish = ending(&answer(429, Some(7)), &call(), &[]);
        assert!(
            matches!(
                wish,
                AttemptOutcome::Repeat {
                    after_ms: Some(7_000),
                    ..
                }
            ),
            "{wish:?}"
        );
    }

    #[test]
    fn nothing_was_done_where_the_configuration_says_so() {
        let not_done = [
            pattern(r#"{"status": 429}"#),
            pattern(r#"{"status": 503, "headers": {"x-by": "{tenant}"}}"#),
        ];
        let told = |status, by: Option<&'static str>| {
            let mut answer = answer(status, Some(7));
            if let Some(by) = by {
                answer.headers.insert("x-by", HeaderValue::from_static(by));
            }
            (
                ending(&answer, &call(), &not_done),
                undoing(&answer, &call(), &not_done),
            )
        };
        for (status, by) in [(429, None), (503, Some("acme"))] {
            let (ending, undone) = told(status, by);
            let retry = matches!(
                ending,
                AttemptOutcome::Retry {
                    after_ms: Some(7_000),
                    ..
                }
            );
            assert!(retry, "{status}: {ending:?}");
            assert!(matches!(undone, Err(NotUndone::Retry { .. })), "{undone:?}");
        }
        for (status, by) in [(503, None), (503, Some("globex")), (500, Some("acme"))] {
            let (ending, undone) = told(status, by);
            let doubt = matches!(
                ending,
                AttemptOutcome::Repeat { .. } | AttemptOutcome::Unknown { .. }
            );
            assert!(doubt, "{status}: {ending:?}");
            assert!(matches!(undone, Err(NotUndone::Unknown { .. })), "{undone:?}");
        }
    }

    #[test]
    fn what_was_answered_is_kept_as_it_is_or_what_can_be_kept_of_it() {
        let result = |kind: Option<&'static str>, body: &[u8]| {
            let mut answer = answer(200, None);
            if let Some(kind) = kind {
                answer
                    .headers
                    .insert(CONTENT_TYPE_HEADER, HeaderValue::from_static(kind));
            }
            answer.body = body.into();
            match ending(&answer, &call(), &[]) {
                AttemptOutcome::Confirmed { result, .. } => result,
                other => panic!("{other:?}"),
            }
        };
        const LONG: &str = concat!(
            "text/x-",
            "0123456789012345678901234567890123456789012345678901234567890123456789",
            "0123456789012345678901234567890123456789"
        );
        for (kind, body, kept) in [
            (None, &b""[..], Payload::BYTES),
            (
                Some("application/json; charset=utf-8"),
                br#"{"fee": NaN}"#,
                Payload::JSON,
            ),
            (
                Some("text/plain; charset=latin1"),
                b"caf\xe9",
                "text/plain; charset=latin1",
            ),
            (Some(LONG), b"\xff\xfe", Payload::BYTES),
            (Some("application/vnd.tape.unkept+json"), b"{}", Payload::BYTES),
        ] {
            let payload = result(kind, body);
            assert_eq!(
                (payload.content_type(), &payload.bytes().unwrap()[..]),
                (kept, body)
            );
        }
        let many = vec![b'x'; (1 << 20) + 1];
        let unkept = result(Some("text/html"), &many).as_unkept().unwrap();
        assert_eq!(
            (unkept.len, unkept.content_type.as_str()),
            ((1 << 20) + 1, "text/html")
        );
    }

    /// Whatever they look like: a no echoes the key, has a status of 200 and says something, as a yes does.
    #[test]
    fn no_answer_says_anything_that_nobody_configured() {
        for body in [
            r#"{"success": false, "code": 404, "message": "no such transfer"}"#,
            r#"{"ok": false, "message": "not found"}"#,
            r#"{"status": "not_found", "key": "k-1"}"#,
            r#"{"status": 404, "detail": "no transfer"}"#,
            r#"{"found": false, "key": "k-1"}"#,
            r#"{"exists": false, "business_key": "a/b?c {key}"}"#,
            r#"{"refunded": false, "reference": "a/b?c {key}"}"#,
            r#"{"message": "Not Found", "documentation_url": "https://docs.example"}"#,
            r#"{"id": "tr_1", "reference": "a/b?c {key}", "status": "failed"}"#,
            r#"{"id": "tr_1", "reference": "a/b?c {key}", "status": "pending"}"#,
            r#"{"total": 0, "query": "k-1"}"#,
            r#"{"error": "no such transfer", "reference": "k-1"}"#,
            r#"[{"reference": "a/b?c {key}"}]"#,
            r#"{"data": [{"reference": "k-1"}]}"#,
            r#"{"data": {"idempotency_key": "k-1"}}"#,
            r#"{"id": 7}"#,
            "{}",
            "",
            "null",
            "k-1",
            "<html>Sign in</html>",
        ] {
            for status in [200, 201, 202, 301, 401, 404, 410, 429, 500, 503] {
                let mut answer = answer(status, None);
                answer.body = body.as_bytes().into();
                let seen = seen(&answer, &call(), &asked(None, None));
                let Observation::Inconclusive { why } = seen else {
                    panic!("{status} {body}: {seen:?}");
                };
                let quoted = why.contains(&status.to_string()) && why.contains(body);
                assert!(quoted && why.contains("`found`"), "{why}");
            }
        }
    }

    #[test]
    fn what_to_add_is_told_where_an_answer_says_nothing() {
        let pattern = pattern(r#"{"status": 200, "json": {"/state": "done"}}"#);
        let told = |yes, no| match seen(&answer(404, None), &call(), &asked(yes, no)) {
            Observation::Inconclusive { why } => why,
            other => panic!("{other:?}"),
        };
        let (some, none) = (Some(&pattern), None);
        for (yes, no, why) in [
            (some, some, "it fits neither `found` nor `absent`"),
            (
                some,
                none,
                "it does not fit `found`, and `absent` is not configured",
            ),
            (
                none,
                some,
                "it does not fit `absent`, and `found` is not configured",
            ),
            (none, none, "neither `found` nor `absent` is configured"),
        ] {
            assert_eq!(told(yes, no), format!("404 Not Found {{}}: {why}"));
        }
    }

    #[test]
    fn only_what_the_configuration_names_is_found() {
        use tape_core::effect::Outcome as O;
        let found = pattern(r#"{"status": 200, "json": {"/by": "{business_key}", "/state": "done"}}"#);
        let absent = pattern(r#"{"status": 200, "json": {"/state": "done"}}"#);
        let said = |no: Option<&Pattern>, body: &str| {
            let mut answer = answer(200, None);
            answer.body = body.as_bytes().into();
            seen(&answer, &call(), &asked(Some(&found), no)).outcome()
        };
        let done = r#"{"by": "a/b?c {key}", "state": "done"}"#;
        assert_eq!(said(None, done), O::Found);
        assert_eq!(
            said(None, r#"{"by": "a/b?c {key}", "state": "failed"}"#),
            O::Inconclusive
        );
        assert_eq!(
            said(None, r#"{"by": "another", "state": "done"}"#),
            O::Inconclusive
        );
        assert_eq!(said(Some(&absent), done), O::Inconclusive, "yes and no");
    }

    #[test]
    fn only_what_the_configuration_names_is_absent() {
        use tape_core::effect::Outcome as O;
        let said = |absent: &str, status, header: Option<&'static str>, body: &str| {
            let absent = pattern(absent);
            let mut answer = answer(status, None);
            if let Some(value) = header {
                answer.headers.insert("x-asked", HeaderValue::from_static(value));
            }
            answer.body = body.as_bytes().into();
            seen(&answer, &call(), &asked(None, Some(&absent))).outcome()
        };
        let bare = r#"{"status": 404}"#;
        assert_eq!(said(bare, 404, None, "no such page"), O::Absent);
        assert_eq!(said(bare, 410, None, ""), O::Inconclusive);
        let by_body = r#"{"status": 404, "json": {"/error/code": "unknown", "/n": 1}}"#;
        let own = r#"{"error": {"code": "unknown"}, "n": 1}"#;
        assert_eq!(said(by_body, 404, None, own), O::Absent);
        assert_eq!(said(by_body, 500, None, own), O::Inconclusive);
        for routers in ["no such page", "", "{}", r#"{"error": {"code": "unknown"}}"#] {
            assert_eq!(said(by_body, 404, None, routers), O::Inconclusive, "{routers}");
        }
        let by_header = r#"{"status": 404, "headers": {"X-Asked": "bank"}}"#;
        assert_eq!(said(by_header, 404, Some("bank"), ""), O::Absent);
        assert_eq!(said(by_header, 404, Some("router"), ""), O::Inconclusive);
        assert_eq!(said(by_header, 404, None, ""), O::Inconclusive);
        let empty_list = r#"{"status": 200, "json": {"": []}}"#;
        assert_eq!(said(empty_list, 200, None, "[]"), O::Absent);
        assert_eq!(said(empty_list, 200, None, r#"[{"id": 1}]"#), O::Inconclusive);
    }

    #[test]
    fn an_upstream_that_knows_tape_says_what_it_means() {
        let typed = |body: &str| {
            let mut answer = answer(500, None);
            let kind = HeaderValue::from_static("application/vnd.tape.answer+json; charset=utf-8");
            answer.headers.insert(CONTENT_TYPE_HEADER, kind);
            answer.body = body.as_bytes().into();
            answer
        };
        let refused = typed(r#"{"failed": {"error": "no such account"}}"#);
        assert!(
            matches!(ending(&refused, &call(), &[]), AttemptOutcome::Failed { error, .. } if error == "no such account")
        );
        let nonsense = typed(r#"{"perhaps": {}}"#);
        assert!(matches!(
            ending(&nonsense, &call(), &[]),
            AttemptOutcome::Unknown { .. }
        ));
        assert_eq!(
            seen(&typed(r#""absent""#), &call(), &asked(None, None)),
            Observation::Absent
        );
    }

    #[test]
    fn an_act_that_is_sent_again_did_not_happen_only_where_the_upstream_says_so() {
        use tape_core::effect::Outcome as O;
        let absent = pattern(r#"{"status": 422, "json": {"/n": 1}}"#);
        let said = |status, body: &str| {
            let mut answer = answer(status, None);
            answer.body = body.as_bytes().into();
            repeated(&answer, &attempt(2), &[], Some(&absent)).outcome()
        };
        assert_eq!(said(200, "{}"), O::Found);
        assert_eq!(said(422, r#"{"n": 1}"#), O::Absent);
        for status in [303, 400, 401, 404, 405, 409, 413, 422, 500, 501] {
            assert_eq!(said(status, "{}"), O::Inconclusive, "{status}");
        }
        let mut typed = answer(404, None);
        let kind = HeaderValue::from_static(CONTENT_TYPE);
        typed.headers.insert(CONTENT_TYPE_HEADER, kind);
        typed.body = br#"{"failed": {"error": "no such account"}}"#[..].into();
        assert_eq!(repeated(&typed, &attempt(2), &[], None).outcome(), O::Absent);
    }

    #[test]
    fn what_answers_to_an_undo_mean() {
        let word = |status, n| match undoing(&answer(status, None), &attempt(n), &[]) {
            Ok(_) => "done",
            Err(NotUndone::Retry { .. }) => "retry",
            Err(NotUndone::Unknown { .. }) => "unknown",
            Err(NotUndone::Unreached { .. }) => "unreached",
            Err(NotUndone::Refused { .. }) => "refused",
        };
        for (status, meaning) in [
            (200, "done"),
            (202, "unknown"),
            (303, "unknown"),
            (404, "retry"),
            (408, "unknown"),
            (429, "unknown"),
            (503, "unknown"),
            (500, "unknown"),
        ] {
            assert_eq!(word(status, 1), meaning, "{status}");
        }
        assert_eq!([word(409, 1), word(409, 2)], ["retry", "unknown"]);
    }
}
