//! A whole detour as a sentence: servers, pooler, configuration, runs of the binary, and what must hold after each.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use postgres::NoTls;
use serde_json::Value;

use super::answer::Answer;
use super::binary;
use super::fingerprint;
use super::haproxy::HaProxy;
use super::pgbouncer::{self, PgBouncer};
use super::postgres::{DATABASE, Postgres, Template};
use super::probe;
use super::proxy::Proxy;
use super::scratch::Scratch;
use super::template;
use super::wait::until;
use super::writer::{self, ClientError, Writer};

/// The side that general traffic really uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// The source.
    Source,
    /// The target.
    Target,
    /// Neither: clients are held or refused.
    Nobody,
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Serving::Source => "source",
            Serving::Target => "target",
            Serving::Nobody => "nobody",
        })
    }
}

/// Two servers, a pooler, a configuration file and, when asked for, an application that writes all the while.
pub struct Detour {
    writer: Option<Writer>,
    pooler: PgBouncer,
    balancer: Option<HaProxy>,
    /// Usable from the outside, to break things.
    pub source: Postgres,
    /// Usable from the outside, to break things.
    pub target: Postgres,
    backup: Option<Postgres>,
    proxies: Option<Proxies>,
    sections: Sections,
    answers: Vec<Answer>,
    /// As whom the pooler logs in on the target; its clients' own role when there is none.
    forced_role: Option<String>,
    /// The pooler is to lead clients home to where the source is now.
    source_has_moved: bool,
    scratch: Scratch,
}

/// Proxies between pgdetour and what it talks to; the traffic and the mirror do not go through them.
pub struct Proxies {
    /// Before the source.
    pub source: Proxy,
    /// Before the target.
    pub target: Proxy,
    /// Before the pooler's console, or HAProxy's runtime API.
    pub router: Proxy,
}

#[derive(Clone)]
struct Sections {
    source: String,
    target: String,
    /// How the backup is reached.
    backup: Option<String>,
    /// In place of the pooler's or the balancer's.
    router: Option<String>,
    /// How the application connects, when it goes through none of them.
    entrance: Option<String>,
    more: String,
}

impl Detour {
    /// Starts servers and pooler; traffic is on the source, nothing is mirrored.
    pub fn new() -> Detour {
        let scratch = Scratch::new();
        let start = |name: &str, template: &Template| Postgres::start_new(scratch.path(), name, template);
        let (source, target) = std::thread::scope(|scope| {
            let target = scope.spawn(|| start("target", &template::of_target()));
            (start("source", &template::of_source()), target.join().expect("the target starts"))
        });
        let pooler = PgBouncer::start_new(scratch.path(), source.port());
        source.exec(writer::TABLES);
        source.exec(
            "create table public.probe (id uuid primary key default gen_random_uuid());\n\
             grant select, insert on public.probe to shop_app",
        );
        let sections = Sections {
            source: format!("conninfo = {}", quoted(&source.conninfo("dba"))),
            target: format!("conninfo = {}", quoted(&target.conninfo("dba"))),
            backup: None,
            router: None,
            entrance: None,
            more: String::new(),
        };
        let detour = Detour {
            writer: None,
            pooler,
            balancer: None,
            source,
            target,
            backup: None,
            proxies: None,
            sections,
            answers: Vec::new(),
            forced_role: None,
            source_has_moved: false,
            scratch,
        };
        detour.write_configuration();
        detour
    }

    /// Puts a HAProxy in front of both servers, which the application goes through instead of the pooler.
    pub fn behind_haproxy(self) -> Detour {
        let ports = [self.source.port(), self.target.port()];
        self.behind_haproxy_with(ports)
    }

    /// The same, and in front of two groups of application servers, of one each.
    pub fn behind_haproxy_with(mut self, applications: [u16; 2]) -> Detour {
        let ports = [self.source.port(), self.target.port()];
        self.balancer = Some(HaProxy::start_new(self.scratch.path(), ports, applications));
        self.write_configuration();
        self
    }

    /// The same, and their requests move with the rest.
    pub fn behind_haproxy_with_web(self, applications: [u16; 2]) -> Detour {
        let detour = self.behind_haproxy_with(applications);
        let web = detour.balancer.as_ref().expect("it was just put there").web_section();
        detour.configured(&web)
    }

    /// Starts a third server, through which the mirror goes.
    pub fn with_backup(mut self) -> Detour {
        let backup = Postgres::start_new(self.scratch.path(), "backup", &template::of_target());
        self.sections.backup = Some(backup.conninfo("dba"));
        self.backup = Some(backup);
        self.write_configuration();
        self
    }

    /// The server of [`Self::with_backup`].
    pub fn backup(&mut self) -> &mut Postgres {
        self.backup.as_mut().expect("the detour has a backup")
    }

    /// Replaces how the backup is reached.
    pub fn backup_is(&mut self, conninfo: &str) {
        self.sections.backup = Some(conninfo.to_owned());
        self.write_configuration();
    }

    /// Takes the backup out of the configuration.
    pub fn given_up_backup(mut self) -> Detour {
        self.sections.backup = None;
        self.write_configuration();
        self
    }

    /// Where this detour keeps its files.
    pub fn directory(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// A table of a thousand rows on the source that `shop_app` may write.
    pub fn table(self, name: &str) -> Detour {
        self.source.exec(&format!(
            "create table public.{name} (id bigint generated by default as identity primary key, note text);\n\
             insert into public.{name} (note) select 'note ' || n from generate_series(1, 1000) as n;\n\
             grant select, insert, update, delete on public.{name} to shop_app;\n\
             grant usage on sequence public.{name}_id_seq to shop_app"
        ));
        self
    }

    /// Runs statements on the source, as the DBA does.
    pub fn on_source(self, statements: &str) -> Detour {
        self.source.exec(statements);
        self
    }

    /// Runs statements on the target, as the DBA does.
    pub fn on_target(self, statements: &str) -> Detour {
        self.target.exec(statements);
        self
    }

    /// Runs statements through the pooler, as the application does.
    pub fn application(self, statements: &str) -> Detour {
        let result = self.application_client().batch_execute(statements);
        result.unwrap_or_else(|error| panic!("the application could not do this: {error:?}\n{statements}"));
        self
    }

    /// Runs statements through the pooler that must fail with this SQLSTATE.
    pub fn application_is_refused(self, statements: &str, sqlstate: &str) -> Detour {
        let error = self.application_client().batch_execute(statements);
        let error = error.err().unwrap_or_else(|| panic!("this was not refused: {statements}"));
        let code = error.code().map(postgres::error::SqlState::code);
        assert_eq!(code, Some(sqlstate), "{error:?}");
        self
    }

    /// Adds sections to the configuration file.
    pub fn configured(mut self, sections: &str) -> Detour {
        self.sections.more.push_str(sections);
        self.sections.more.push('\n');
        self.write_configuration();
        self
    }

    /// Has the pooler log in as one role on the source and as another on the target.
    pub fn logging_in_as(mut self, on_source: &str, on_target: &str) -> Detour {
        self.pooler.log_in_as(self.source.port(), on_source);
        self.forced_role = Some(on_target.to_owned());
        self.write_configuration();
        self
    }

    /// Replaces a text in the sections that were added.
    pub fn reconfigured(mut self, from: &str, to: &str) -> Detour {
        assert!(self.sections.more.contains(from), "the configuration does not have {from}");
        self.sections.more = self.sections.more.replace(from, to);
        self.write_configuration();
        self
    }

    /// Replaces the sections that were added to the configuration file.
    pub fn configured_anew(mut self, sections: &str) -> Detour {
        sections.clone_into(&mut self.sections.more);
        self.write_configuration();
        self
    }

    /// Replaces how the source is reached.
    pub fn source_is(mut self, conninfo: &str) -> Detour {
        self.sections.source = format!("conninfo = {}", quoted(conninfo));
        self.write_configuration();
        self
    }

    /// The source is at another place than before, where pgdetour and the clients are to find it.
    pub fn source_has_moved(mut self) -> Detour {
        self.source_has_moved = true;
        let conninfo = self.source.conninfo("dba");
        self.source_is(&conninfo)
    }

    /// Replaces how the target is reached.
    pub fn target_is(mut self, conninfo: &str) -> Detour {
        self.sections.target = format!("conninfo = {}", quoted(conninfo));
        self.write_configuration();
        self
    }

    /// Replaces how the target's server reaches the source.
    pub fn target_reaches_source_by(mut self, conninfo: &str) -> Detour {
        let before = self.sections.target.lines().next().unwrap_or_default().to_owned();
        self.sections.target = format!("{before}\nsource_conninfo = {}", quoted(conninfo));
        self.write_configuration();
        self
    }

    /// Replaces `[router]` and what belongs to it.
    pub fn routed(mut self, section: &str) -> Detour {
        self.sections.router = Some(section.to_owned());
        self.write_configuration();
        self
    }

    /// Puts a proxy between pgdetour and each of source, target and pooler, to break the network there.
    pub fn through_proxies(mut self) -> Detour {
        let proxies = Proxies {
            source: Proxy::start(self.source.port()),
            target: Proxy::start(self.target.port()),
            router: Proxy::start(self.balancer.as_ref().map_or(self.pooler.port(), HaProxy::runtime_port)),
        };
        let through = |server: &Postgres, proxy: &Proxy| {
            let port = format!("port={}", server.port());
            server.conninfo("dba").replace(&port, &format!("port={}", proxy.port()))
        };
        self.sections.source = format!("conninfo = \"{}\"", through(&self.source, &proxies.source));
        self.sections.target = format!(
            "conninfo = \"{}\"\nsource_conninfo = \"{}\"",
            through(&self.target, &proxies.target),
            self.source.conninfo("dba")
        );
        self.proxies = Some(proxies);
        self.write_configuration();
        self
    }

    /// The proxies of [`Self::through_proxies`].
    pub fn proxies(&self) -> &Proxies {
        self.proxies.as_ref().expect("the detour goes through proxies")
    }

    /// Starts a command that waits at `fault`, such as `before:hold clients`; returns when it waits there, or has ended.
    pub fn start_until(&self, command: &str, arguments: &[&str], fault: &str) -> Waiting {
        let file = self.scratch.path().join("waiting");
        let _ = std::fs::remove_file(&file);
        let path = file.to_str().expect("temporary paths are UTF-8").to_owned();
        let environment = [("PGDETOUR_FAULT", fault), ("PGDETOUR_FAULT_FILE", &path)];
        let mut run = binary::start(&self.arguments(command, arguments), &environment);
        until(&format!("{command} is at {fault}"), Duration::from_secs(90), || {
            (file.exists() || run.has_ended()).then_some(())
        });
        Waiting { run, file }
    }

    /// Keeps the answer of a run that was started.
    pub fn keep(&mut self, answer: Answer) -> &Answer {
        self.answers.push(answer);
        self.last()
    }

    /// The application goes through no pooler, and knows both servers.
    pub fn without_router(mut self) -> Detour {
        let [source, target] = [self.source.port(), self.target.port()];
        self.sections.entrance = Some(format!(
            "host=127.0.0.1,127.0.0.1 port={source},{target} dbname={DATABASE} user=shop_app target_session_attrs=read-write"
        ));
        self.routed("[router]\nkind = \"none\"")
    }

    /// The same, and the fence only keeps it from writing.
    pub fn fenced_read_only(self) -> Detour {
        // The keys of [traffic] go on to here.
        self.without_router().routed("fence = \"read-only\"\n\n[router]\nkind = \"none\"")
    }

    /// Starts the application.
    pub fn writing(mut self) -> Detour {
        assert!(self.writer.is_none(), "the application runs already");
        self.writer = Some(Writer::start(&self.entrance(), 2));
        self
    }

    /// Copies the source to the target and keeps it up to date.
    pub fn mirrored(self) -> Detour {
        self.run("mirror").exits(0).phase("mirrored")
    }

    /// Moves traffic to the target, the mirror made before if it was not.
    pub fn detoured(self) -> Detour {
        self.mirrored().run("cutover").exits(0).phase("detoured")
    }

    /// Moves traffic out and home again.
    pub fn returned(self) -> Detour {
        self.detoured().run("replay").exits(0).run("cutback").exits(0).phase("returned")
    }

    /// The next run of the binary; it happens when its end is said.
    pub fn run(self, command: &str) -> Run {
        Run {
            detour: self,
            command: command.to_owned(),
            arguments: vec!["--yes".into()],
            environment: Vec::new(),
        }
    }

    /// Starts a command that goes on beside the test.
    pub fn start(&self, command: &str, arguments: &[&str]) -> binary::Running {
        let all = self.arguments(command, arguments);
        binary::start(&all, &[])
    }

    /// Keeps the answer of a command that was started, as if it had just been run.
    pub fn ended(mut self, running: binary::Running, code: i32) -> Detour {
        let answer = running.end();
        assert_eq!(answer.code(), Some(code), "{}", answer.describe());
        self.answers.push(answer);
        self
    }

    /// Runs a command, and keeps and returns its answer whatever it is.
    pub fn ask(&mut self, command: &str, arguments: &[&str]) -> &Answer {
        self.answers.push(self.execute(command, arguments, &[]));
        self.last()
    }

    /// The latest answer.
    pub fn last(&self) -> &Answer {
        self.answers.last().expect("a command was run")
    }

    /// Everything that all runs until now have written.
    pub fn all_said(&self) -> String {
        self.answers.iter().map(Answer::describe).collect::<Vec<_>>().join("\n")
    }

    /// The latest answer to this command.
    pub fn answer_of(&self, command: &str) -> &Answer {
        let of_command = |answer: &&Answer| answer.json["command"] == command;
        self.answers.iter().rev().find(of_command).unwrap_or_else(|| panic!("{command} was not run"))
    }

    /// The latest answer says this phase.
    pub fn phase(self, phase: &str) -> Detour {
        self.answer_has("/phase", phase)
    }

    /// The latest answer says whether anything changed.
    pub fn changed(self, changed: bool) -> Detour {
        assert_eq!(self.last().at("/changed"), &Value::Bool(changed), "{}", self.last().describe());
        self
    }

    /// The latest answer failed with this kind.
    pub fn kind(self, kind: &str) -> Detour {
        self.answer_has("/error/kind", kind)
    }

    /// The latest answer's message has this in it.
    pub fn message(self, part: &str) -> Detour {
        self.answer_mentions("/error/message", part)
    }

    /// The latest answer's hint has this in it.
    pub fn hint(self, part: &str) -> Detour {
        self.answer_mentions("/error/hint", part)
    }

    /// One of the failed checks is about `object`, says `message` and offers `hint`.
    pub fn finding(self, object: &str, message: &str, hint: &str) -> Detour {
        let failures = self.last().at("/error/failures").as_array().cloned().unwrap_or_default();
        let has = |failure: &Value, key: &str, part: &str| {
            failure[key].as_str().is_some_and(|text| text.to_lowercase().contains(&part.to_lowercase()))
        };
        let found = failures.iter().any(|failure| {
            has(failure, "object", object) && has(failure, "message", message) && has(failure, "hint", hint)
        });
        assert!(
            found,
            "no failed check about {object:?} that says {message:?} and offers {hint:?}\n{}",
            self.last().describe()
        );
        self
    }

    /// The report of the latest answer has this value at a JSON pointer.
    pub fn reports(self, pointer: &str, value: impl Into<Value>) -> Detour {
        let value = value.into();
        assert_eq!(self.last().at(&format!("/report{pointer}")), &value, "{}", self.last().describe());
        self
    }

    /// The latest answer, `status` and the traffic itself agree on who serves.
    pub fn serving(mut self, side: Serving) -> Detour {
        assert_eq!(self.last().text_at("/serving"), side.to_string(), "{}", self.last().describe());
        self.status_tells_the_truth();
        assert_eq!(self.who_really_serves(), side, "the traffic itself says so");
        self
    }

    /// Runs `status` and compares it with where a write really goes; returns who serves.
    pub fn status_tells_the_truth(&mut self) -> Serving {
        let really = self.who_really_serves();
        let status = self.ask("status", &[]);
        assert_eq!(status.code(), Some(0), "{}", status.describe());
        assert_eq!(
            status.text_at("/report/serving"),
            really.to_string(),
            "status is wrong about who serves\n{}",
            status.describe()
        );
        really
    }

    /// Writes a row through the pooler, as the application does, and tells which server took it.
    pub fn who_really_serves(&self) -> Serving {
        match probe::port_that_takes_writes(&self.entrance()) {
            Some(port) if port == self.source.port() => Serving::Source,
            Some(port) if port == self.target.port() => Serving::Target,
            Some(port) => panic!("a server of somebody else answers, on port {port}"),
            None => Serving::Nobody,
        }
    }

    /// Waits until the application has written on.
    pub fn application_goes_on(self) -> Detour {
        self.writer().until_acknowledged(20);
        self
    }

    /// The application rests while both sides are compared.
    pub fn at_rest(self, work: impl FnOnce(Detour) -> Detour) -> Detour {
        self.writer().rest();
        let detour = work(self);
        detour.writer().go_on();
        detour
    }

    /// Errors that the application has seen until now.
    pub fn client_errors(&self) -> Vec<ClientError> {
        self.writer.as_ref().map(Writer::errors).unwrap_or_default()
    }

    /// The application has seen no error.
    pub fn no_client_error(self) -> Detour {
        let errors = self.client_errors();
        assert!(errors.is_empty(), "the application saw {} errors, first {}", errors.len(), errors[0]);
        self
    }

    /// Stops the application and holds what it did against the serving side: no row lost, none twice, none changed.
    pub fn no_row_lost(mut self) -> Detour {
        let written = self.writer.take().expect("the application runs").stop();
        let server = match self.who_really_serves() {
            Serving::Source => &self.source,
            Serving::Target => &self.target,
            Serving::Nobody => panic!("nobody serves, so nobody can be asked for the rows"),
        };
        let differences = written.differences(&mut server.client("dba"));
        assert!(
            differences.is_empty(),
            "{} differences to what was acknowledged, first {}",
            differences.len(),
            differences[0]
        );
        self
    }

    /// Another run is in progress on one side, as far as its lock can tell, for as long as the session lives.
    pub fn locked_by_another(server: &Postgres) -> postgres::Client {
        let mut session = server.client("dba");
        session.batch_execute("select pg_advisory_lock(1885824116, 1)").expect("the lock is free");
        session
    }

    /// Everything that a refused command must leave as it was: both catalogs, the settings, the pooler.
    pub fn fingerprint(&self) -> Vec<String> {
        let mut lines = fingerprint::of_server("source", &self.source);
        lines.extend(fingerprint::of_server("target", &self.target));
        if let Some(backup) = &self.backup {
            lines.extend(fingerprint::of_server("backup", backup));
        }
        lines.extend(fingerprint::of_pooler(&self.pooler));
        lines
    }

    /// Nothing is other than at the time of `before`.
    pub fn unchanged_since(self, before: &[String]) -> Detour {
        let now = self.fingerprint();
        let gone = before.iter().filter(|line| !now.contains(line)).map(|line| format!("- {line}"));
        let come = now.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
        let changes: Vec<String> = gone.chain(come).collect();
        assert!(changes.is_empty(), "these changed:\n{}\n{}", changes.join("\n"), self.last().describe());
        self
    }

    /// How the application connects, for programs.
    pub fn application_conninfo(&self) -> String {
        self.entrance()
    }

    /// How the application connects.
    pub fn entrance(&self) -> String {
        match (&self.sections.entrance, &self.balancer) {
            (Some(entrance), _) => entrance.clone(),
            (None, Some(balancer)) => balancer.conninfo("shop_app"),
            (None, None) => self.pooler.conninfo("shop_app"),
        }
    }

    /// The HAProxy of [`Self::behind_haproxy`].
    pub fn balancer(&self) -> &HaProxy {
        self.balancer.as_ref().expect("the detour is behind HAProxy")
    }

    /// The HAProxy, to break.
    pub fn balancer_to_break(&mut self) -> &mut HaProxy {
        self.balancer.as_mut().expect("the detour is behind HAProxy")
    }

    /// Whether HAProxy takes the pooler's place.
    pub fn has_balancer(&self) -> bool {
        self.balancer.is_some()
    }

    /// The server that takes the application's writes by the record, for work beside it.
    pub fn serving_server(&self) -> &Postgres {
        let is_out = "select coalesce((select serving = 'target' from pgdetour.stamp), false)";
        if self.source.value::<bool>(is_out) { &self.target } else { &self.source }
    }

    /// Looks whether the router holds clients; false while it cannot be asked.
    pub fn look_for_hold(&self) -> Box<dyn Fn() -> bool + Send> {
        match &self.balancer {
            Some(balancer) => balancer.look_for_hold(),
            None => self.pooler.look_for_hold(),
        }
    }

    /// The pooler, to look at or to break.
    pub fn pooler(&mut self) -> &mut PgBouncer {
        &mut self.pooler
    }

    /// The configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.scratch.path().join("pgdetour.toml")
    }

    fn writer(&self) -> &Writer {
        self.writer.as_ref().expect("the application runs")
    }

    /// A session of the application, through the pooler.
    pub fn application_client(&self) -> postgres::Client {
        postgres::Client::connect(&self.entrance(), NoTls)
            .unwrap_or_else(|error| panic!("the application cannot connect: {error}"))
    }

    fn answer_has(self, pointer: &str, text: &str) -> Detour {
        assert_eq!(self.last().text_at(pointer), text, "{}", self.last().describe());
        self
    }

    fn answer_mentions(self, pointer: &str, part: &str) -> Detour {
        let text = self.last().text_at(pointer);
        assert!(text.contains(part), "{pointer} does not have {part:?}\n{}", self.last().describe());
        self
    }

    fn write_configuration(&self) {
        let Sections { source, target, backup, router, more, .. } = &self.sections;
        let backup = backup.iter().map(|conninfo| format!("backup_conninfo = {}\n", quoted(conninfo)));
        let backup: String = backup.collect();
        let (traffic, of_program) = match &self.balancer {
            Some(balancer) => {
                let section = match &self.proxies {
                    Some(proxies) => balancer.section_through(proxies.router.port()),
                    None => balancer.section(),
                };
                (format!("admin_networks = [\"{}\"]", HaProxy::ADMIN_NETWORK), section)
            }
            None => (String::new(), self.pooler_section()),
        };
        let router = router.as_ref().unwrap_or(&of_program);
        let text = format!(
            "[source]\n{source}\n\n[target]\n{target}\n{backup}\n\
             [traffic]\nroles = [\"shop_app\"]\n{traffic}\n\n{router}\n\n{more}"
        );
        std::fs::write(self.configuration(), text).expect("the scratch directory can be written");
    }

    fn console_conninfo(&self) -> String {
        let direct = self.pooler.console_conninfo();
        match &self.proxies {
            Some(proxies) => direct
                .replace(&format!("port={}", self.pooler.port()), &format!("port={}", proxies.router.port())),
            None => direct,
        }
    }

    fn pooler_section(&self) -> String {
        format!(
            "[router]\nkind = \"pgbouncer\"\n[[router.pgbouncer]]\nadmin = \"{}\"\n\
             database = \"{DATABASE}\"\nconfig = \"{}\"\ntarget = \"{}\"",
            self.console_conninfo(),
            self.pooler.databases_file().display(),
            self.forced_role
                .iter()
                .fold(pgbouncer::entry(self.target.port()), |entry, role| format!("{entry} user={role}")),
        ) + &self.home_entry()
    }

    fn home_entry(&self) -> String {
        if self.source_has_moved {
            format!("\nsource = \"{}\"", pgbouncer::entry(self.source.port()))
        } else {
            String::new()
        }
    }

    /// Runs a command as a person does, for text instead of a document.
    pub fn as_text(&self, command: &str, arguments: &[&str]) -> std::process::Output {
        let mut process = binary::command(env!("CARGO_BIN_EXE_pgdetour"));
        process.arg(command).arg("--config").arg(self.configuration()).args(arguments);
        process.output().expect("the binary can be started")
    }

    fn execute(&self, command: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Answer {
        binary::run(&self.arguments(command, arguments), environment)
    }

    fn arguments(&self, command: &str, arguments: &[&str]) -> Vec<String> {
        let mut all = vec![command.to_owned(), "--json".into(), "--config".into()];
        all.push(self.configuration().display().to_string());
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        all
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("test").replace("::", ".");
        let kept = logs_directory().join(name);
        let _ = std::fs::remove_dir_all(&kept);
        if std::fs::create_dir_all(&kept).is_err() {
            return;
        }
        for name in
            ["source.log", "target.log", "backup.log", "pgbouncer.log", "haproxy.log", "pgdetour.toml"]
        {
            let _ = std::fs::copy(self.scratch.path().join(name), kept.join(name));
        }
        let runs: Vec<String> = self.answers.iter().map(Answer::describe).collect();
        let _ = std::fs::write(kept.join("runs.txt"), runs.join("\n\n"));
        eprintln!("logs and all runs are kept in {}", kept.display());
    }
}

/// A run that waits at a step.
pub struct Waiting {
    run: binary::Running,
    file: PathBuf,
}

impl Waiting {
    /// Whether it waits; if not, it has ended by itself.
    pub fn is_there(&self) -> bool {
        self.file.exists()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        self.run.signal(signal);
    }

    /// Its process.
    pub fn pid(&self) -> rustix::process::Pid {
        self.run.pid()
    }

    /// The processes that it has started: number and arguments of each.
    pub fn children(&self) -> Vec<(u32, Vec<String>)> {
        self.run.children()
    }

    /// Lets it go on to its end.
    pub fn go_on(self) -> Answer {
        self.let_go().end()
    }

    /// Lets it go on.
    pub fn let_go(self) -> binary::Running {
        let _ = std::fs::remove_file(&self.file);
        self.run
    }
}

/// One run of the binary, not yet done.
#[must_use = "the run happens when its end is said"]
pub struct Run {
    detour: Detour,
    command: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Run {
    /// More arguments.
    pub fn with(mut self, arguments: &[&str]) -> Run {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Nobody answers the confirmation.
    pub fn unconfirmed(mut self) -> Run {
        self.arguments.retain(|argument| argument != "--yes");
        self
    }

    /// A variable of its environment.
    pub fn with_environment(mut self, name: &str, value: &str) -> Run {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The process kills itself at `before:<step>` or `after:<step>`.
    pub fn fault(mut self, at: &str) -> Run {
        self.environment.push(("PGDETOUR_FAULT".into(), at.into()));
        self
    }

    /// Runs it; it must end with this exit code.
    pub fn exits(self, code: i32) -> Detour {
        let detour = self.ends();
        assert_eq!(detour.last().code(), Some(code), "{}", detour.last().describe());
        detour
    }

    /// Runs it; its fault must kill it.
    pub fn dies(self) -> Detour {
        let detour = self.ends();
        assert!(detour.last().was_killed(), "the fault was not met\n{}", detour.last().describe());
        detour
    }

    /// Runs it, however it ends.
    pub fn ends(self) -> Detour {
        let mut detour = self.detour;
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = detour.execute(&self.command, &arguments, &environment);
        detour.answers.push(answer);
        detour
    }
}

/// A string of the configuration file; JSON's escapes are TOML's, too.
pub fn quoted(text: &str) -> String {
    serde_json::json!(text).to_string()
}

fn logs_directory() -> PathBuf {
    option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from)
}
