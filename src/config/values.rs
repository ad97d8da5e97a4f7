//! Values that several sections have: texts, names, patterns.

use super::reader::Section;
use crate::error::Error;
use crate::pattern::Pattern;

/// A string that may not be empty.
pub(super) fn filled(section: &Section, key: &'static str) -> Option<String> {
    section.parsed(key, |text| match text.trim() {
        "" => Err((format!("{} is empty", section.name_of(key)), "Give a value, or remove the key.".into())),
        _ => Ok(text.to_owned()),
    })
}

/// Names, none empty and none twice.
pub(super) fn names(section: &Section, key: &'static str) -> Option<Vec<String>> {
    let names = section.texts(key)?;
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || names[..at].contains(name) {
            let what = if name.is_empty() { "an empty name".into() } else { format!("\"{name}\" twice") };
            let hint = "Give each name once, without SQL's quotes.";
            section.mistake(key, format!("{} holds {what}", section.name_of(key)), hint);
        }
    }
    Some(names)
}

/// Table patterns, each of which can be read.
pub(super) fn patterns(section: &Section, key: &'static str) -> Option<Vec<String>> {
    let texts = section.texts(key)?;
    for text in &texts {
        if let Err(error) = Pattern::parse(text) {
            let (message, hint) = in_words(error);
            section.mistake(key, message, hint);
        }
    }
    Some(texts)
}

/// Message and hint of what a reader of one value said.
pub(super) fn in_words(error: Error) -> (String, String) {
    match error {
        Error::Usage { message, hint } => (message, hint),
        other => (other.to_string(), String::new()),
    }
}
