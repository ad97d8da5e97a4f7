//! A directory and processes that are gone when we are, however we end: by a drop, a panic or SIGKILL.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;

/// Who runs the servers: PostgreSQL and PgBouncer refuse root.
pub static SERVER_USER: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let postgres = passwd.lines().find(|line| line.starts_with("postgres:")).expect(
        "there is a user postgres to run the servers, since they refuse root: run scripts/install first",
    );
    let mut ids = postgres.split(':').skip(2).map(|id| id.parse().expect("ids in /etc/passwd are numbers"));
    Some((ids.next().expect("a user id"), ids.next().expect("a group id")))
});

/// A command that runs as the user that servers run as.
pub fn as_server_user(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    // Tools of PostgreSQL must not be led elsewhere by the environment of who runs the tests.
    for name in
        ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGDATA"]
    {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C");
    if let Some((user, group)) = *SERVER_USER {
        command.uid(user).gid(group);
    }
    command
}

/// Waits for the end of its input, then ends nothing itself but removes the directory until it is gone:
/// the servers in it end at the same moment and may still write.
const SWEEPER: &str = r#"
read -r _
tries=0
until rm -rf -- "$1" 2>/dev/null && [ ! -e "$1" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || exit 1
    sleep 0.1
done"#;

/// Starts a program, prints its pid, and ends it by the signal that a line of input names, or at the end of input by `$1`.
const KEEPER: &str = r#"
last=$1
shift
"$@" </dev/null &
echo $!
exec >/dev/null
read -r signal || signal=$last
kill -s "$signal" $! 2>/dev/null
wait $!"#;

/// A temporary directory that the servers' user owns. It outlives neither its value nor this process.
pub struct Scratch {
    path: PathBuf,
    sweeper: Child,
}

impl Scratch {
    /// Makes one under the system's temporary directory; short, since Unix sockets live in it.
    pub fn new() -> Scratch {
        let path = tempfile::Builder::new()
            .prefix("pgdetour-")
            .rand_bytes(6)
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory can be made")
            .keep();
        let sweeper = Command::new("sh")
            .args(["-c", SWEEPER, "sweeper"])
            .arg(&path)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        give_to_server_user(&path);
        Scratch { path, sweeper }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

/// Makes the servers' user the owner of one file or directory.
pub fn give_to_server_user(path: &Path) {
    if let Some((user, group)) = *SERVER_USER {
        chown(path, Some(user), Some(group)).expect("root may give a file away");
    }
}

/// Writes a file that the servers' user owns.
pub fn write_as_server_user(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{} can be written: {error}", path.display()));
    give_to_server_user(path);
}

/// A running program under a shell that ends it when our end of the shell's input closes.
pub struct Kept {
    shell: Child,
    input: Option<ChildStdin>,
    pid: u32,
}

impl Kept {
    /// Starts `program`; `last_signal` ends it when this value or this process goes away.
    pub fn start(program: &Path, args: &[&str], log: &Path, last_signal: &str) -> Kept {
        let log_file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap_or_else(|error| panic!("{} can be opened: {error}", log.display()));
        let mut shell = as_server_user("sh")
            .args(["-c", KEEPER, "keeper", last_signal])
            .arg(program)
            .args(args)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        let input = shell.stdin.take();
        let mut line = String::new();
        let output = shell.stdout.take().expect("the shell's output is a pipe");
        BufReader::new(output).read_line(&mut line).expect("the shell's output can be read");
        let pid = line.trim().parse().expect("the shell prints the pid");
        Kept { shell, input, pid }
    }

    /// Whether the program still runs.
    pub fn is_running(&self) -> bool {
        // A zombie has no memory mapped: it waits for its shell, which waits for us.
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends the program by `signal` and waits until it is gone.
    pub fn end(mut self, signal: &str) {
        if let Some(mut input) = self.input.take() {
            let _ = writeln!(input, "{signal}");
        }
        let _ = self.shell.wait();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.shell.wait();
    }
}
