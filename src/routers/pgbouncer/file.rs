//! PgBouncer's configuration file: finding one database's entry, reading it, and writing another in its place.

use std::ffi::OsStr;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use crate::config::entry::{pairs, value_of};
use crate::error::{Error, Result};
use crate::routers::replaceable_file::ReplaceableFile;

/// Start of the comment in which an original value is kept that must not leave the file, since it holds a password.
const KEPT: &[u8] = b";pgdetour ";

/// Start of the comment above what stands in the file for the time of a proof.
const PROOF: &[u8] = b";pgdetour-proof ";

/// Keys of a connection string that some PgBouncer from 1.18 on knows; any other makes it reject the whole file.
const KEYS: &[&str] = &[
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "auth_user",
    "auth_dbname",
    "auth_query",
    "client_encoding",
    "datestyle",
    "timezone",
    "application_name",
    "connect_query",
    "pool_mode",
    "pool_size",
    "min_pool_size",
    "reserve_pool",
    "reserve_pool_size",
    "max_db_connections",
    "max_db_client_connections",
    "server_lifetime",
    "query_wait_timeout",
    "load_balance_hosts",
];

/// Where an entry leads: what `SHOW DATABASES` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Absent for the server's Unix socket in the default directory.
    pub host: Option<String>,
    /// TCP port, 5432 unless the entry names one.
    pub port: String,
    /// Database on the server.
    pub dbname: String,
    /// The role that all clients share on the server; absent when each uses its own.
    pub user: Option<String>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.host.as_deref().unwrap_or("(socket)");
        write!(f, "host={host} port={} dbname={}", self.port, self.dbname)?;
        self.user.iter().try_for_each(|user| write!(f, " user={user}"))
    }
}

/// The entry of one database in a file's text. Positions are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 1-based.
    pub line: usize,
    /// From the name's first character to the value's last.
    whole: Range<usize>,
    /// The value, without the space around it.
    value: Range<usize>,
}

/// What stands in a text between whitespace: as PgBouncer's own reader sees it.
pub enum Item<'a> {
    Include(&'a [u8]),
    Section(&'a [u8]),
    Setting { name: &'a [u8], whole: Range<usize>, value: Range<usize> },
}

/// Reads the text as PgBouncer does: no escapes, no continued lines, comments only where a line begins.
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// From the beginning.
    pub fn new(text: &'a [u8]) -> Self {
        // PgBouncer reads up to the first NUL.
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        Reader { text: &text[..end], at: 0 }
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) -> Range<usize> {
        let begin = self.at;
        while self.text.get(self.at).is_some_and(|byte| wanted(*byte)) {
            self.at += 1;
        }
        begin..self.at
    }

    /// To the end of the line; the range leaves out the space before it.
    fn rest_of_line(&mut self) -> Range<usize> {
        self.skip(is_blank);
        let mut range = self.skip(|byte| byte != b'\n');
        while range.end > range.start && is_space(self.text[range.end - 1]) {
            range.end -= 1;
        }
        range
    }

    /// What comes next; an error says what PgBouncer would reject.
    pub fn next(&mut self) -> Result<Option<Item<'a>>, String> {
        loop {
            self.skip(is_space);
            let rest = &self.text[self.at..];
            match rest {
                [] => return Ok(None),
                [b'#' | b';', ..] => {
                    self.skip(|byte| byte != b'\n');
                }
                [b'%', b'i', b'n', b'c', b'l', b'u', b'd', b'e', blank, ..] if is_blank(*blank) => {
                    self.at += 8;
                    let name = self.rest_of_line();
                    return Ok(Some(Item::Include(&self.text[name])));
                }
                [b'[', ..] => {
                    self.at += 1;
                    let name = self.skip(|byte| byte != b']' && byte != b'\n');
                    if self.text.get(self.at) != Some(&b']') {
                        return Err(format!(
                            "section without \"]\" in line {}",
                            line_of(self.text, name.start)
                        ));
                    }
                    self.at += 1;
                    return Ok(Some(Item::Section(&self.text[name])));
                }
                _ => return self.setting().map(Some),
            }
        }
    }

    fn setting(&mut self) -> Result<Item<'a>, String> {
        let begin = self.at;
        let wrong = |what: &str| Err(format!("{what} in line {}", line_of(self.text, begin)));
        let name = if self.text[begin] == b'\'' {
            self.at += 1;
            let name = self.skip(|byte| byte != b'\'');
            if self.text.get(self.at) != Some(&b'\'') || name.is_empty() {
                return wrong("name without closing quote");
            }
            self.at += 1;
            name
        } else {
            self.skip(|byte| byte.is_ascii_alphanumeric() || b"_.-*".contains(&byte))
        };
        self.skip(is_blank);
        if self.text.get(self.at) != Some(&b'=') {
            return wrong("setting without \"=\"");
        }
        self.at += 1;
        let value = self.rest_of_line();
        Ok(Item::Setting { name: &self.text[name], whole: begin..value.end, value })
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The line of a position, 1-based.
pub fn line_of(text: &[u8], at: usize) -> usize {
    text[..at].split(|byte| *byte == b'\n').count()
}

/// The entry of `database`: in `[databases]`, or before any section, as in a file that `[databases]` includes.
/// None when it is not there; an error when the text is malformed or names the database twice.
pub fn find_entry(text: &[u8], database: &str) -> Result<Option<Entry>, String> {
    let mut reader = Reader::new(text);
    let mut in_databases = true;
    let mut found: Option<Entry> = None;
    while let Some(item) = reader.next()? {
        match item {
            Item::Section(name) => in_databases = name == b"databases",
            Item::Setting { name, whole, value } if in_databases && name == database.as_bytes() => {
                let entry = Entry { line: line_of(text, whole.start), whole, value };
                if let Some(first) = &found {
                    return Err(format!(
                        "\"{database}\" stands twice, in lines {} and {}",
                        first.line, entry.line
                    ));
                }
                found = Some(entry);
            }
            Item::Setting { .. } | Item::Include(_) => {}
        }
    }
    Ok(found)
}

/// The files that a text includes, as it writes them.
pub fn list_includes(text: &[u8]) -> Vec<PathBuf> {
    let mut reader = Reader::new(text);
    let mut names = Vec::new();
    while let Ok(Some(item)) = reader.next() {
        if let Item::Include(name) = item {
            names.push(path_of(name));
        }
    }
    names
}

/// A file's name as a text writes it.
pub fn path_of(name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(OsStr::from_bytes(name))
}

/// Where an entry's value leads, for the entry `database`; an error says what PgBouncer would reject.
pub fn place_of(database: &str, value: &str) -> Result<Place, String> {
    let mut place = Place { host: None, port: "5432".into(), dbname: database.to_owned(), user: None };
    if value.contains(['\n', '\r', '\0']) {
        return Err("more than one line".into());
    }
    for (key, text, _) in pairs(value)? {
        match key.as_str() {
            "host" => place.host = Some(text),
            "port" => match text.parse::<u16>() {
                Ok(port) if port > 0 => place.port = port.to_string(),
                _ => return Err(format!("port \"{text}\"")),
            },
            "dbname" => place.dbname = text,
            "user" => place.user = Some(text),
            key if KEYS.contains(&key) => {}
            key => return Err(format!("\"{key}\", which is not a key of an entry")),
        }
    }
    Ok(place)
}

/// A key of an entry's value that no PgBouncer known here knows.
pub fn unknown_key(value: &str) -> Option<String> {
    let keys = pairs(value).ok()?.into_iter().map(|(key, ..)| key);
    keys.into_iter().find(|key| !KEYS.contains(&key.as_str()))
}

/// Keys of one entry's value that another does not name, beside where they lead and as whom.
pub fn missing_keys(value: &str, other: &str) -> Vec<String> {
    let known = ["host", "port", "dbname", "user", "password"];
    let Ok(pairs) = pairs(value) else { return Vec::new() };
    let keys = pairs.into_iter().map(|(key, ..)| key);
    keys.filter(|key| !known.contains(&key.as_str()) && value_of(other, key).is_none()).collect()
}

/// Whether the value holds a password, or is too malformed to tell.
pub fn has_password(value: &str) -> bool {
    match pairs(value) {
        Ok(pairs) => pairs.iter().any(|(key, ..)| key == "password"),
        Err(_) => value.contains("password"),
    }
}

/// The value as people may see it.
pub fn hide_password(value: &str) -> String {
    let Ok(pairs) = pairs(value) else {
        return value
            .find("password")
            .map_or_else(|| value.to_owned(), |at| format!("{}password=***", &value[..at]));
    };
    let mut shown = value.to_owned();
    for (_, _, place) in pairs.into_iter().rev().filter(|(key, ..)| key == "password") {
        shown.replace_range(place, "***");
    }
    shown
}

/// What PgBouncer is to show for a moment, to prove that it reads the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// A database of nobody's, which leads nowhere: an entry above the one that counts. That it goes again proves that nothing
    /// behind is wrong either: PgBouncer drops what is gone only when it has read all.
    pub name: String,
    /// `max_db_connections` of the entry that counts: no other one of that name comes later.
    pub limit: u64,
}

impl Proof {
    fn above(&self) -> String {
        let Proof { name, limit } = self;
        let start = String::from_utf8_lossy(PROOF);
        format!("{start}{name} {limit}\n{name} = host=127.0.0.1 port=1\n")
    }

    fn behind(&self) -> String {
        format!(" max_db_connections={}", self.limit)
    }

    /// What a comment says that begins like one of ours.
    fn of(comment: &[u8]) -> Option<Proof> {
        let line = comment.strip_prefix(PROOF)?.split(|byte| *byte == b'\n').next()?;
        let (name, limit) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        Some(Proof { name: name.to_owned(), limit: limit.parse().ok()? })
    }
}

/// A text without the proof that stands with the entry of `database`; None when there is none.
fn without_proof(text: &[u8], database: &str) -> Option<Vec<u8>> {
    let entry = find_entry(text, database).ok()??;
    let (before, begin) = (&text[..entry.whole.start], entry.whole.start);
    let at = before.windows(PROOF.len()).rposition(|window| window == PROOF)?;
    let proof = Proof::of(&before[at..]).filter(|proof| before[at..] == *proof.above().as_bytes())?;
    let value = &text[begin..entry.value.end];
    let value = value.strip_suffix(proof.behind().as_bytes()).unwrap_or(value);
    Some([&text[..at], value, &text[entry.value.end..]].concat())
}

/// The file that holds an entry, as it was read.
pub struct DatabaseFile {
    file: ReplaceableFile,
    text: Vec<u8>,
    has_proof: bool,
}

impl Deref for DatabaseFile {
    type Target = ReplaceableFile;

    fn deref(&self) -> &ReplaceableFile {
        &self.file
    }
}

impl DatabaseFile {
    /// Reads the file for the entry of `database`.
    pub fn read(path: &Path, command: Option<&[String]>, database: &str) -> Result<DatabaseFile> {
        ReplaceableFile::read(path, command).map(|file| DatabaseFile::of(file, database))
    }

    /// The file for the entry of `database`.
    pub fn of(file: ReplaceableFile, database: &str) -> DatabaseFile {
        let without = without_proof(file.text(), database);
        let has_proof = without.is_some();
        let text = without.unwrap_or_else(|| file.text().to_owned());
        DatabaseFile { file, text, has_proof }
    }

    /// Its bytes, without what a proof has put there: whatever is written next is written without it.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether a proof stands in it, under way or cut short.
    pub fn has_proof(&self) -> bool {
        self.has_proof
    }

    /// The file's text with a proof that an entry is read.
    pub fn with_proof(&self, entry: &Entry, proof: &Proof) -> Vec<u8> {
        let (start, end) = (entry.whole.start, entry.value.end);
        let (above, behind) = (proof.above(), proof.behind());
        let text = self.text();
        [&text[..start], above.as_bytes(), &text[start..end], behind.as_bytes(), &text[end..]].concat()
    }

    /// The entry of `database` and its value.
    pub fn entry(&self, database: &str) -> Result<(Entry, String)> {
        let wrong = |message: String, hint: String| Error::Router {
            action: format!("find \"{database}\" in {}", self.path().display()),
            message,
            hint,
        };
        let entry = find_entry(self.text(), database).map_err(|message| {
            wrong(message, "Correct the file, then run RELOAD on PgBouncer's console.".into())
        })?;
        let Some(entry) = entry else {
            let includes: Vec<String> =
                list_includes(self.text()).iter().map(|path| path.display().to_string()).collect();
            let hint = if includes.is_empty() {
                "Give the database an entry of its own under [databases], or name the file that holds it as \"config\"."
                    .to_owned()
            } else {
                format!(
                    "Name the file that holds the entry as \"config\"; this one includes {}.",
                    includes.join(", ")
                )
            };
            return Err(wrong("it has no entry there".into(), hint));
        };
        let value = String::from_utf8(self.text()[entry.value.clone()].to_vec())
            .map_err(|_| wrong("the entry is not UTF-8".into(), "Write the entry in UTF-8.".into()))?;
        Ok((entry, value))
    }

    /// The file's text with another value for an entry and nothing else changed. `keep` leaves the present value
    /// behind in a comment above, for [`Self::with_kept_value`].
    pub fn with_value(&self, entry: &Entry, value: &str, keep: bool) -> Vec<u8> {
        let mut text = self.text()[..entry.whole.start].to_vec();
        if keep {
            text.extend_from_slice(KEPT);
            text.extend_from_slice(&self.text()[entry.whole.clone()]);
            text.push(b'\n');
        }
        text.extend_from_slice(&self.text()[entry.whole.start..entry.value.start]);
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(&self.text()[entry.value.end..]);
        text
    }

    /// The file's text with the value that a comment above the entry keeps, the comment gone; None without one.
    pub fn with_kept_value(&self, entry: &Entry) -> Option<Vec<u8>> {
        let (at, kept) = self.kept(entry)?;
        Some([&self.text()[..at], kept, &self.text()[entry.whole.end..]].concat())
    }

    /// The file's text with another value for an entry whose original is not wanted back: a comment that keeps it goes.
    pub fn with_moved_value(&self, entry: &Entry, value: &str) -> Vec<u8> {
        let text = self.text();
        let start = self.kept(entry).map_or(entry.whole.start, |(at, _)| at);
        let name = &text[entry.whole.start..entry.value.start];
        [&text[..start], name, value.as_bytes(), &text[entry.value.end..]].concat()
    }

    /// Where the comment above an entry begins that keeps its original, and the original.
    fn kept(&self, entry: &Entry) -> Option<(usize, &[u8])> {
        let before = self.text()[..entry.whole.start].strip_suffix(b"\n")?;
        let line = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let kept_at = line + before[line..].windows(KEPT.len()).position(|window| window == KEPT)?;
        let kept = &before[kept_at + KEPT.len()..];
        // The comment belongs to this entry if the same name and spacing follow.
        if !kept.starts_with(&self.text()[entry.whole.start..entry.value.start]) {
            return None;
        }
        Some((kept_at, kept))
    }
}

#[cfg(test)]
mod tests;
