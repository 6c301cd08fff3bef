//! The Japanese pages have the sections, the commands and the rows of the English ones, in the same
//! order. So a command that is changed in one of them only is found.

use super::{Document, Section};

/// Code that is the same in every language: commands and outputs, and no pictures.
fn code(section: &Section) -> Vec<&String> {
    let is_picture = |code: &str| code.contains("-->") || code.contains("->");
    section.code.iter().filter(|it| !is_picture(it)).collect()
}

/// Compares the first sections of two documents, as many as the Japanese one has.
fn compare(english: &str, japanese: &str) {
    let (sections, translated) = (Document::read(english).sections, Document::read(japanese));
    let pairs: Vec<_> = sections.iter().zip(&translated.sections).collect();
    assert_eq!(pairs.len(), translated.sections.len(), "{japanese}");
    for (one, other) in pairs {
        let place = format!("{japanese}: {} ({})", other.heading, one.heading);
        assert_eq!(code(one), code(other), "{place}");
        assert_eq!(one.rows().len(), other.rows().len(), "rows of {place}");
    }
}

/// Asserts that no section is missing at the end.
fn is_whole(english: &str, japanese: &str) {
    let [english, japanese] = [english, japanese].map(|path| Document::read(path).sections.len());
    assert_eq!(english, japanese);
}

#[test]
fn the_japanese_readme_is_the_beginning_of_the_english_one() {
    compare("README.md", "docs/ja/README.md");
}

#[test]
fn the_japanese_operations_page_has_the_same_commands() {
    compare("docs/operations.md", "docs/ja/operations.md");
    is_whole("docs/operations.md", "docs/ja/operations.md");
}

#[test]
fn the_japanese_configuration_page_has_the_same_settings() {
    let pages = ["docs/configuration.md", "docs/ja/configuration.md"];
    compare(pages[0], pages[1]);
    is_whole(pages[0], pages[1]);
    let keys = |page: &str| -> Vec<String> {
        let sections = Document::read(page).sections;
        let rows = sections.iter().flat_map(Section::rows);
        rows.map(|cells| cells[0].to_owned()).collect()
    };
    let [english, japanese] = pages.map(keys);
    assert_eq!(english, japanese);
}
