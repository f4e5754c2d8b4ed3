//! What answers mean.

use super::super::answer::{Compensated, Dispatched, Observed};
use super::endpoints::HttpAbsent;
use super::exchange::Answer;
use crate::connector::{NotUndone, Observation};
use reqwest::StatusCode;
use std::time::Duration;
use tape_core::command::Ending;
use tape_core::payload::Payload;

/// What the answer to an act that was sent again says of all attempts.
pub(super) fn repeated(answer: &Answer, attempt: u32, absent: Option<&HttpAbsent>) -> Observation {
    match ending(answer, attempt) {
        Ending::Confirmed { result, undo, .. } => Observation::Found { result, undo },
        Ending::Failed { .. } => Observation::Absent,
        _ if absent.is_some_and(|absent| absent.fits(answer)) => Observation::Absent,
        Ending::Retry { error: why, .. }
        | Ending::Refused { error: why, .. }
        | Ending::Repeat { cause: why, .. }
        | Ending::Unknown { cause: why } => Observation::Inconclusive { why },
        Ending::Unreached { error: why } => Observation::Unreached { why },
    }
}

fn confirms(status: StatusCode) -> bool {
    status.is_success() && status != StatusCode::ACCEPTED
}

pub(super) fn ending(answer: &Answer, attempt: u32) -> Ending {
    match answer.typed::<Dispatched>() {
        Some(typed) => typed.map_or_else(|cause| Ending::Unknown { cause }, Dispatched::ending),
        None => by_status(answer, attempt),
    }
}

pub(super) fn undoing(answer: &Answer, attempt: u32) -> Result<Payload, NotUndone> {
    if let Some(typed) = answer.typed::<Compensated>() {
        return typed.map_or_else(|cause| Err(NotUndone::Unknown { cause }), Compensated::outcome);
    }
    match by_status(answer, attempt) {
        Ending::Confirmed { result, .. } => Ok(result),
        Ending::Retry { error, .. } | Ending::Refused { error, .. } | Ending::Failed { error, .. } => {
            Err(NotUndone::Retry { error })
        }
        Ending::Unreached { error } => Err(NotUndone::Unreached { error }),
        Ending::Unknown { cause } | Ending::Repeat { cause, .. } => Err(NotUndone::Unknown { cause }),
    }
}

/// What anybody's answer means, who need not be the upstream.
fn by_status(answer: &Answer, attempt: u32) -> Ending {
    use StatusCode as S;
    let after = answer.retry_after();
    let said = answer.said();
    match answer.status {
        status if confirms(status) => Ending::Confirmed {
            result: answer.payload().unwrap_or_else(Payload::empty),
            undo: None,
            spent: None,
        },
        S::UNAUTHORIZED | S::PROXY_AUTHENTICATION_REQUIRED | S::TOO_EARLY | S::TOO_MANY_REQUESTS => {
            retry(said, after)
        }
        S::SERVICE_UNAVAILABLE if after.is_some() => retry(said, after),
        S::REQUEST_TIMEOUT => Ending::Unknown { cause: said },
        S::CONFLICT if attempt > 1 => Ending::Unknown { cause: said },
        S::NOT_IMPLEMENTED | S::HTTP_VERSION_NOT_SUPPORTED => refused(said, answer),
        status if status.is_client_error() => refused(said, answer),
        // Among them redirections: who posted something that was done is often sent elsewhere to look at it.
        _ => Ending::Unknown { cause: said },
    }
}

pub(super) fn retry(error: String, after: Option<Duration>) -> Ending {
    let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    Ending::Retry { error, after_ms }
}

fn refused(error: String, answer: &Answer) -> Ending {
    Ending::Refused {
        error,
        detail: answer.payload(),
    }
}

pub(super) fn seen(answer: &Answer, absent: Option<&HttpAbsent>) -> Observation {
    if let Some(typed) = answer.typed::<Observed>() {
        return typed.map_or_else(|why| Observation::Inconclusive { why }, Observed::observation);
    }
    match answer.status {
        _ if absent.is_some_and(|absent| absent.fits(answer)) => Observation::Absent,
        status if confirms(status) => Observation::Found {
            result: answer.payload().unwrap_or_else(Payload::empty),
            undo: None,
        },
        _ => Observation::Inconclusive { why: answer.said() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::answer::CONTENT_TYPE;
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
            body: b"{}".to_vec(),
        }
    }

    fn word(status: u16, retry_after: Option<u64>, attempt: u32) -> &'static str {
        match ending(&answer(status, retry_after), attempt) {
            Ending::Confirmed { .. } => "confirmed",
            Ending::Failed { .. } => "failed",
            Ending::Refused { .. } => "refused",
            Ending::Retry { .. } => "retry",
            Ending::Repeat { .. } => "repeat",
            Ending::Unknown { .. } => "unknown",
            Ending::Unreached { .. } => "unreached",
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
            (429, "retry", "retry"),
            (500, "unknown", "unknown"),
            (501, "refused", "refused"),
            (502, "unknown", "unknown"),
            (503, "unknown", "unknown"),
            (504, "unknown", "unknown"),
            (600, "unknown", "unknown"),
        ] {
            assert_eq!(word(status, None, 1), first, "{status}");
            assert_eq!(word(status, None, 2), later, "{status}");
        }
        assert_eq!(word(503, Some(7), 1), "retry");
        let wish = ending(&answer(429, Some(7)), 1);
        assert!(
            matches!(
                wish,
                Ending::Retry {
                    after_ms: Some(7_000),
                    ..
                }
            ),
            "{wish:?}"
        );
    }

    #[test]
    fn what_answers_to_an_observation_mean() {
        let outcome = |status| seen(&answer(status, None), None).outcome();
        use tape_core::effect::Outcome as O;
        assert_eq!(outcome(200), O::Found);
        for status in [202, 401, 404, 410, 429, 500, 503] {
            assert_eq!(outcome(status), O::Inconclusive, "{status}");
        }
    }

    #[test]
    fn only_what_the_configuration_names_is_absent() {
        use tape_core::effect::Outcome as O;
        let said = |absent: &str, status, header: Option<&'static str>, body: &str| {
            let absent: HttpAbsent = serde_json::from_str(absent).unwrap();
            let mut answer = answer(status, None);
            if let Some(value) = header {
                answer.headers.insert("x-asked", HeaderValue::from_static(value));
            }
            answer.body = body.as_bytes().to_vec();
            seen(&answer, Some(&absent)).outcome()
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
        assert_eq!(said(empty_list, 200, None, r#"[{"id": 1}]"#), O::Found);
    }

    #[test]
    fn an_upstream_that_knows_tape_says_what_it_means() {
        let typed = |body: &str| {
            let mut answer = answer(500, None);
            let kind = HeaderValue::from_static("application/vnd.tape.answer+json; charset=utf-8");
            answer.headers.insert(CONTENT_TYPE_HEADER, kind);
            answer.body = body.into();
            answer
        };
        let refused = typed(r#"{"failed": {"error": "no such account"}}"#);
        assert!(matches!(ending(&refused, 1), Ending::Failed { error, .. } if error == "no such account"));
        let nonsense = typed(r#"{"perhaps": {}}"#);
        assert!(matches!(ending(&nonsense, 1), Ending::Unknown { .. }));
        assert_eq!(seen(&typed(r#""absent""#), None), Observation::Absent);
    }

    #[test]
    fn an_act_that_is_sent_again_did_not_happen_only_where_the_upstream_says_so() {
        use tape_core::effect::Outcome as O;
        let absent: HttpAbsent = serde_json::from_str(r#"{"status": 422, "json": {"/n": 1}}"#).unwrap();
        let said = |status, body: &str| {
            let mut answer = answer(status, None);
            answer.body = body.as_bytes().to_vec();
            repeated(&answer, 2, Some(&absent)).outcome()
        };
        assert_eq!(said(200, "{}"), O::Found);
        assert_eq!(said(422, r#"{"n": 1}"#), O::Absent);
        for status in [303, 400, 401, 404, 405, 409, 413, 422, 500, 501] {
            assert_eq!(said(status, "{}"), O::Inconclusive, "{status}");
        }
        let mut typed = answer(404, None);
        let kind = HeaderValue::from_static(CONTENT_TYPE);
        typed.headers.insert(CONTENT_TYPE_HEADER, kind);
        typed.body = br#"{"failed": {"error": "no such account"}}"#.to_vec();
        assert_eq!(repeated(&typed, 2, None).outcome(), O::Absent);
    }

    #[test]
    fn what_answers_to_an_undo_mean() {
        let word = |status, attempt| match undoing(&answer(status, None), attempt) {
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
            (429, "retry"),
            (500, "unknown"),
        ] {
            assert_eq!(word(status, 1), meaning, "{status}");
        }
        assert_eq!([word(409, 1), word(409, 2)], ["retry", "unknown"]);
    }
}
