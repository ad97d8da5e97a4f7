//! Reads a TOML document section by section and gathers every mistake with its line and the nearest known key.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// 1-based line.
    pub line: usize,
    /// Key with its section: `router.kind`.
    pub key: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What would be right: whole sentences.
    pub hint: String,
}

/// The text of the file and what was found wrong in it so far.
pub struct Reader<'t> {
    text: &'t str,
    mistakes: RefCell<Vec<Mistake>>,
}

impl<'t> Reader<'t> {
    /// A reader of `text`.
    pub fn new(text: &'t str) -> Self {
        Reader { text, mistakes: RefCell::default() }
    }

    /// The whole document, unless it is not TOML.
    pub fn parse(&self) -> Option<Spanned<DeTable<'t>>> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            return Some(document);
        }
        for error in errors {
            let span = error.span().unwrap_or_default();
            let message = format!("not valid TOML: {}", error.message().replace('\n', ", "));
            self.add(&span, String::new(), message, "See https://toml.io for the syntax.".into());
        }
        None
    }

    /// Everything found wrong, in the order of the file.
    pub fn into_mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort_by_key(|mistake| mistake.line);
        mistakes
    }

    fn add(&self, span: &Range<usize>, key: String, message: String, hint: String) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        self.mistakes.borrow_mut().push(Mistake { line, key, message, hint });
    }
}

/// One table of the document. Keys that were asked for are the known ones; `end` reports all others.
pub struct Section<'r, 't> {
    reader: &'r Reader<'t>,
    table: &'r DeTable<'t>,
    span: Range<usize>,
    path: String,
    known: RefCell<Vec<&'static str>>,
}

impl<'r, 't> Section<'r, 't> {
    /// The document itself.
    pub fn root(reader: &'r Reader<'t>, document: &'r Spanned<DeTable<'t>>) -> Self {
        Section {
            reader,
            table: document.get_ref(),
            span: 0..0,
            path: String::new(),
            known: RefCell::default(),
        }
    }

    /// A string.
    pub fn text(&self, key: &'static str) -> Option<String> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            other => self.wrong_type(key, value, other, "a string"),
        }
    }

    /// A string that something can be read from; `read` says in words what is wrong with it, and what would be right.
    pub fn parsed<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, (String, String)>,
    ) -> Option<T> {
        let text = self.text(key)?;
        read(&text).map_err(|(message, hint)| self.mistake(key, message, hint)).ok()
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        self.one_of(key, &text, words)
    }

    /// An array of strings.
    pub fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let value = self.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong_type(key, value, value.get_ref(), "an array of strings");
        };
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => texts.push(text.to_string()),
                other => return self.wrong_type(key, item, other, "a string in the array"),
            }
        }
        Some(texts)
    }

    /// A whole number within `range`.
    pub fn number(&self, key: &'static str, range: RangeInclusive<usize>) -> Option<usize> {
        let value = self.get(key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong_type(key, value, value.get_ref(), "a whole number");
        };
        let number = usize::from_str_radix(number.as_str(), number.radix()).ok();
        let fitting = number.filter(|number| range.contains(number));
        if fitting.is_none() {
            let hint = format!("Give a number from {} to {}.", range.start(), range.end());
            self.mistake(key, format!("{} is out of range", self.name_of(key)), hint);
        }
        fitting
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => self.wrong_type(key, value, other, "true or false"),
        }
    }

    /// A table of strings, in the order of the file.
    pub fn pairs(&self, key: &'static str) -> Option<Vec<(String, String)>> {
        let value = self.get(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            return self.wrong_type(key, value, value.get_ref(), "a table such as { name = \"expression\" }");
        };
        let mut pairs = Vec::new();
        for (name, value) in table {
            match value.get_ref() {
                DeValue::String(text) => {
                    pairs.push((name.span().start, (name.get_ref().to_string(), text.to_string())));
                }
                other => return self.wrong_type(key, value, other, "strings in the table"),
            }
        }
        pairs.sort_by_key(|(start, _)| *start);
        Some(pairs.into_iter().map(|(_, pair)| pair).collect())
    }

    /// A table within this one.
    pub fn section(&self, key: &'static str) -> Option<Section<'r, 't>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(self.inner(key, table, value.span())),
            other => self.wrong_type(key, value, other, &format!("a table, [{}]", self.name_of(key))),
        }
    }

    /// An array of tables within this one.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'r, 't>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let expected = format!("tables, each begun by [[{}]]", self.name_of(key));
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type::<()>(key, value, value.get_ref(), &expected);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(self.inner(key, table, item.span())),
                other => {
                    self.wrong_type::<()>(key, item, other, &expected);
                }
            }
        }
        sections
    }

    /// Whether the key is there, which makes it a known one.
    pub fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// A value that must be there; `None` when it was not, or was wrong, which has been noted.
    pub fn required<T>(&self, key: &'static str, value: Option<T>, hint: &str) -> Option<T> {
        if value.is_none() && self.table.get(key).is_none() {
            self.mistake(key, format!("{} is missing", self.name_of(key)), hint);
        }
        value
    }

    /// Notes a mistake at `key`, or at the section's beginning when it has no such key.
    pub fn mistake(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        let span = self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        self.reader.add(&span, self.name_of(key), message.into(), hint.into());
    }

    /// Reports the keys that nobody asked for.
    pub fn end(&self) {
        let known = self.known.borrow();
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let hint = match nearest(name, &known) {
                Some(near) => format!("Did you mean \"{near}\"?"),
                None => format!("Known here: {}.", known.join(", ")),
            };
            let whole = self.name_of(name);
            self.reader.add(&key.span(), whole.clone(), format!("unknown key \"{whole}\""), hint);
        }
    }

    /// `section.key`.
    pub fn name_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    fn get(&self, key: &'static str) -> Option<&'r Spanned<DeValue<'t>>> {
        self.known.borrow_mut().push(key);
        self.table.get(key)
    }

    fn inner(&self, key: &str, table: &'r DeTable<'t>, span: Range<usize>) -> Section<'r, 't> {
        Section { reader: self.reader, table, span, path: self.name_of(key), known: RefCell::default() }
    }

    /// Which of a few words a text at `key` is; another one is noted as a mistake.
    pub fn one_of<T: Copy>(&self, key: &'static str, text: &str, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let listed: Vec<String> = known.iter().map(|word| format!("\"{word}\"")).collect();
            let meant = nearest(text, &known);
            let hint = meant.map_or_else(String::new, |near| format!(" Did you mean \"{near}\"?"));
            let message = format!("{} cannot be \"{text}\"", self.name_of(key));
            self.mistake(key, message, format!("It is one of {}.{hint}", listed.join(", ")));
        }
        found
    }

    /// Says which type was expected, and which came.
    fn wrong_type<T>(
        &self,
        key: &str,
        at: &Spanned<DeValue<'t>>,
        found: &DeValue<'t>,
        expected: &str,
    ) -> Option<T> {
        let name = self.name_of(key);
        let message = format!("{name} is of type {}", found.type_str());
        self.reader.add(&at.span(), name, message, format!("Expected is {expected}."));
        None
    }
}

/// The known word that was most likely meant.
fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let best = known.iter().map(|near| (strsim::damerau_levenshtein(word, near), *near)).min()?;
    (best.0 <= 1 + best.1.len() / 3).then_some(best.1)
}
