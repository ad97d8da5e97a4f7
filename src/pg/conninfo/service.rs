//! The service file (`pg_service.conf`): named sets of connection options.

use super::surroundings::Surroundings;
use super::text::Pairs;
use crate::error::{Error, Result};

/// Where Debian's libpq looks when `PGSYSCONFDIR` is not set.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// The options of `service`: from the user's file, or else from the system's. `given` is the option `servicefile`.
pub(super) fn read(surroundings: &Surroundings, service: &str, given: Option<&str>) -> Result<Pairs> {
    let named = given.map(str::to_owned).or_else(|| surroundings.variable("PGSERVICEFILE"));
    if let Some(file) = &named
        && !surroundings.exists(file)
    {
        return Err(Error::Usage {
            message: format!("service file \"{file}\" does not exist"),
            hint: "Correct PGSERVICEFILE, or leave it unset.".into(),
        });
    }
    let directory = surroundings.variable("PGSYSCONFDIR").unwrap_or_else(|| SYSTEM_DIRECTORY.into());
    let own = named.or_else(|| surroundings.in_home(".pg_service.conf"));
    let files = [own, Some(format!("{directory}/pg_service.conf"))];
    for file in files.iter().flatten().filter(|file| surroundings.exists(file)) {
        let bytes = surroundings.read(file).map_err(Error::io(format!("read service file \"{file}\"")))?;
        if let Some(pairs) = find(&String::from_utf8_lossy(&bytes), service, file)? {
            return Ok(pairs);
        }
    }
    let looked: Vec<String> = files.iter().flatten().map(|file| format!("\"{file}\"")).collect();
    Err(Error::Usage {
        message: format!("definition of service \"{service}\" not found"),
        hint: format!("Put a section [{service}] into {}.", looked.join(" or ")),
    })
}

/// The section of `service`, if the text has one. Of an option that stands twice, the first counts.
fn find(text: &str, service: &str, file: &str) -> Result<Option<Pairs>> {
    let mut found: Option<Pairs> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            if found.is_some() {
                break;
            }
            if line.strip_prefix('[').and_then(|name| name.strip_prefix(service)) == Some("]") {
                found = Some(Pairs::new());
            }
            continue;
        }
        let Some(pairs) = &mut found else { continue };
        let wrong = |message: &str, hint: &str| Error::Config {
            file: file.to_owned(),
            line: Some(index + 1),
            more: Vec::new(),
            message: message.into(),
            hint: hint.into(),
        };
        let Some((key, value)) = line.split_once('=') else {
            return Err(wrong(
                "an option of a service lacks its \"=\"",
                "Write key=value, without spaces around \"=\".",
            ));
        };
        if key == "service" || key == "servicefile" {
            return Err(wrong(
                "a service names another service",
                "Write the other service's options here instead.",
            ));
        }
        if !pairs.iter().any(|(known, _)| known == key) {
            pairs.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# comment\nhost=outside\n[shopping]\nhost=wrong\n\n  [shop]\nhost=db1\n port=5433\r\n\
                        # password=commented\npassword=a=b c\nhost=second\n[other]\nhost\n[deep]\nservice=shop\n";

    #[test]
    fn reads_the_section_and_nothing_else() {
        let pairs = find(TEXT, "shop", "f").unwrap().unwrap();
        let expected = [("host", "db1"), ("port", "5433"), ("password", "a=b c")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(find(TEXT, "sho", "f").unwrap(), None);
        assert_eq!(find(TEXT, "absent", "f").unwrap(), None);
        assert_eq!(
            find(TEXT, "other", "f").unwrap_err().to_string(),
            "f:13: an option of a service lacks its \"=\""
        );
        assert_eq!(find(TEXT, "deep", "f").unwrap_err().to_string(), "f:15: a service names another service");
    }
}
