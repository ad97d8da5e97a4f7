//! The passfile (`~/.pgpass`): passwords by host, port, database and role.

use std::os::unix::fs::MetadataExt as _;

use super::surroundings::Surroundings;

/// Its lines, or a warning when it has to be ignored. A file that does not exist has none.
pub(super) fn read(surroundings: &Surroundings, path: &str) -> Result<Vec<String>, String> {
    let Ok(metadata) = std::fs::metadata(surroundings.locate(path)) else { return Ok(Vec::new()) };
    if !metadata.is_file() {
        return Err(format!("password file \"{path}\" is not a plain file, and is ignored"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!(
            "password file \"{path}\" has group or world access, and is ignored: permissions should be u=rw (0600) \
             or less"
        ));
    }
    match surroundings.read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()),
        Err(error) => Err(format!("password file \"{path}\" cannot be read, and is ignored: {error}")),
    }
}

/// The password of the first line that fits; none when that one is empty.
pub(super) fn find(lines: &[String], host: &str, port: &str, dbname: &str, user: &str) -> Option<String> {
    let mut lines = lines.iter().filter(|line| !line.starts_with('#'));
    let password = lines.find_map(|line| {
        let mut rest = line.as_str();
        for wanted in [host, port, dbname, user] {
            rest = matching(rest, wanted)?;
        }
        Some(unescape(rest))
    })?;
    Some(password).filter(|password| !password.is_empty())
}

/// What follows the field, when the field is `wanted` or `*`.
fn matching<'a>(line: &'a str, wanted: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let mut characters = line.char_indices();
    let mut expected = wanted.chars();
    loop {
        let (at, character) = characters.next()?;
        match character {
            ':' => return expected.next().is_none().then(|| &line[at + 1..]),
            '\\' => {
                let (_, escaped) = characters.next()?;
                if expected.next() != Some(escaped) {
                    return None;
                }
            }
            plain if expected.next() == Some(plain) => {}
            _ => return None,
        }
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.push(characters.next().unwrap_or('\\')),
            // Further fields, if there ever are any, are none of the password.
            ':' => break,
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let lines: Vec<String> = [
            "# db1:5432:shop:dba:commented",
            "db1:5432:shop:dba:one",
            "db1:*:shop:dba:two",
            "::1:5432:*:*:never",
            "\\:\\:1:5432:*:*:three",
            "*:*:back\\\\slash:*:fo\\:ur\\\\",
            "/run/pg:5432:*:dba:five",
            "*:*:*:robot:",
            "*:*:*:robot:six",
            "no colons",
        ]
        .map(str::to_owned)
        .to_vec();
        let find = |host, port, dbname, user| find(&lines, host, port, dbname, user);
        assert_eq!(find("db1", "5432", "shop", "dba").as_deref(), Some("one"));
        assert_eq!(find("db1", "5433", "shop", "dba").as_deref(), Some("two"));
        assert_eq!(find("db", "5432", "shop", "dba"), None);
        assert_eq!(find("db12", "5432", "shop", "dba"), None);
        assert_eq!(find("::1", "5432", "any", "any").as_deref(), Some("three"));
        assert_eq!(find("x", "1", "back\\slash", "any").as_deref(), Some("fo:ur\\"));
        assert_eq!(find("/run/pg", "5432", "any", "dba").as_deref(), Some("five"));
        assert_eq!(find("x", "1", "any", "robot").as_deref(), None);
        assert_eq!(find("x", "1", "any", "dba"), None);
    }
}
