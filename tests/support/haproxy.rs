//! A HAProxy of our own with the configuration of the examples, in front of both servers.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::port::Port;
use super::postgres::{DATABASE, last_lines};
use super::scratch::{Kept, write_as_server_user};
use super::wait::until;

/// The map before a detour.
pub const MAP: &str = "# who serves\ngeneral  source\nweb web_source\n";

/// One process, with a relay in it whose connections come from the network of admins.
pub struct HaProxy {
    directory: PathBuf,
    frontend: Port,
    relay: Port,
    http: Port,
    runtime: Port,
    process: Option<Kept>,
}

impl HaProxy {
    /// Where the relay's connections come from.
    pub const ADMIN_NETWORK: &str = "127.0.0.2/32";

    /// Starts one under `parent`, in front of the source and the target, and of the application servers of each.
    pub fn start_new(parent: &Path, [source, target]: [u16; 2], applications: [u16; 2]) -> HaProxy {
        let directory = parent.join("haproxy");
        std::fs::create_dir(&directory).expect("the scratch directory can be written");
        super::scratch::give_to_server_user(&directory);
        let [frontend, relay, http, runtime] = std::array::from_fn(|_| Port::claim());
        let at = directory.display().to_string();
        let write = |name: &str, text: &str| write_as_server_user(&directory.join(name), text);
        write("pgdetour.map", MAP);
        write("admin_networks.acl", &format!("{}\n", HaProxy::ADMIN_NETWORK));
        write("pgdetour.lua", include_str!("../../examples/haproxy.lua"));
        let example = include_str!("../../examples/haproxy.cfg")
            .replace("/etc/haproxy", &at)
            .replace("/run/haproxy", &at)
            .replace("127.0.0.1:6432", &format!("127.0.0.1:{}", frontend.number()))
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{}", http.number()))
            .replace("db1:5432", &format!("127.0.0.1:{source}"))
            .replace("db2:5432", &format!("127.0.0.1:{target}"))
            .replace("app1:8000", &format!("127.0.0.1:{}", applications[0]))
            .replace("app2:8000", &format!("127.0.0.1:{}", applications[1]));
        let shared = format!(
            "\nbackend shared\n    mode http\n    server app1 127.0.0.1:{} weight 30\n    server app2 127.0.0.1:{} weight 0\n",
            applications[0], applications[1]
        );
        let relayed = format!(
            "\nlisten admin_clients\n    bind 127.0.0.1:{}\n    server frontend 127.0.0.1:{} source 127.0.0.2\n",
            relay.number(),
            frontend.number()
        );
        let socket = format!("global\n    stats socket ipv4@127.0.0.1:{} level admin\n", runtime.number());
        write("haproxy.cfg", &(example.replacen("global\n", &socket, 1) + &shared + &relayed));
        let mut haproxy = HaProxy { directory, frontend, relay, http, runtime, process: None };
        haproxy.start();
        haproxy
    }

    /// Ends it, and starts it anew, which reads its files again as a reload does.
    pub fn restart(&mut self) {
        self.end();
        self.start();
    }

    /// Ends it at once.
    pub fn end(&mut self) {
        self.process.take().expect("HAProxy runs").end("KILL");
    }

    /// Starts one that was ended.
    pub fn start(&mut self) {
        let settings = self.directory.join("haproxy.cfg");
        let arguments = ["-db", "-f", settings.to_str().expect("temporary paths are UTF-8")];
        let log = self.directory.with_file_name("haproxy.log");
        let process = Kept::start(&program(), &arguments, &log, "KILL");
        let is_listening = until("HAProxy lets clients in", Duration::from_secs(30), || {
            let can_connect = || std::net::TcpStream::connect(("127.0.0.1", self.relay.number())).is_ok();
            if can_connect() { Some(true) } else { (!process.is_running()).then_some(false) }
        });
        let said = std::fs::read(&log).unwrap_or_default();
        assert!(is_listening, "HAProxy did not start:\n{}", last_lines(&String::from_utf8_lossy(&said)));
        self.process = Some(process);
    }

    /// The port of its HTTP frontend.
    pub fn http_port(&self) -> u16 {
        self.http.number()
    }

    /// The port of its runtime API.
    pub fn runtime_port(&self) -> u16 {
        self.runtime.number()
    }

    /// How an application reaches the database through it.
    pub fn conninfo(&self, role: &str) -> String {
        format!("host=127.0.0.1 port={} dbname={DATABASE} user={role}", self.frontend.number())
    }

    /// How a client of the admin network reaches the database through it.
    pub fn admin_conninfo(&self, role: &str) -> String {
        format!("host=127.0.0.1 port={} dbname={DATABASE} user={role}", self.relay.number())
    }

    /// `[router]` of the configuration.
    pub fn section(&self) -> String {
        self.section_by(&format!("{}/admin.sock", self.directory.display()))
    }

    /// The same, with its runtime API behind this port.
    pub fn section_through(&self, port: u16) -> String {
        self.section_by(&format!("127.0.0.1:{port}"))
    }

    fn section_by(&self, socket: &str) -> String {
        let at = self.directory.display();
        format!(
            "[router]\nkind = \"haproxy\"\n[[router.haproxy]]\nsocket = \"{socket}\"\n\
             map = \"{at}/pgdetour.map\"\nsource = \"source\"\ntarget = \"target\"\n\
             admin_acl = \"{at}/admin_networks.acl\""
        )
    }

    /// `[[router.haproxy]]` of the application servers.
    pub fn web_section(&self) -> String {
        let at = self.directory.display();
        format!(
            "[[router.haproxy]]\nsocket = \"{at}/admin.sock\"\nmap = \"{at}/pgdetour.map\"\nkey = \"web\"\n\
             source = \"web_source\"\ntarget = \"web_target\"\nadmin_acl = \"{at}/admin_networks.acl\""
        )
    }

    /// The weight of a server of the backend that both groups of application servers share, as HAProxy says it.
    pub fn weight(&self, server: &str) -> String {
        self.ask(&format!("get weight shared/{server}"))
    }

    /// What it answers to a command of its runtime API.
    pub fn ask(&self, command: &str) -> String {
        let mut said = String::new();
        let mut stream = UnixStream::connect(self.directory.join("admin.sock")).expect("it runs");
        writeln!(stream, "{command}").expect("it listens");
        stream.read_to_string(&mut said).expect("it answers");
        said.trim().to_owned()
    }

    /// Looks whether clients of the database wait in the frontend; false while it cannot be asked.
    pub fn look_for_hold(&self) -> Box<dyn Fn() -> bool + Send> {
        let (socket, map) = (self.directory.join("admin.sock"), self.map_file());
        Box::new(move || {
            let mut answer = String::new();
            let Ok(mut stream) = UnixStream::connect(&socket) else { return false };
            // HAProxy 2.6 may leave a map that changes meanwhile half shown.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let asked = writeln!(stream, "show map {}", map.display());
            let _ = asked.and_then(|()| stream.read_to_string(&mut answer).map(drop));
            answer.lines().any(|line| line.ends_with(" general hold"))
        })
    }

    /// The map's file.
    pub fn map_file(&self) -> PathBuf {
        self.directory.join("pgdetour.map")
    }
}

/// Debian puts it where a plain user's PATH does not lead.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut programs = places.map(|place| place.join("haproxy"));
    programs.find(|program| program.exists()).expect("HAProxy is installed: run scripts/install first")
}
