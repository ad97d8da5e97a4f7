//! The `pg_dump` program: which one, and a run of it that can be stopped.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result, ServerError};
use crate::pg::Server;

/// Folder to look for `pg_dump` in, before and instead of all others.
pub const FOLDER_VARIABLE: &str = "PGDETOUR_PG_BIN";

/// How long `pg_dump` waits for a table's lock.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Settings of a database or a role on which `pg_dump`'s words depend and that it leaves as they are: what they are in our
/// sessions, which run those words. Given last, so that they hold whatever the connection string has.
const PINNED: &str =
    "-c standard_conforming_strings=on -c quote_all_identifiers=off -c lc_monetary=C -c bytea_output=hex";

/// The oldest `pg_dump` here that is of `major` or newer: a server is dumped by its own major or a later one.
pub fn find_pg_dump(major: i32) -> Result<PathBuf> {
    let mut found = Vec::new();
    for (version, path) in list_pg_dumps() {
        // No other can fit better, and asking each takes its time: Debian's in the PATH are scripts.
        if version == major {
            return Ok(path);
        }
        found.push((version, path));
    }
    let fitting = found.iter().filter(|(version, _)| *version >= major).min_by_key(|(version, _)| *version);
    if let Some((_, path)) = fitting {
        return Ok(path.clone());
    }
    let newest = found.iter().max_by_key(|(version, _)| *version);
    Err(Error::Refused {
        kind: "pg_dump_missing",
        message: format!("no pg_dump of major version {major} or newer was found"),
        detail: newest.map(|(version, path)| format!("The newest is {} of {version}.", path.display())),
        hint: format!(
            "Run \"apt install postgresql-client-{major}\", or set {FOLDER_VARIABLE} to the folder of such a pg_dump."
        ),
    })
}

/// Every `pg_dump` here with its major version, which it is asked for, in the order in which the folders are searched.
fn list_pg_dumps() -> impl Iterator<Item = (i32, PathBuf)> {
    let folders = match std::env::var_os(FOLDER_VARIABLE) {
        Some(folder) => vec![PathBuf::from(folder)],
        None => list_folders(),
    };
    let programs = folders.into_iter().map(|folder| folder.join("pg_dump"));
    programs.filter_map(|path| Some((read_major(&path)?, path)))
}

fn list_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    // Packages of Debian first: pg_dump in its PATH is a wrapper that chooses a version by its own rules.
    for (parent, prefix, rest) in [("/usr/lib/postgresql", "", "bin"), ("/usr", "pgsql-", "bin")] {
        let Ok(children) = std::fs::read_dir(parent) else { continue };
        let names = children.flatten().map(|child| child.file_name());
        let mut names: Vec<_> =
            names.filter(|name| name.to_str().is_some_and(|name| name.starts_with(prefix))).collect();
        names.sort();
        folders.extend(names.into_iter().map(|name| Path::new(parent).join(name).join(rest)));
    }
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    folders
}

/// Those that were asked before by this process: the checks ask, and then what they have checked is done.
static MAJORS: Mutex<BTreeMap<PathBuf, i32>> = Mutex::new(BTreeMap::new());

fn read_major(program: &Path) -> Option<i32> {
    if !program.is_file() {
        return None;
    }
    let mut majors = MAJORS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(major) = majors.get(program) {
        return Some(*major);
    }
    let output = Command::new(program).arg("--version").output().ok()?;
    let major = parse_major(&String::from_utf8(output.stdout).ok()?)?;
    majors.insert(program.to_owned(), major);
    Some(major)
}

/// 15 of `pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)`.
fn parse_major(version: &str) -> Option<i32> {
    let number = version.split(' ').nth(2)?;
    let digits = number.trim().split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Dumps the schema of `publisher`, as a script in UTF-8. Ends early when `stop` is set.
pub fn run_pg_dump(
    program: &Path,
    publisher: &Server,
    options: &[String],
    stop: &AtomicBool,
) -> Result<String> {
    let mut command = Command::new(program);
    command
        .args(["--schema-only", "--encoding=UTF8", "--no-password", "--exclude-schema=pgdetour"])
        .args(["--no-publications", "--no-subscriptions"])
        .arg(format!("--lock-wait-timeout={}", LOCK_WAIT.as_millis()))
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    publisher.conninfo.set_environment(&mut command, &publisher.application_name)?;
    let given = publisher.conninfo.options().unwrap_or_default();
    command.env("PGOPTIONS", format!("{given} {PINNED}"));
    let starting = Error::io(format!("start {}", program.display()));
    let mut child = command.spawn().map_err(starting)?;
    let output = read_to_end(child.stdout.take());
    let messages = read_to_end(child.stderr.take());
    let status = wait(&mut child, stop)?;
    let collect = |reader: thread::JoinHandle<Vec<u8>>| {
        reader.join().map_err(|_| Error::Internal { message: "a reader of pg_dump's output died".into() })
    };
    let (script, messages) = (collect(output)?, collect(messages)?);
    if !status {
        return Err(failure(publisher, &String::from_utf8_lossy(&messages)));
    }
    String::from_utf8(script).map_err(|_| Error::Refused {
        kind: "encoding",
        message: format!("the schema of {} holds bytes that are not UTF-8", publisher.place),
        detail: None,
        hint: "Rename the objects, or correct the defaults and comments, that hold them.".into(),
    })
}

fn read_to_end(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // A pipe that breaks ends the text; the exit status tells why.
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Whether it ended well.
fn wait(child: &mut Child, stop: &AtomicBool) -> Result<bool> {
    loop {
        if let Some(status) = child.try_wait().map_err(Error::io("wait for pg_dump"))? {
            return Ok(status.success());
        }
        if stop.load(Ordering::Relaxed) {
            child.kill().map_err(Error::io("end pg_dump"))?;
            child.wait().map_err(Error::io("wait for pg_dump"))?;
            return Err(stopped());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The failure of work that was asked to stop; who asked says what to report instead.
pub fn stopped() -> Error {
    Error::Interrupted { signal: 15 }
}

/// `pg_dump`'s own message, without its name and with its details apart.
fn failure(publisher: &Server, messages: &str) -> Error {
    let mut lines = messages.lines().map(|line| {
        let line = line.strip_prefix("pg_dump: ").unwrap_or(line);
        line.strip_prefix("error: ").unwrap_or(line)
    });
    let message = lines.next().unwrap_or("pg_dump ended without a message").to_owned();
    let detail: Vec<&str> = lines.collect();
    let detail = (!detail.is_empty()).then(|| detail.join("\n"));
    Error::Sql {
        action: "dump the schema".into(),
        on: publisher.place.name().into(),
        cause: ServerError { message, detail, ..ServerError::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::parse_major;

    #[test]
    fn the_major_is_read_from_releases_and_betas() {
        assert_eq!(parse_major("pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("pg_dump (PostgreSQL) 18beta2\n"), Some(18));
        assert_eq!(parse_major("pg_dump (PostgreSQL) 17.10\n"), Some(17));
        assert_eq!(parse_major("nonsense"), None);
    }
}
