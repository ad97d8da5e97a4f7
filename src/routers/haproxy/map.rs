//! A map of HAProxy, a key and a value a line: finding one key in its file, and writing another value in its place.

use std::ops::{Deref, Range};
use std::path::Path;

use crate::error::{Error, Result};
use crate::routers::replaceable_file::ReplaceableFile;

/// The line of one key. Positions are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 1-based.
    pub line: usize,
    /// The value's place in the text, without the space around it.
    value: Range<usize>,
}

/// The entry of `key`: None when it has none, an error when it has several, of which HAProxy would use the first.
pub fn find_entry(text: &[u8], key: &str) -> Result<Option<Entry>, String> {
    let mut found: Option<Entry> = None;
    let mut start = 0;
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let whole = start..start + line.len();
        start = whole.end;
        let trimmed = trim(text, whole);
        if text[trimmed.clone()].starts_with(b"#") {
            continue;
        }
        let key_length = text[trimmed.clone()].iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
        let key_end = trimmed.start + key_length;
        if text[trimmed.start..key_end] != *key.as_bytes() {
            continue;
        }
        let entry = Entry { line: index + 1, value: trim(text, key_end..trimmed.end) };
        if let Some(first) = &found {
            return Err(format!("\"{key}\" stands twice, in lines {} and {}", first.line, entry.line));
        }
        found = Some(entry);
    }
    Ok(found)
}

fn trim(text: &[u8], mut range: Range<usize>) -> Range<usize> {
    while range.start < range.end && text[range.start].is_ascii_whitespace() {
        range.start += 1;
    }
    while range.end > range.start && text[range.end - 1].is_ascii_whitespace() {
        range.end -= 1;
    }
    range
}

/// The map's file, as it was read.
pub struct MapFile(ReplaceableFile);

impl Deref for MapFile {
    type Target = ReplaceableFile;

    fn deref(&self) -> &ReplaceableFile {
        &self.0
    }
}

impl MapFile {
    /// Reads the file.
    pub fn read(path: &Path, command: Option<&[String]>) -> Result<MapFile> {
        ReplaceableFile::read(path, command).map(MapFile)
    }

    /// The entry of `key` and its value.
    pub fn entry(&self, key: &str) -> Result<(Entry, String)> {
        let wrong = |message: String, hint: String| Error::Router {
            action: format!("find \"{key}\" in {}", self.path().display()),
            message,
            hint,
        };
        let entry = find_entry(self.0.text(), key)
            .map_err(|message| wrong(message, "Leave one of them, then reload HAProxy.".into()))?;
        let Some(entry) = entry else {
            let hint = format!(
                "Add a line: {key}, a space, and the backend of the side that serves. Then reload HAProxy."
            );
            return Err(wrong("it has no line for that key".into(), hint));
        };
        let value = String::from_utf8_lossy(&self.0.text()[entry.value.clone()]).into_owned();
        Ok((entry, value))
    }

    /// The text with another value for an entry and nothing else.
    pub fn with_value(&self, entry: &Entry, value: &str) -> Vec<u8> {
        let text = self.0.text();
        [&text[..entry.value.start], value.as_bytes(), &text[entry.value.end..]].concat()
    }
}

impl From<ReplaceableFile> for MapFile {
    fn from(file: ReplaceableFile) -> Self {
        MapFile(file)
    }
}

#[cfg(test)]
mod tests {
    use super::{MapFile, find_entry};

    #[test]
    fn a_key_is_found_as_haproxy_reads_the_file() {
        let text = b"# general  nobody\n\n  general\t source  \r\ngeneral_web http source\n";
        let entry = find_entry(text, "general").expect("once").expect("there");
        assert_eq!((entry.line, &text[entry.value]), (3, b"source".as_slice()));
        let entry = find_entry(text, "general_web").expect("once").expect("there");
        assert_eq!((entry.line, &text[entry.value]), (4, b"http source".as_slice()));
        assert_eq!(find_entry(text, "gen").expect("once"), None);
        assert_eq!(find_entry(b"general", "general").expect("once").expect("there").value, 7..7);
        let twice = find_entry(b"general a\ngeneral b\n", "general").expect_err("twice");
        assert_eq!(twice, "\"general\" stands twice, in lines 1 and 2");
    }

    #[test]
    fn a_value_is_replaced_and_every_other_byte_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("general.map");
        let text = "# who serves\r\nother  x\r\n general \t source \r\nlast y";
        std::fs::write(&path, text).expect("it can be written");
        let write = |value: &str| {
            let file = MapFile::read(&path, None).expect("it can be read");
            let (entry, _) = file.entry("general").expect("the key is there");
            file.replace(&file.with_value(&entry, value), None).expect("it can be replaced");
            std::fs::read_to_string(&path).expect("it can be read")
        };
        assert_eq!(write("target"), text.replace("source", "target"));
        assert_eq!(write("source"), text);
    }
}
