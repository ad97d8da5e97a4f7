//! HAProxy's runtime API: one command a connection, each with a deadline.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Error, Result, ServerError};

/// How long one command may take.
const ANSWER: Duration = Duration::from_secs(5);

/// A server or the sum of a backend, as `show stat` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Name of the backend.
    pub backend: String,
    /// Name of the server; None for the backend's sum.
    pub server: Option<String>,
    /// Sessions in TCP mode, requests in HTTP mode.
    pub current: u64,
    /// `UP`, `DOWN`, `no check` and others.
    pub status: String,
    /// HTTP mode, where every request is sent anew.
    pub is_http: bool,
}

/// The runtime API of one process.
#[derive(Debug, Clone)]
pub struct Runtime {
    name: String,
    address: String,
}

impl Runtime {
    /// Connects to nothing yet. `address` is a path, or host:port; `name` is for messages.
    pub fn new(name: &str, address: &str) -> Runtime {
        Runtime { name: name.to_owned(), address: address.to_owned() }
    }

    /// What a command answers, without the empty line at its end.
    pub fn ask(&self, command: &str) -> Result<String> {
        let answer = self.exchange(command, Instant::now() + ANSWER).map_err(|error| {
            let said = match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("no answer within {}", crate::error::human(ANSWER))
                }
                _ => error.to_string(),
            };
            Error::Unreachable { what: self.name.clone(), cause: ServerError::lost(said) }
        })?;
        Ok(answer.trim_end().to_owned())
    }

    /// A command that answers nothing when it succeeds.
    pub fn act(&self, command: &str) -> Result<()> {
        match self.ask(command)? {
            answer if answer.is_empty() => Ok(()),
            answer => Err(self.refused(command, &answer)),
        }
    }

    /// The error of a command that HAProxy did not carry out.
    pub fn refused(&self, command: &str, answer: &str) -> Error {
        let hint = if answer.contains("ermission denied") {
            "Give the socket in HAProxy's configuration \"level admin\", then reload it."
        } else {
            "See HAProxy's configuration, and that map, key, source and target are named as in it."
        };
        Error::Router {
            action: format!("run {command} on {}", self.name),
            message: answer.lines().next().unwrap_or("no answer").trim_end_matches('.').to_owned(),
            hint: hint.into(),
        }
    }

    /// The entries of a map, or the keys of an ACL, as the process uses them now.
    pub fn list(&self, kind: &str, name: &str) -> Result<Vec<(String, String)>> {
        let command = format!("show {kind} {name}");
        let answer = self.ask(&command)?;
        read_entries(&answer).ok_or_else(|| self.refused(&command, &answer))
    }

    /// Every backend and its servers.
    pub fn stats(&self) -> Result<Vec<Stat>> {
        let answer = self.ask("show stat")?;
        read_stats(&answer).ok_or_else(|| self.refused("show stat", &answer))
    }

    /// The weight of `backend/server` that counts now.
    pub fn weight(&self, server: &str) -> Result<u16> {
        let command = format!("get weight {server}");
        let answer = self.ask(&command)?;
        let weight = answer.split_whitespace().next().and_then(|word| word.parse().ok());
        weight.ok_or_else(|| self.refused(&command, &answer))
    }

    fn exchange(&self, command: &str, deadline: Instant) -> io::Result<String> {
        if self.address.contains('/') {
            let stream = connect_unix(&self.address)?;
            stream.set_write_timeout(Some(ANSWER))?;
            return converse(stream, command, |stream| stream.set_read_timeout(Some(left(deadline)?)));
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => {
                    stream.set_write_timeout(Some(ANSWER))?;
                    return converse(stream, command, |stream| {
                        stream.set_read_timeout(Some(left(deadline)?))
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Fails at once when the socket's queue is full, as with a process that is stopped, where connecting would wait.
fn connect_unix(path: &str) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// HAProxy closes the connection behind its answer.
fn converse<S: Read + Write>(
    mut stream: S,
    command: &str,
    limit: impl Fn(&S) -> io::Result<()>,
) -> io::Result<String> {
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        limit(&stream)?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(String::from_utf8_lossy(&answer).into_owned()),
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Lines of an address in memory, a key and perhaps a value; None when there is anything else.
fn read_entries(answer: &str) -> Option<Vec<(String, String)>> {
    let lines = answer.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (_, rest) = line.strip_prefix("0x")?.split_once(' ')?;
            let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
            Some((key.to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// CSV with a header; columns come and go between versions. None when it is not that.
fn read_stats(answer: &str) -> Option<Vec<Stat>> {
    let mut lines = answer.lines().filter(|line| !line.is_empty());
    let header: Vec<&str> = lines.next()?.strip_prefix("# ")?.split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (backend, server, current) = (column("pxname")?, column("svname")?, column("scur")?);
    let (status, mode, kind) = (column("status")?, column("mode")?, column("type")?);
    let mut found = Vec::new();
    for line in lines {
        let fields = split_csv(line);
        let field = |at: usize| fields.get(at).map(String::as_str).unwrap_or_default();
        // 0 is a frontend, 3 a listener.
        if matches!(field(kind), "1" | "2") {
            found.push(Stat {
                backend: field(backend).to_owned(),
                server: (field(kind) == "2").then(|| field(server).to_owned()),
                current: field(current).parse().unwrap_or(0),
                status: field(status).to_owned(),
                is_http: field(mode) == "http",
            });
        }
    }
    Some(found)
}

fn split_csv(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    for character in line.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            other => fields.last_mut().expect("it begins with one field").push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::{Stat, read_entries, read_stats};

    #[test]
    fn entries_are_read_and_a_refusal_is_none() {
        let entries = read_entries("0x55cd general source\n0x55ce other x y\n0x55cf 10.9.0.0/16\n");
        let expected = [("general", "source"), ("other", "x y"), ("10.9.0.0/16", "")];
        assert_eq!(entries.expect("entries"), expected.map(|(key, value)| (key.into(), value.into())));
        assert_eq!(read_entries(""), Some(Vec::new()));
        assert_eq!(read_entries("Unknown map identifier. Please use #<id> or <file>.\n"), None);
        assert_eq!(read_entries("Permission denied\n"), None);
    }

    #[test]
    fn backends_and_servers_are_read_by_the_names_of_the_columns() {
        let answer = "# pxname,svname,scur,status,last_chk,type,mode,\nfront,FRONTEND,4,OPEN,,0,tcp,\n\
                      source,db1,3,UP,\"Layer4 check, passed\",2,tcp,\nsource,BACKEND,3,UP,,1,tcp,\n\
                      web,BACKEND,,DOWN,,1,http,\n";
        let stat = |backend: &str, server: Option<&str>, current, status: &str, is_http| Stat {
            backend: backend.into(),
            server: server.map(str::to_owned),
            current,
            status: status.into(),
            is_http,
        };
        assert_eq!(
            read_stats(answer).expect("statistics"),
            [
                stat("source", Some("db1"), 3, "UP", false),
                stat("source", None, 3, "UP", false),
                stat("web", None, 0, "DOWN", true)
            ]
        );
        assert_eq!(read_stats("Permission denied\n"), None);
    }
}
