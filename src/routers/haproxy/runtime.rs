//! HAProxy's runtime API: several commands in one round trip, with a deadline.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Error, Result, ServerError, human};
use crate::routers::patience::Patience;

/// Shows every backend and its servers.
pub const SHOW_STAT: &str = "show stat";
/// Shows, among much else, whether a reload has put another process in the place of this one.
pub const SHOW_INFO: &str = "show info";
/// It does.
pub const IS_REPLACED: &str = "Stopping: 1";

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
    /// A server whose agent is asked, which may set its weight.
    pub has_agent: bool,
    /// A server that answers its health check, and says no.
    pub is_refusing: bool,
}

/// Where clients come in, as `show stat` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// It takes clients.
    pub is_open: bool,
    /// HTTP mode.
    pub is_http: bool,
}

/// All that `show stat` tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// Backends and their servers.
    pub stats: Vec<Stat>,
    /// Frontends.
    pub frontends: Vec<Frontend>,
}

/// The runtime API of one process.
#[derive(Debug)]
pub struct Runtime {
    name: String,
    address: String,
    patience: Patience,
    /// The connection of before, while it is kept.
    line: Option<Line>,
    keeps_line: bool,
    /// Connections of before that lead to processes which a reload has replaced, and whose clients only they can reach.
    left: Vec<Line>,
    /// Nobody listened the last time that a connection was made.
    is_gone: bool,
}

/// A connection in which several commands may be given, as they are to a person who types.
#[derive(Debug)]
enum Line {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Begins a [`Line`], with two answers. HAProxy ends one that is idle for 10 s if not told otherwise.
const BEGIN: &str = "prompt\nset timeout cli 1h\n";
/// Ends each answer in it.
const PROMPT: &[u8] = b"\n> ";

impl Runtime {
    /// Connects to nothing yet. `address` is a path, or host:port; `name` is for messages.
    pub fn new(name: &str, address: &str) -> Runtime {
        Runtime {
            name: name.to_owned(),
            address: address.to_owned(),
            patience: Patience::default(),
            line: None,
            keeps_line: false,
            left: Vec::new(),
            is_gone: false,
        }
    }

    /// Whether nobody listened the last time: one that is slow, or keeps us out, is there.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Keeps one connection from now on, which saves a round trip each time; after a reload of HAProxy it leads to the process
    /// of before.
    pub fn keep_line(&mut self) {
        (self.line, self.keeps_line) = (None, true);
    }

    /// Connects anew the next time; the process at the other end of the connection of before can still be told something.
    pub fn leave_line(&mut self) {
        self.left.extend(self.line.take());
    }

    /// Makes a connection for each exchange again.
    pub fn give_line_up(&mut self) {
        (self.line, self.keeps_line) = (None, false);
        self.left.clear();
    }

    /// What each process of before answers. One that is gone has no clients, and is forgotten.
    pub fn ask_those_left(&mut self, command: &str) -> Vec<String> {
        let deadline = Instant::now() + self.patience.budget();
        let mut answers = Vec::new();
        self.left.retain_mut(|line| {
            let answer = line.exchange(&format!("{command}\n"), 1, deadline);
            answer.map(|mut answer| answers.append(&mut answer)).is_ok()
        });
        answers
    }

    /// What a command that may be run twice answers, without the empty line at its end.
    pub fn ask(&mut self, command: &str) -> Result<String> {
        self.ask_all(&[command]).map(|mut answers| answers.swap_remove(0))
    }

    /// What each of several answers, one after the other, in one round trip.
    pub fn ask_all(&mut self, commands: &[impl AsRef<str>]) -> Result<Vec<String>> {
        let budget = self.patience.budget();
        let deadline = Instant::now() + budget;
        let is_reused = self.line.is_some();
        let asked = match self.exchange(commands, deadline) {
            // HAProxy may have been restarted since.
            Err(error) if is_reused && !is_late(&error) => self.exchange(commands, deadline),
            other => other,
        };
        self.patience.learn(asked.is_ok(), deadline);
        asked.map_err(|error| {
            let said = if is_late(&error) {
                format!("no answer within {}", human(budget))
            } else {
                error.to_string()
            };
            Error::Unreachable { what: self.name.clone(), cause: ServerError::lost(said) }
        })
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

    /// Fails when one of these, which answer nothing when they succeed, was not carried out.
    pub fn require_done(&self, commands: &[String], answers: &[String]) -> Result<()> {
        let refusal = commands.iter().zip(answers).find(|(_, answer)| !answer.is_empty());
        refusal.map_or(Ok(()), |(command, answer)| Err(self.refused(command, answer)))
    }

    /// The entries of a map, or the keys of an ACL, from the answer to `show …`.
    pub fn read_list(&self, command: &str, answer: &str) -> Result<Vec<(String, String)>> {
        read_entries(answer).ok_or_else(|| self.refused(command, answer))
    }

    /// What the answer to [`SHOW_STAT`] tells.
    pub fn read_stats(&self, answer: &str) -> Result<Statistics> {
        read_stats(answer).ok_or_else(|| self.refused(SHOW_STAT, answer))
    }

    /// The answers of the commands; the connection is kept if it is to be.
    fn exchange(&mut self, commands: &[impl AsRef<str>], deadline: Instant) -> io::Result<Vec<String>> {
        let mut text = String::new();
        let (mut line, begun) = if let Some(line) = self.line.take() {
            (line, 0)
        } else {
            text.push_str(BEGIN);
            let connected = connect(&self.address, deadline);
            let nobody = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
            self.is_gone = connected.as_ref().is_err_and(|error| nobody.contains(&error.kind()));
            (connected?, BEGIN.lines().count())
        };
        for command in commands {
            text.push_str(command.as_ref());
            text.push('\n');
        }
        let mut answers = line.exchange(&text, begun + commands.len(), deadline)?;
        if self.keeps_line {
            self.line = Some(line);
        }
        answers.drain(..begun);
        Ok(answers)
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Line {
    /// As many answers, and nothing else is read; all of it may come in pieces.
    fn exchange(&mut self, text: &str, wanted: usize, deadline: Instant) -> io::Result<Vec<String>> {
        self.write(text.as_bytes(), deadline)?;
        let mut answers = Vec::new();
        let (mut read, mut start, mut looked_at) = (Vec::new(), 0, 0);
        while answers.len() < wanted {
            let at = read[looked_at..].windows(PROMPT.len()).position(|window| window == PROMPT);
            if let Some(at) = at {
                let end = looked_at + at;
                answers.push(String::from_utf8_lossy(&read[start..end]).trim_end().to_owned());
                start = end + PROMPT.len();
                looked_at = start;
            } else {
                // The prompt itself may come in two pieces.
                looked_at = start.max((read.len() + 1).saturating_sub(PROMPT.len()));
                self.read(&mut read, deadline)?;
            }
        }
        Ok(answers)
    }

    fn write(&mut self, text: &[u8], deadline: Instant) -> io::Result<()> {
        let left = Some(left(deadline)?);
        match self {
            Line::Unix(stream) => stream.set_write_timeout(left).and_then(|()| stream.write_all(text)),
            Line::Tcp(stream) => stream.set_write_timeout(left).and_then(|()| stream.write_all(text)),
        }
    }

    /// Appends what comes next to `read`.
    fn read(&mut self, read: &mut Vec<u8>, deadline: Instant) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        loop {
            let left = Some(left(deadline)?);
            let came = match self {
                Line::Unix(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(&mut chunk)),
                Line::Tcp(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(&mut chunk)),
            };
            match came {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    read.extend_from_slice(&chunk[..length]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn connect(address: &str, deadline: Instant) -> io::Result<Line> {
    if address.contains('/') {
        return connect_unix(address).map(Line::Unix);
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => {
                // What is asked next waits for nothing.
                stream.set_nodelay(true)?;
                return Ok(Line::Tcp(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
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

/// The weight that counts now, from the answer to `get weight …`; None when there is anything else.
pub fn read_weight(answer: &str) -> Option<u16> {
    answer.split_whitespace().next()?.parse().ok()
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
fn read_stats(answer: &str) -> Option<Statistics> {
    let mut lines = answer.lines().filter(|line| !line.is_empty());
    let header: Vec<&str> = lines.next()?.strip_prefix("# ")?.split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (backend, server, current) = (column("pxname")?, column("svname")?, column("scur")?);
    let (status, mode, kind) = (column("status")?, column("mode")?, column("type")?);
    let (agent, checked) = (column("agent_status"), column("check_status"));
    let mut found = Statistics { stats: Vec::new(), frontends: Vec::new() };
    for line in lines {
        let fields = split_csv(line);
        let field = |at: usize| fields.get(at).map(String::as_str).unwrap_or_default();
        let is_http = field(mode) == "http";
        match field(kind) {
            "0" => {
                let is_open = !matches!(field(status), "STOP" | "PAUSED");
                found.frontends.push(Frontend { is_open, is_http });
            }
            "1" | "2" => found.stats.push(Stat {
                backend: field(backend).to_owned(),
                server: (field(kind) == "2").then(|| field(server).to_owned()),
                current: field(current).parse().unwrap_or(0),
                status: field(status).to_owned(),
                is_http,
                has_agent: agent.is_some_and(|agent| !field(agent).is_empty()),
                is_refusing: field(status).starts_with("DOWN")
                    && checked.is_some_and(|at| is_refusal(field(at).trim_start_matches("* "))),
            }),
            // A listener.
            _ => {}
        }
    }
    Some(found)
}

/// Whether a health check has come to somebody: there is an answer, if late or not the one that is wanted, or a program that was asked.
fn is_refusal(check_status: &str) -> bool {
    check_status.starts_with("L7") || check_status.starts_with("PROC")
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
    use super::{Frontend, Stat, Statistics, read_entries, read_stats};

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
        let answer = "# pxname,svname,scur,status,last_chk,type,mode,agent_status,check_status,\nfront,FRONTEND,4,OPEN,,0,tcp,,,\n\
                      web,FRONTEND,0,PAUSED,,0,http,,,\nsource,db1,3,UP,\"Layer4 check, passed\",2,tcp,L4OK,L4OK,\n\
                      source,db3,0,DOWN,,2,tcp,L4OK,PROCERR,\nsource,db4,0,DOWN,,2,tcp,L4OK,L4CON,\n\
                      source,BACKEND,3,UP,,1,tcp,,,\nweb,BACKEND,,DOWN,,1,http,,,\n";
        let stat = |backend: &str, server: Option<&str>, current, status: &str, is_http| Stat {
            backend: backend.into(),
            server: server.map(str::to_owned),
            current,
            status: status.into(),
            is_http,
            has_agent: server.is_some(),
            is_refusing: server == Some("db3"),
        };
        let frontend = |is_open, is_http| Frontend { is_open, is_http };
        assert_eq!(
            read_stats(answer).expect("statistics"),
            Statistics {
                stats: vec![
                    stat("source", Some("db1"), 3, "UP", false),
                    stat("source", Some("db3"), 0, "DOWN", false),
                    stat("source", Some("db4"), 0, "DOWN", false),
                    stat("source", None, 3, "UP", false),
                    stat("web", None, 0, "DOWN", true)
                ],
                frontends: vec![frontend(true, false), frontend(false, true)],
            }
        );
        assert_eq!(read_stats("Permission denied\n"), None);
    }
}
