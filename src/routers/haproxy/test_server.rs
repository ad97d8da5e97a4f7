//! Throwaway `HAProxy` processes for tests: real ones, with the configuration of the examples.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::config::HaProxySettings;
use crate::pg::test_port::Port;
use crate::routers::haproxy::runtime::Runtime;

/// The map before a detour, its spacing and comment not ours.
pub const MAP: &str = "# who serves\ngeneral \t source\nother x\nweb web_source\n";

/// One process. Behind it servers answer with their own name, then with what they are sent.
pub struct TestHaProxy {
    directory: tempfile::TempDir,
    postgresql: Port,
    http: Port,
    runtime: Port,
    process: Child,
    /// Those of before a reload.
    before: Vec<Child>,
}

impl TestHaProxy {
    /// Starts one that keeps clients from 127.0.0.2 on the source.
    pub fn start() -> TestHaProxy {
        TestHaProxy::start_with("")
    }

    /// Starts one with more lines in its global section.
    pub fn start_with(global: &str) -> TestHaProxy {
        let directory = tempfile::Builder::new().prefix("pgdetour-haproxy-").tempdir().expect("a directory");
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("a file");
        write("pgdetour.map", MAP);
        write("admin_networks.acl", "# admins\n127.0.0.2/32\n");
        write("pgdetour.lua", include_str!("../../../examples/haproxy.lua"));
        let ports = [Port::claim(), Port::claim(), Port::claim()];
        let [frontend, web, runtime] = ports.each_ref().map(Port::number);
        let example = include_str!("../../../examples/haproxy.cfg")
            .replace("/etc/haproxy", &directory.path().to_string_lossy())
            .replace(
                "/run/haproxy/admin.sock mode 660",
                &format!("{}/admin.sock", directory.path().display()),
            )
            .replace("127.0.0.1:6432", &format!("127.0.0.1:{frontend}"))
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{web}"))
            .replace("db1:5432", &format!("127.0.0.1:{}", serve("db1", false)))
            .replace("db2:5432", &format!("127.0.0.1:{}", serve("db2", false)))
            .replace("app1:8000", &format!("127.0.0.1:{}", serve("app1", true)))
            .replace("app2:8000", &format!("127.0.0.1:{}", serve("app2", true)));
        let more = format!(
            "\nlisten from_admin_network\n    bind unix@{at}/admin_client.sock\n    \
             server frontend 127.0.0.1:{frontend} source 127.0.0.2\n\
             frontend shared\n    mode http\n    bind unix@{at}/shared.sock\n    \
             http-request lua.pgdetour_side web\n    default_backend shared\n\
             backend shared\n    mode http\n    server one 127.0.0.1:{one} weight 30\n    \
             server two 127.0.0.1:{two} weight 0\n\
             backend refused\n    mode http\n    option httpchk GET /refused\n    \
             server four 127.0.0.1:{one} check inter 60s fall 1\n\
             backend agents\n    mode http\n    \
             server three 127.0.0.1:{one} weight 100 agent-check agent-port {agent} agent-inter 200ms agent-send x\n",
            agent = serve("30%\n", false),
            one = serve("app1", true),
            two = serve("app2", true),
            at = directory.path().display()
        );
        let sockets = format!(
            "global\n    stats socket {}/user.sock level user\n    stats socket ipv4@127.0.0.1:{runtime} level admin\n{global}",
            directory.path().display()
        );
        write("haproxy.cfg", &example.replacen("global\n", &sockets, 1));
        write("more.cfg", &more);
        let process = spawn(&directory, &[]);
        let [postgresql, http, runtime] = ports;
        let haproxy = TestHaProxy { directory, postgresql, http, runtime, process, before: Vec::new() };
        haproxy.wait_until_ready();
        haproxy
    }

    /// Ends it and starts it anew, which reads its files again, as a reload does.
    pub fn restart(&mut self) {
        self.end();
        self.process = spawn(&self.directory, &[]);
        self.wait_until_ready();
    }

    /// Puts another process in its place, which keeps what is open in this one.
    pub fn reload(&mut self) {
        let old = self.process.id().to_string();
        let process = spawn(&self.directory, &["-sf", &old]);
        self.before.push(std::mem::replace(&mut self.process, process));
        let new = format!("\nPid: {}\n", self.process.id());
        let begun = Instant::now();
        while !self.runtime().ask("show info").is_ok_and(|info| info.contains(&new)) {
            assert!(begun.elapsed() < Duration::from_secs(20), "it takes over");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it.
    pub fn end(&mut self) {
        for process in self.before.iter_mut().chain([&mut self.process]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Keeps it from running, as a busy machine does.
    pub fn stop_for(&self, duration: Duration) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::STOP).expect("it runs");
        thread::sleep(duration);
        kill_process(pid, Signal::CONT).expect("it is stopped");
    }

    fn wait_until_ready(&self) {
        let begun = Instant::now();
        while self.runtime().ask("show info").is_err() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(20), "{log}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn runtime(&self) -> Runtime {
        Runtime::new("haproxy", &self.path("admin.sock").to_string_lossy())
    }

    /// What its runtime API answers to a command.
    pub fn ask(&self, command: &str) -> String {
        self.runtime().ask(command).expect("it answers")
    }

    /// Has it do something.
    pub fn act(&self, command: &str) {
        assert_eq!(self.ask(command), "", "{command}");
    }

    /// The runtime API over TCP.
    pub fn runtime_address(&self) -> String {
        format!("127.0.0.1:{}", self.runtime.number())
    }

    /// `[[router.haproxy]]` for a key.
    pub fn settings(&self, key: &str, source: &str, target: &str) -> HaProxySettings {
        let text = |name: &str| self.path(name).to_string_lossy().into_owned();
        HaProxySettings {
            socket: text("admin.sock"),
            map: text("pgdetour.map"),
            key: key.into(),
            source: source.into(),
            target: target.into(),
            file: self.path("pgdetour.map"),
            weights: Vec::new(),
            admin_acl: Some(text("admin_networks.acl")),
            file_command: None,
        }
    }

    /// A client of the TCP frontend.
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.postgresql.number())).expect("the frontend listens")
    }

    /// A client of the TCP frontend from the network of admins.
    pub fn connect_as_admin(&self) -> std::os::unix::net::UnixStream {
        std::os::unix::net::UnixStream::connect(self.path("admin_client.sock")).expect("the relay listens")
    }

    /// A client of the HTTP frontend.
    pub fn connect_http(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.http.number())).expect("the frontend listens")
    }
}

impl Drop for TestHaProxy {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(directory: &tempfile::TempDir, more: &[&str]) -> Child {
    let log = fs::File::create(directory.path().join("log")).expect("a file");
    let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];
    let program = program.into_iter().find(|path| fs::exists(path).unwrap_or(false)).unwrap_or("haproxy");
    Command::new(program)
        .arg("-db")
        .arg("-f")
        .arg(directory.path().join("haproxy.cfg"))
        .arg("-f")
        .arg(directory.path().join("more.cfg"))
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("haproxy runs")
}

/// Answers each message with its name, an HTTP request for `/slow` only after a while, one for `/refused` with an error; until the
/// tests end.
fn serve(name: &'static str, is_http: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut chunk) {
                    if chunk[..read].starts_with(b"GET /slow") {
                        thread::sleep(Duration::from_millis(400));
                    }
                    let answer = if chunk[..read].starts_with(b"GET /refused") {
                        "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned()
                    } else if is_http {
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())
                    } else {
                        name.to_owned()
                    };
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}
