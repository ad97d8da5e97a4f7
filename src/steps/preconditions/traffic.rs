//! General traffic: whose it is, whether it can be fenced off, and the routers that send it.

use std::time::Duration;

use crate::config::{FenceKind, RouterKind};
use crate::error::{Checked, Result};
use crate::pg::catalog::facts::list_roles;
use crate::pg::{fence, sessions};
use crate::phase::{Phase, Side};
use crate::routers::Routers;
use crate::steps::{Run, restrict};

/// How many sessions are named.
const NAMED: usize = 5;

/// The longest pause, when nothing else is asked for: well below PgBouncer's `query_wait_timeout` of 120 s.
const DEFAULT_MAX_PAUSE: Duration = Duration::from_secs(5);

/// Somebody said whose connections are general traffic.
pub fn roles_named(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.traffic.roles.is_empty() {
        let hint = "Name the application's roles: [traffic] roles = [\"shop_app\"].";
        checked.fail("traffic_roles", "traffic.roles", "no role of general traffic is named", hint);
    }
    Ok(())
}

/// The roles of general traffic can work on the target.
pub fn roles_on_target(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let limited = limited_role(run);
    // Before the mirror stands, nobody has been told yet to make the limited role.
    let ahead = matches!(run.phase(), Phase::Absent | Phase::Mirroring);
    let mut wanted = run.config.general_roles(Side::Target);
    wanted.retain(|name| !(ahead && Some(name) == limited.as_ref()));
    let found = list_roles(run.target(), &wanted)?;
    for name in &wanted {
        match found.iter().find(|role| &role.name == name) {
            None => {
                let message = format!("role \"{name}\" does not exist on the target");
                let hint = if Some(name) == limited.as_ref() {
                    "Run pgdetour restrict, which makes it."
                } else {
                    "Create it there with the same password: pg_dumpall --roles-only on the source shows how."
                };
                checked.fail("role_missing", name, message, hint);
            }
            Some(role) if !role.may_connect => {
                let message = format!("role \"{name}\" may not connect to the target's database");
                checked.fail("role_connect", name, message, "Grant it CONNECT on the target's database.");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The role that `restrict` makes.
fn limited_role(run: &Run) -> Option<String> {
    run.config.restrict_role.as_ref().map(|role| role.name.clone())
}

/// What `[[restrict]]` and `[restrict_role]` ask for can be done, and nobody who is limited could undo it.
pub fn restrictions(run: &mut Run, checked: &mut Checked) -> Result<()> {
    restrict::check_ahead(run, checked)?;
    if let (RouterKind::Pgbouncer, Some(limited)) = (run.config.router.kind, &run.config.restrict_role) {
        for entry in &run.config.router.pgbouncer {
            if !entry.forces(&limited.name) {
                checked.warn(
                    "restrict_role",
                    &format!("router.pgbouncer.target of {}", entry.database),
                    format!("it does not name user={}, so clients reach the target as their own role", limited.name),
                    "Write it into the entry, or leave [restrict_role] out to limit the application's own role.",
                );
            }
        }
    }
    Ok(())
}

/// What `[[restrict]]` asks for is in force before general traffic comes.
pub fn restrictions_in_force(run: &mut Run, checked: &mut Checked) -> Result<()> {
    restrict::check_in_force(run, checked)
}

/// General roles can be kept out of the source.
pub fn source_fence(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let roles = run.config.traffic.roles.clone();
    fence_on(run, checked, Side::Source, &roles)
}

/// General roles can be kept out of the target.
pub fn target_fence(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let mut roles = run.config.general_roles(Side::Target);
    // Where it is not made yet, others tell of it.
    if let Some(limited) = limited_role(run)
        && list_roles(run.target(), std::slice::from_ref(&limited))?.is_empty()
    {
        roles.retain(|role| *role != limited);
    }
    fence_on(run, checked, Side::Target, &roles)
}

fn fence_on(run: &mut Run, checked: &mut Checked, side: Side, roles: &[String]) -> Result<()> {
    let (kind, earlier) = (run.config.traffic.fence, run.stored_fence(side)?);
    checked.append(fence::check(run.session(side), kind, roles, earlier.as_ref())?);
    Ok(())
}

/// What a client can do in spite of the fence, of which nothing can be seen before it does.
pub fn worth_of_the_fence(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.config.traffic.fence == FenceKind::ReadOnly {
        checked.warn(
            "fence",
            "traffic.fence",
            "a client that makes its transactions read-write itself (SET, BEGIN READ WRITE, options of its connection), or \
             resets its role's setting, can write on the side that does not serve",
            "See that the application does none of it; status names its sessions there under wrong_side.",
        );
    }
    Ok(())
}

/// Every router can be reached and can do what a switch asks of it.
pub fn router(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let budget = run.max_pause.unwrap_or(DEFAULT_MAX_PAUSE);
    checked.append(run.routers()?.check(budget));
    // A router that cannot be asked is a finding already.
    let mut logins = run.routers()?.login_roles().unwrap_or_default();
    // That one is looked at with the general roles.
    let limited = limited_role(run);
    logins.retain(|role| Some(role) != limited.as_ref());
    let found = list_roles(run.target(), &logins)?;
    for name in &logins {
        if !found.iter().any(|role| &role.name == name && role.can_login && role.may_connect) {
            let message = format!("the router logs in as \"{name}\", who may not connect to the target");
            let hint = "Create it there as on the source, with the rights and the function that it uses.";
            checked.fail("router_login", name, message, hint);
        }
    }
    forced_roles(run, checked);
    unheld_roles(run, checked);
    other_ways(run, checked);
    let tells_networks = run.config.router.kind == RouterKind::Haproxy;
    if !tells_networks && !run.config.traffic.admin_networks.is_empty() {
        let hint = "Give administrators connections that do not go through the router, or an entry of their own there.";
        let message =
            "admin_networks has no effect: this kind of router cannot tell clients by their network";
        checked.warn("admin_networks", "traffic.admin_networks", message, hint);
    }
    Ok(())
}

/// The fence and the restrictions are against the roles that are named: one that a router makes of all clients has to be among
/// them.
fn forced_roles(run: &mut Run, checked: &mut Checked) {
    for (router, side, role) in run.routers().and_then(Routers::forced_roles).unwrap_or_default() {
        if !run.config.general_roles(side).contains(&role) {
            let message = format!(
                "all its clients are \"{role}\" on the {side}, whom no fence there would keep from writing"
            );
            let hint = format!("Name \"{role}\" under traffic.roles, or another user= in the entry.");
            checked.fail("router_user", &router, message, hint);
        }
    }
}

/// What else leads through a router to where general traffic goes is for administrators: the fence keeps general roles from writing
/// there once that has moved.
fn other_ways(run: &mut Run, checked: &mut Checked) {
    let mut general = run.config.general_roles(Side::Source);
    general.extend(run.config.general_roles(Side::Target));
    for (router, way) in run.routers().and_then(Routers::other_ways).unwrap_or_default() {
        let who = match (&way.forced, way.users.iter().find(|user| general.contains(user))) {
            (Some(forced), _) if !general.contains(forced) => continue,
            (Some(forced), _) => format!("all its clients are \"{forced}\" there"),
            (None, Some(user)) => format!("clients have come that way as \"{user}\""),
            (None, None) if way.users.is_empty() => "nobody has come that way since it was started".into(),
            (None, None) => continue,
        };
        let message = format!(
            "its entry \"{}\" leads to the same database, and no [[router.pgbouncer]] moves it: {who}",
            way.name
        );
        let hint = "Give it a [[router.pgbouncer]], or the application the entry that is moved, if general roles come that way: \
                    once general traffic has moved, they cannot write there. As a way in for administrators it is right.";
        checked.warn("router_entry", &router, message, hint);
    }
}

/// General roles can be held.
fn unheld_roles(run: &mut Run, checked: &mut Checked) {
    let general = run.config.general_roles(Side::Target);
    for (router, role) in run.routers().and_then(Routers::unheld_roles).unwrap_or_default() {
        let message = format!("user \"{role}\" pools sessions: PAUSE waits until its clients disconnect");
        let hint = format!("Set pool_mode = transaction for \"{role}\" under [users], then run RELOAD.");
        if general.contains(&role) {
            checked.fail("router_pool_mode", &router, message, hint);
        } else {
            let hint = format!("{hint} Not where it uses other databases only.");
            checked.warn("router_pool_mode", &router, message, hint);
        }
    }
}

/// The entry that clients get back leads to where the source is.
pub fn way_home(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let Some(before) = run.facts()?.source_place else { return Ok(()) };
    let now = run.server(Side::Source).conninfo.places();
    if now == before {
        return Ok(());
    }
    for entry in run.config.router.pgbouncer.iter().filter(|entry| entry.source.is_none()) {
        let object = format!("router.pgbouncer.source of {}", entry.database);
        let message = format!(
            "[source] leads to {now}, and led to {before} when the entry was stored that clients would get back"
        );
        let hint = "Write source = \"...\" under [[router.pgbouncer]]: the entry's value for where the source is now; \
                    what the entry was, if that still leads there.";
        checked.fail("router_source", &object, message, hint);
    }
    Ok(())
}

/// What sessions on the source hold that does not move with them.
pub fn source_session_state(run: &mut Run, checked: &mut Checked) -> Result<()> {
    session_state(run, checked, Side::Source)
}

/// What sessions on the target hold that does not move with them.
pub fn target_session_state(run: &mut Run, checked: &mut Checked) -> Result<()> {
    session_state(run, checked, Side::Target)
}

/// Sessions on the source that do not come through the router.
pub fn source_direct_sessions(run: &mut Run, checked: &mut Checked) -> Result<()> {
    direct_sessions(run, checked, Side::Source)
}

/// Sessions on the target that do not come through the router.
pub fn target_direct_sessions(run: &mut Run, checked: &mut Checked) -> Result<()> {
    direct_sessions(run, checked, Side::Target)
}

fn direct_sessions(run: &mut Run, checked: &mut Checked, side: Side) -> Result<()> {
    let roles = run.config.general_roles(side);
    // The router's connections come and go: one that it had before or has after is its own.
    let Ok(Some(mut routed)) = run.routers()?.server_ports() else { return Ok(()) };
    let ports = sessions::list_ports(run.session(side), &roles)?;
    let listed = sessions::list_sessions(run.session(side), &roles)?;
    routed.extend(run.routers()?.server_ports()?.unwrap_or_default());
    let mut direct = Vec::new();
    for (pid, address, port) in ports.iter().filter(|(_, _, port)| !routed.contains(port)) {
        let Some(session) = listed.iter().find(|session| session.pid == Some(*pid)) else { continue };
        let message = format!(
            "role \"{}\" is connected from {address}:{port} (pid {pid}, {}) without the router",
            session.role, session.state
        );
        let hint =
            "Point that client at the router. The switch ends its session, and the fence keeps it out.";
        direct.push((message, hint.to_owned()));
    }
    warn_of_first(checked, "direct_session", side, direct, "sessions are connected without the router");
    Ok(())
}

/// Warns of the first of them, each with what to do about it, and of how many there are `of_kind` beside.
fn warn_of_first(
    checked: &mut Checked,
    check: &'static str,
    side: Side,
    mut found: Vec<(String, String)>,
    of_kind: &str,
) {
    let more = found.split_off(found.len().min(NAMED)).len();
    for (message, hint) in found {
        checked.warn(check, side.name(), message, hint);
    }
    if more > 0 {
        let hint = "pg_stat_activity and pg_prepared_xacts there show all of them.";
        checked.warn(check, side.name(), format!("{more} more {of_kind}"), hint);
    }
}

fn session_state(run: &mut Run, checked: &mut Checked, side: Side) -> Result<()> {
    let roles = run.config.general_roles(side);
    for (kind, holders, example) in sessions::list_state(run.session(side), &roles)? {
        let message =
            format!("general roles hold {kind} there ({holders}, such as {example}), which do not move");
        let hint = "See that the application takes them anew on its next connection.";
        checked.warn("session_state", side.name(), message, hint);
    }
    Ok(())
}

/// What general roles have open on the source can be ended.
pub fn source_sessions(run: &mut Run, checked: &mut Checked) -> Result<()> {
    general_sessions(run, checked, Side::Source)
}

/// What general roles have open on the target can be ended.
pub fn target_sessions(run: &mut Run, checked: &mut Checked) -> Result<()> {
    general_sessions(run, checked, Side::Target)
}

fn general_sessions(run: &mut Run, checked: &mut Checked, side: Side) -> Result<()> {
    let roles = run.config.general_roles(side);
    checked.append(sessions::check(run.session(side), &roles)?);
    let pause = run.max_pause.unwrap_or(DEFAULT_MAX_PAUSE);
    let mut found = Vec::new();
    for open in sessions::list_sessions(run.session(side), &roles)? {
        if open.transaction_seconds.is_none_or(|seconds| seconds < pause.as_secs_f64()) {
            continue;
        }
        let message = format!("{open}: it is open for longer than clients may be held for it");
        let hint = match open.ended_by() {
            Some(statements) => format!("Run {statements}."),
            None => "See that it ends, or give --terminate-after for the switch to end it.".into(),
        };
        found.push((message, hint));
    }
    warn_of_first(checked, "open_transaction", side, found, "transactions are open for that long");
    Ok(())
}

/// Nobody else on the source has written for long what a cutover has to wait for.
pub fn source_writers(run: &mut Run, checked: &mut Checked) -> Result<()> {
    writers(run, checked, Side::Source)
}

/// Nobody else on the target has written for long what a cutback has to wait for.
pub fn target_writers(run: &mut Run, checked: &mut Checked) -> Result<()> {
    writers(run, checked, Side::Target)
}

fn writers(run: &mut Run, checked: &mut Checked, side: Side) -> Result<()> {
    let pause = run.max_pause.unwrap_or(DEFAULT_MAX_PAUSE);
    let mut found = Vec::new();
    for (_, writer) in run.writers_on(side)? {
        if writer.transaction_seconds.is_some_and(|seconds| seconds >= pause.as_secs_f64()) {
            let message = format!("{writer}: it has written to a table that is carried over");
            let hint = "See that it ends: the switch waits for that, as long as --drain-timeout allows.";
            found.push((message, hint.to_owned()));
        }
    }
    warn_of_first(checked, "open_transaction", side, found, "transactions have written to such tables");
    Ok(())
}

/// Nobody has let general roles into the source again, nor has a restore.
pub fn source_stays_fenced(run: &mut Run, checked: &mut Checked) -> Result<()> {
    if run.phase() == Phase::Detoured && !run.config.traffic.roles.is_empty() && !run.source_is_fenced()? {
        let message = "general roles are let in, and what they write there is not on the target";
        checked.warn("fence", "source", message, KEEP_OUT);
    }
    Ok(())
}

/// What keeps general roles out of the source while the target serves.
pub const KEEP_OUT: &str = "Run pgdetour cutover again: it raises the fence there anew.";
