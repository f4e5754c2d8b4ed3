//! Pages of lists, one after the other.

use tape_api::JournalError;

/// The place where the next page begins. A server that names the place of this page again would be asked for ever.
pub(super) fn next_page(from: Option<&str>, token: String) -> Result<Option<String>, JournalError> {
    if token.is_empty() {
        return Ok(None);
    }
    if from == Some(token.as_str()) {
        return Err(JournalError::damaged(
            "the server names a page as the next one after itself",
        ));
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::next_page;

    #[test]
    fn a_page_does_not_follow_itself() {
        assert_eq!(next_page(None, String::new()).unwrap(), None);
        assert_eq!(
            next_page(Some("1"), "2".to_owned()).unwrap().as_deref(),
            Some("2")
        );
        assert!(next_page(Some("1"), "1".to_owned()).is_err());
    }
}
