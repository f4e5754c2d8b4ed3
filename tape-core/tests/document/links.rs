//! Links between the pages about the format lead to headings that are there.

use std::collections::BTreeMap;

const PAGES: [&str; 2] = ["format.md", "clients.md"];

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|char| char.is_alphanumeric() || " -_".contains(*char))
        .map(|char| if char == ' ' { '-' } else { char })
        .collect()
}

#[test]
fn links_between_the_pages_lead_to_headings() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/");
    let read = |page| (page, std::fs::read_to_string(format!("{docs}{page}")).unwrap());
    let pages: BTreeMap<&str, String> = PAGES.map(read).into();
    let mut followed = 0;
    for (&page, text) in &pages {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (to, part) = link.split_once('#').unwrap_or((link, ""));
            let Some(target) = pages.get(if to.is_empty() { page } else { to }) else {
                assert!(
                    std::path::Path::new(&format!("{docs}{to}")).exists(),
                    "{page}: {link}"
                );
                continue;
            };
            let mut headings = target.lines().filter(|line| line.starts_with('#'));
            assert!(
                part.is_empty() || headings.any(|heading| anchor(heading) == part),
                "{page}: {link}"
            );
            followed += 1;
        }
    }
    assert!(followed > 50, "{followed}");
}
