//! A PgBouncer of our own in transaction pooling, its databases in a file of their own, as pgdetour wants it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postgres::{Client, NoTls, SimpleQueryMessage};

use super::port::Port;
use super::postgres::{DATABASE, last_lines};
use super::scratch::{Kept, write_as_server_user};
use super::wait::until;

/// One pooler before the databases.
pub struct PgBouncer {
    directory: PathBuf,
    port: Port,
    /// What an application gives when it is asked for a password.
    password: Option<String>,
    process: Option<Kept>,
}

impl PgBouncer {
    /// Starts one under `parent` that sends the database `shop` to the server on `server_port`.
    pub fn start_new(parent: &Path, server_port: u16) -> PgBouncer {
        let directory = parent.join("pgbouncer");
        std::fs::create_dir(&directory).expect("the scratch directory can be written");
        super::scratch::give_to_server_user(&directory);
        let port = Port::claim();
        let at = directory.display();
        write_as_server_user(
            &directory.join("databases.ini"),
            &format!("[databases]\n{DATABASE} = {}\n", entry(server_port)),
        );
        let roles = ["shop_app", "shop_limited", "shop_owner", "dba", "pgbouncer"];
        let users = roles.map(|role| format!("\"{role}\" \"\"\n")).concat();
        write_as_server_user(&directory.join("users.txt"), &users);
        // No pidfile: what a killed one leaves may be another process's number by then, and keeps the next one from starting.
        let settings = format!(
            "%include {at}/databases.ini\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {}\n\
             unix_socket_dir = {at}\n\
             auth_type = trust\n\
             auth_file = {at}/users.txt\n\
             admin_users = pgbouncer\n\
             pool_mode = transaction\n\
             default_pool_size = 20\n\
             max_client_conn = 1000\n\
             server_login_retry = 1\n\
             query_wait_timeout = 60\n\
             ignore_startup_parameters = extra_float_digits\n",
            port.number()
        );
        write_as_server_user(&directory.join("pgbouncer.ini"), &settings);
        let mut pooler = PgBouncer { directory, port, password: None, process: None };
        pooler.start();
        pooler
    }

    /// Starts it anew with more settings, which come before those that it had.
    pub fn reconfigure(&mut self, settings: &str) {
        self.kill();
        let main = self.directory.join("pgbouncer.ini");
        let before = std::fs::read_to_string(&main).expect("its settings can be read");
        write_as_server_user(&main, &format!("{before}{settings}\n"));
        self.start();
    }

    /// Lets applications in by passwords that it looks up on the server as `lookup`, by the function of that name; the
    /// console stays open.
    pub fn look_passwords_up(&mut self, password: &str) {
        let at = self.directory.display().to_string();
        let rules = "local all all trust\nhost pgbouncer pgbouncer 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        write_as_server_user(&self.directory.join("hba.conf"), rules);
        write_as_server_user(&self.directory.join("users.txt"), "\"pgbouncer\" \"\"\n\"lookup\" \"\"\n");
        self.password = Some(password.to_owned());
        self.reconfigure(&format!(
            "auth_type = hba\nauth_hba_file = {at}/hba.conf\nauth_user = lookup\n\
             auth_query = select usename, passwd from public.lookup($1)"
        ));
    }

    /// A second process that shares port and databases with this one, which must have `so_reuseport = 1`.
    pub fn start_peer(&self) -> PgBouncer {
        let directory = self.directory.with_file_name("pgbouncer2");
        std::fs::create_dir(&directory).expect("the scratch directory can be written");
        super::scratch::give_to_server_user(&directory);
        let main =
            std::fs::read_to_string(self.directory.join("pgbouncer.ini")).expect("its settings can be read");
        let here = format!("unix_socket_dir = {}", directory.display());
        let main = main.replace(&format!("unix_socket_dir = {}", self.directory.display()), &here);
        write_as_server_user(&directory.join("pgbouncer.ini"), &main);
        let (port, password) = (self.port.clone(), self.password.clone());
        let mut peer = PgBouncer { directory, port, password, process: None };
        peer.start();
        peer
    }

    /// How administrators reach the console of this very process.
    pub fn own_console(&self) -> String {
        format!("host={} port={} dbname=pgbouncer user=pgbouncer", self.directory.display(), self.port())
    }

    /// Starts a stopped one and waits until it lets clients in.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "PgBouncer runs already");
        let settings = self.directory.join("pgbouncer.ini");
        let settings = settings.to_str().expect("temporary paths are UTF-8");
        let process = Kept::start(&program(), &[settings], &self.log_path(), "KILL");
        let letting_in = until("PgBouncer lets clients in", Duration::from_secs(30), || {
            if self.try_console().is_ok() { Some(true) } else { (!process.is_running()).then_some(false) }
        });
        assert!(letting_in, "PgBouncer did not start:\n{}", self.log_end());
        self.process = Some(process);
    }

    /// Ends it at once; clients lose their connections.
    pub fn kill(&mut self) {
        self.process.take().expect("PgBouncer runs").end("KILL");
    }

    /// Sends the database to the server on `server_port` as one role, whoever the client is. It starts anew, since a
    /// running one keeps such a role.
    pub fn log_in_as(&mut self, server_port: u16, role: &str) {
        self.kill();
        let text = format!("[databases]\n{DATABASE} = {} user={role}\n", entry(server_port));
        write_as_server_user(&self.databases_file(), &text);
        self.start();
    }

    /// The file that holds the entry of the database.
    pub fn databases_file(&self) -> PathBuf {
        self.directory.join("databases.ini")
    }

    /// How administrators reach its console.
    pub fn console_conninfo(&self) -> String {
        format!("host=127.0.0.1 port={} dbname=pgbouncer user=pgbouncer", self.port())
    }

    /// How an application reaches the database through it.
    pub fn conninfo(&self, role: &str) -> String {
        let password = self.password.as_ref().map(|password| format!(" password={password}"));
        let password = password.unwrap_or_default();
        format!("host=127.0.0.1 port={} dbname={DATABASE} user={role}{password}", self.port())
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// What a command of the console answers, one map of columns a row.
    pub fn console(&self, command: &str) -> Vec<Vec<(String, String)>> {
        let mut console = self.try_console().unwrap_or_else(|error| panic!("PgBouncer's console: {error}"));
        let answer = console.simple_query(command);
        let messages = answer.unwrap_or_else(|error| panic!("{command} in PgBouncer's console: {error}"));
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| {
            let columns = row.columns().iter().enumerate();
            columns.map(|(at, column)| (column.name().into(), row.get(at).unwrap_or("").into())).collect()
        })
        .collect()
    }

    /// One column of `SHOW DATABASES` for the database.
    pub fn database(&self, column: &str) -> String {
        self.shown("show databases", ("name", DATABASE), column)
    }

    /// The value of a setting that it uses now.
    pub fn setting(&self, name: &str) -> String {
        self.shown("show config", ("key", name), "value")
    }

    /// One column of the row in which another one has this value.
    fn shown(&self, command: &str, (key, name): (&str, &str), column: &str) -> String {
        let rows = self.console(command);
        let has = |row: &Vec<(String, String)>| row.contains(&(key.into(), name.into()));
        let row = rows.into_iter().find(has).unwrap_or_else(|| panic!("PgBouncer knows {name}"));
        row.into_iter().find(|(name, _)| name == column).expect("PgBouncer knows the column").1
    }

    /// Looks whether clients of the database are paused; false while it cannot be asked.
    pub fn look_for_hold(&self) -> Box<dyn Fn() -> bool + Send> {
        let conninfo = self.own_console();
        let kept = std::sync::Mutex::new(None::<Client>);
        Box::new(move || {
            let mut kept = kept.lock().expect("no look fails");
            if kept.is_none() {
                *kept = Client::connect(&conninfo, NoTls).ok();
            }
            let rows = kept.as_mut().map(|client| client.simple_query("show databases"));
            let Some(Ok(rows)) = rows else {
                *kept = None;
                return false;
            };
            rows.iter().any(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    row.get("name") == Some(DATABASE) && row.get("paused") == Some("1")
                }
                _ => false,
            })
        })
    }

    /// The last lines of its log, for messages.
    pub fn log_end(&self) -> String {
        last_lines(&String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()))
    }

    fn try_console(&self) -> Result<Client, postgres::Error> {
        self.own_console().parse::<postgres::Config>()?.connect_timeout(Duration::from_secs(5)).connect(NoTls)
    }

    fn log_path(&self) -> PathBuf {
        self.directory.with_file_name("pgbouncer.log")
    }
}

/// The value of a database's entry in PgBouncer's file.
pub fn entry(server_port: u16) -> String {
    format!("host=127.0.0.1 port={server_port} dbname={DATABASE}")
}

/// Debian puts it where a plain user's PATH does not lead.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut programs = places.map(|place| place.join("pgbouncer"));
    programs.find(|program| program.exists()).expect("PgBouncer is installed: run scripts/install first")
}
