//! The fence: general roles cannot connect to one database, or are read-only there; nothing changes for everybody else.

mod read_only;

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use postgres::error::SqlState;

use crate::config::FenceKind;
use crate::error::{Checked, Doing as _, Error, Result};
use crate::pg::Session;
use crate::sql::{self, quote_identifier};
pub use read_only::{RoleSetting, SETTING};

/// How often a change of the database's grants or its roles' settings is tried when somebody else changes them at the same moment.
const ATTEMPTS: u32 = 10;

const COMMIT: &str = "commit";

/// CONNECT on the database, granted by one role to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ConnectGrant {
    /// Who granted it.
    pub grantor: String,
    /// To whom; None for PUBLIC.
    pub grantee: Option<String>,
    /// WITH GRANT OPTION.
    pub grantable: bool,
    /// The grantor owned the database.
    pub by_owner: bool,
}

impl ConnectGrant {
    fn grantee_quoted(&self) -> String {
        self.grantee.as_deref().map_or_else(|| "public".into(), quote_identifier)
    }

    /// `statement` as the grantor: only who granted can revoke. For the owner a member or superuser acts by itself.
    fn as_grantor(&self, statement: &str) -> String {
        if self.by_owner {
            format!("{statement};\n")
        } else {
            format!("set role {};\n{statement};\nreset role;\n", quote_identifier(&self.grantor))
        }
    }

    fn is_same(&self, other: &ConnectGrant) -> bool {
        (&self.grantor, &self.grantee) == (&other.grantor, &other.grantee)
    }
}

/// What raising a fence takes and gives, which is all that lowering it needs. To be stored before it is raised.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FenceUndo {
    /// What it does to them; a record of before there was a choice says nothing.
    #[serde(default)]
    pub kind: FenceKind,
    /// The general roles that it is against.
    pub roles: Vec<String>,
    /// Grants taken away; a grantor stands before those who owe their grant to him.
    pub revoked: Vec<ConnectGrant>,
    /// Roles that get CONNECT from the owner, since they had it only through what is taken away.
    pub granted: Vec<String>,
    /// What a read-only fence changes.
    #[serde(default)]
    pub settings: Vec<RoleSetting>,
}

impl FenceUndo {
    /// What lowers both this fence, of which something was taken away meanwhile, and one that was raised over what is left of it.
    pub fn and(&self, later: &FenceUndo) -> FenceUndo {
        let mut both = later.clone();
        let is_new = |grant: &&ConnectGrant| !later.revoked.iter().any(|other| other.is_same(grant));
        let mut revoked: Vec<ConnectGrant> = self.revoked.iter().filter(is_new).cloned().collect();
        revoked.append(&mut both.revoked);
        both.revoked = revoked;
        both.granted.extend(self.granted.iter().filter(|role| !later.granted.contains(role)).cloned());
        both
    }
}

/// What takes back by hand what a fence does to `roles`; `known` is what lowers it, where that is known.
pub fn opening_statements(
    kind: FenceKind,
    roles: &[String],
    database: &str,
    known: Option<&FenceUndo>,
) -> String {
    let database = quote_identifier(database);
    match kind {
        FenceKind::Closed => {
            let roles: Vec<String> = roles.iter().map(|role| quote_identifier(role)).collect();
            format!("GRANT CONNECT ON DATABASE {database} TO {};", roles.join(", "))
        }
        FenceKind::ReadOnly => {
            let opening = |role: &String| {
                let setting = known.and_then(|known| known.setting_of(role));
                read_only::opening_statement(role, &database, setting)
            };
            roles.iter().map(opening).collect::<Vec<_>>().join(" ")
        }
    }
}

/// A grant, and whether it lets a general role in.
struct Listed {
    grant: ConnectGrant,
    to_owner: bool,
    reaches_general: bool,
}

impl Listed {
    /// From a row in text form, its columns in the statement's order.
    fn of_text(row: &[Option<String>]) -> Listed {
        let is = |at: usize| row[at].as_deref() == Some("t");
        Listed {
            grant: ConnectGrant {
                grantor: row[0].clone().unwrap_or_default(),
                grantee: row[1].clone(),
                grantable: is(2),
                by_owner: is(3),
            },
            to_owner: is(4),
            reaches_general: is(5),
        }
    }
}

/// A role that would lose CONNECT with the general roles.
struct Bereft {
    role: String,
    is_us: bool,
    /// General roles that are members of it, and would get CONNECT with it.
    leads: Vec<String>,
}

/// What raising a fence against `roles` will do; changes nothing. Once it is raised there is nothing left to
/// do, so a stored plan of a closed fence must not be replaced by a later one. `earlier` is what was planned for this
/// database before: what a read-only fence has set is not taken for what was there.
pub fn plan_fence(
    session: &mut Session,
    kind: FenceKind,
    roles: &[String],
    earlier: Option<&FenceUndo>,
) -> Result<FenceUndo> {
    if kind == FenceKind::ReadOnly {
        return read_only::plan(session, roles, earlier);
    }
    let (undo, bereft) = plan(session, roles)?;
    if let Some(locked_out) = bereft.iter().find(|bereft| !bereft.leads.is_empty()) {
        return Err(Error::Refused {
            kind: "fence_locks_out",
            message: locked_out_message(locked_out),
            detail: None,
            hint: locked_out_hint(locked_out),
        });
    }
    Ok(undo)
}

/// Keeps the planned roles out of the database, or from writing there, in one round trip that proves that it holds for all
/// of them; when it does not, it is lowered again. Sessions that are open stay as they are. Raising it again has no effect.
pub fn raise(session: &mut Session, undo: &FenceUndo) -> Result<()> {
    raise_and_look(session, undo, "").map(drop)
}

/// The same, and asks once the fence stands, in the same round trip, statements that give rows of more than one column;
/// these rows.
pub fn raise_and_look(
    session: &mut Session,
    undo: &FenceUndo,
    looking: &str,
) -> Result<Vec<Vec<Option<String>>>> {
    let raised = raise_and(session, undo, Ending::CommitAtOnce, looking);
    if raised.as_ref().is_err_and(|error| error.kind() == "fence_open") {
        lower_at_once(session, undo)?;
    }
    raised
}

/// The same, rolled back at the end: proves that it can be done.
pub fn try_to_raise(session: &mut Session, undo: &FenceUndo) -> Result<()> {
    raise_and(session, undo, Ending::Rollback, "").map(drop)
}

/// What becomes of a change of grants or settings that has had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Once it is proved.
    Commit,
    /// Proved by what it came to: a round trip less, for a change that can be taken back.
    CommitAtOnce,
    /// Not yet: the caller ends the transaction.
    Open,
    Rollback,
}

fn raise_and(
    session: &mut Session,
    undo: &FenceUndo,
    ending: Ending,
    looking: &str,
) -> Result<Vec<Vec<Option<String>>>> {
    let database = quote_identifier(&session.database);
    let (script, proof) = match undo.kind {
        FenceKind::Closed => (closing_script(undo, &database), listing_admitted(&undo.roles)),
        FenceKind::ReadOnly => (read_only::raising_script(undo, &database), read_only::proof(&undo.roles)),
    };
    let end = if ending == Ending::CommitAtOnce { format!(";\ncommit;\n{looking}") } else { String::new() };
    let mut seen = Vec::new();
    change(session, &script, &format!("{proof}{end}"), (ending, COMMIT), &mut false, |rows| {
        // The proof's rows have one column; those of what was asked behind it have more.
        let (exempt, looked): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.len() == 1);
        let exempt: Vec<&str> = exempt.iter().filter_map(|row| row[0].as_deref()).collect();
        seen = looked.into_iter().cloned().collect();
        match (exempt.is_empty(), undo.kind) {
            (true, _) => Ok(()),
            (false, FenceKind::Closed) => Err(still_admitted(&exempt, &database)),
            (false, FenceKind::ReadOnly) => Err(read_only::still_writing(&exempt, &database)),
        }
    })
    .doing(|| match undo.kind {
        FenceKind::Closed => format!("keep general roles out of database {database}"),
        FenceKind::ReadOnly => format!("make general roles read-only in database {database}"),
    })?;
    Ok(seen)
}

/// The statements that raise a closed fence.
fn closing_script(undo: &FenceUndo, database: &str) -> String {
    let revoke = |grant: &ConnectGrant| {
        grant.as_grantor(&format!("revoke connect on database {database} from {}", grant.grantee_quoted()))
    };
    let mut statements: Vec<String> = undo.revoked.iter().rev().map(revoke).collect();
    if !undo.granted.is_empty() {
        let grantees: Vec<String> = undo.granted.iter().map(|role| quote_identifier(role)).collect();
        statements.push(format!("grant connect on database {database} to {};\n", grantees.join(", ")));
    }
    statements.concat()
}

fn still_admitted(roles: &[&str], database: &str) -> Error {
    Error::Refused {
        kind: "fence_open",
        message: format!("role \"{}\" may still connect to database {database}", roles.join("\", \"")),
        detail: Some(
            "Somebody has granted CONNECT since the fence was planned, or the role is a superuser.".into(),
        ),
        hint: format!(
            "Run REVOKE CONNECT ON DATABASE {database} FROM PUBLIC, or from the role that lets it in."
        ),
    }
}

/// What lowering a fence will do, found out before it has to be done fast.
#[derive(Debug, Clone)]
pub struct Lowering {
    script: String,
    present: HashSet<String>,
}

impl FenceUndo {
    /// All roles that it concerns, beside the general ones.
    fn named(&self) -> impl Iterator<Item = &String> {
        let grants = self.revoked.iter().flat_map(|grant| [Some(&grant.grantor), grant.grantee.as_ref()]);
        grants.flatten().chain(&self.granted)
    }
}

/// Finds out in one round trip what lowering has to do now. Changes nothing.
pub fn plan_lowering(session: &mut Session, undo: &FenceUndo) -> Result<Lowering> {
    let database = quote_identifier(&session.database);
    if undo.kind == FenceKind::ReadOnly {
        let now = read_only::list(session, &undo.roles)?;
        let script = read_only::lowering_script(&now, undo, &database);
        return Ok(Lowering { script, present: HashSet::new() });
    }
    let named: Vec<String> = undo.named().cloned().collect();
    let present = sql::fence::LIST_PRESENT_ROLES.text.replace("$1::text[]", &sql::quote_array(&named));
    let rows = session.ask_script(&format!("{present};\n{}", listing_grants(&undo.roles)));
    let rows = rows.doing(|| format!("read who may connect to database {database}"))?;
    let (present, grants): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.len() == 1);
    let present: HashSet<String> = present.iter().filter_map(|row| row[0].clone()).collect();
    let grants: Vec<Listed> = grants.iter().map(|row| Listed::of_text(row)).collect();
    let script = lowering_script(&grants, undo, &present, &database);
    Ok(Lowering { script, present })
}

/// Gives back what was taken and takes back what was given, in two round trips, since clients may be waiting. What others have
/// granted or set meanwhile stays, and what cannot be given back does not keep the rest. Lowering it again has no effect.
pub fn lower(session: &mut Session, undo: &FenceUndo) -> Result<()> {
    let plan = plan_lowering(session, undo)?;
    lower_and(session, undo, &plan, Ending::CommitAtOnce, &mut false)
}

/// The same for a fence that stands, in one round trip where nobody has changed roles since it was raised. Where none stands,
/// it would make grants that PostgreSQL implies, or undo what others have set.
pub fn lower_at_once(session: &mut Session, undo: &FenceUndo) -> Result<()> {
    let database = quote_identifier(&session.database);
    let script = match undo.kind {
        FenceKind::Closed => statements_that_lower(undo, &database, |_| true, |_| true),
        FenceKind::ReadOnly => read_only::lowering_script_at_once(undo, &database),
    };
    let expected = Lowering { script, present: undo.named().cloned().collect() };
    match lower_and(session, undo, &expected, Ending::CommitAtOnce, &mut false) {
        Err(error) if !error.is_connection_lost() => lower(session, undo),
        lowered => lowered,
    }
}

/// The same, in two round trips, from a plan of earlier. `committing` is set before the statement is sent whose answer may
/// be lost: until then the fence stands for sure.
pub fn lower_as_planned(
    session: &mut Session,
    undo: &FenceUndo,
    plan: &Lowering,
    committing: &mut bool,
) -> Result<()> {
    lower_and(session, undo, plan, Ending::Commit, committing)
}

/// The first of these two round trips alone: the fence stands until the session commits.
pub fn begin_to_lower(session: &mut Session, undo: &FenceUndo, plan: &Lowering) -> Result<()> {
    lower_and(session, undo, plan, Ending::Open, &mut false)
}

fn lower_and(
    session: &mut Session,
    undo: &FenceUndo,
    plan: &Lowering,
    ending: Ending,
    committing: &mut bool,
) -> Result<()> {
    let database = quote_identifier(&session.database);
    let commit = committing_script(undo, plan);
    let end = if ending == Ending::CommitAtOnce { format!(";\n{commit}") } else { String::new() };
    let look = match undo.kind {
        FenceKind::Closed => listing_grants(&undo.roles),
        FenceKind::ReadOnly => read_only::listing(&undo.roles),
    };
    let proof = format!("{look}{end}");
    let lowered = change(session, &plan.script, &proof, (ending, &commit), committing, |rows| {
        let left = match undo.kind {
            FenceKind::Closed => {
                let now: Vec<Listed> = rows.iter().map(|row| Listed::of_text(row)).collect();
                lowering_script(&now, undo, &plan.present, &database)
            }
            FenceKind::ReadOnly => read_only::lowering_script(&read_only::of_text(rows), undo, &database),
        };
        if left.is_empty() { Ok(()) } else { Err(not_restored(&left, &database)) }
    });
    lowered.doing(|| match undo.kind {
        FenceKind::Closed => format!("let general roles into database {database}"),
        FenceKind::ReadOnly => format!("let general roles write in database {database}"),
    })
}

/// What ends a lowering. Sessions that began behind a read-only fence stay read-only: idle ones are ended with it, so that
/// clients who did not look for that come back to where they can write.
fn committing_script(undo: &FenceUndo, plan: &Lowering) -> String {
    if undo.kind == FenceKind::Closed || plan.script.is_empty() {
        return COMMIT.to_owned();
    }
    format!("{COMMIT};\n{}", read_only::ending_fenced(&undo.roles))
}

/// Commits what [`begin_to_lower`] has begun.
pub fn commit_lowering(session: &mut Session, undo: &FenceUndo, plan: &Lowering) -> Result<()> {
    session.change_script(&committing_script(undo, plan))
}

/// `left` are the statements that have had no effect.
fn not_restored(left: &str, database: &str) -> Error {
    let statements = left.trim().replace('\n', " ");
    Error::Refused {
        kind: "fence_closed",
        message: format!("what the fence changed in database {database} could not be restored"),
        detail: Some(format!("Without effect: {statements}")),
        hint: "Run these statements as a superuser, then run the same command again.".into(),
    }
}

/// Whether the fence holds for each of `roles` that exists.
pub fn is_raised(session: &mut Session, kind: FenceKind, roles: &[String]) -> Result<bool> {
    let exempt = match kind {
        FenceKind::Closed => &sql::fence::LIST_ADMITTED_ROLES,
        FenceKind::ReadOnly => &sql::fence::LIST_WRITING_ROLES,
    };
    Ok(session.query(exempt, &[&roles])?.is_empty())
}

/// Whether lowering a read-only fence would change anything.
pub fn stands(session: &mut Session, undo: &FenceUndo) -> Result<bool> {
    Ok(!plan_lowering(session, undo)?.script.is_empty())
}

/// Every precondition of a fence against `roles`; `earlier` as in [`plan_fence`].
pub fn check(
    session: &mut Session,
    kind: FenceKind,
    roles: &[String],
    earlier: Option<&FenceUndo>,
) -> Result<Checked> {
    let mut checked = Checked::default();
    let side = session.place.name();
    let database = quote_identifier(&session.database);
    let rows = session.query(&sql::fence::DESCRIBE_ROLES, &[&roles])?;
    for row in &rows {
        let role = quote_identifier(row.get("role_name"));
        let object = format!("{side}: role {role}");
        if !row.get::<_, bool>("present") {
            let hint = format!("Create it, or correct traffic.roles: CREATE ROLE {role} LOGIN;");
            checked.fail("general_role", &object, "it does not exist", hint);
            continue;
        }
        if row.get("superuser") {
            let hint = format!("Run ALTER ROLE {role} NOSUPERUSER, or let the application use another role.");
            checked.fail("general_role", &object, "it is a superuser: no fence keeps it out", hint);
        }
        if row.get("is_us") {
            let hint = "Connect as a role that is not listed under traffic.roles.";
            checked.fail("general_role", &object, "it is the role that pgdetour connects as", hint);
        }
        // What keeps it from writing it may reset in any case, owner or not.
        if kind == FenceKind::Closed && row.get("owner") {
            checked.fail(
                "general_role",
                &object,
                format!("it owns database {database}, and could let itself in again from another database"),
                format!("Run ALTER DATABASE {database} OWNER TO a role that the application does not use."),
            );
        }
    }
    if kind == FenceKind::ReadOnly {
        checked.append(read_only::check(session, roles, earlier)?);
        return Ok(checked);
    }
    let Some(row) = rows.first() else { return Ok(checked) };
    let (superuser, we_own): (bool, bool) = (row.get("we_are_superuser"), row.get("we_own"));
    let (us, owner) = (quote_identifier(row.get("our_name")), quote_identifier(row.get("owner_name")));
    if !we_own && !superuser {
        checked.fail(
            "fence",
            side,
            format!("{us} cannot change who may connect to database {database}"),
            format!("Run GRANT {owner} TO {us}, or connect as {owner} or as a superuser."),
        );
    }
    let (undo, bereft) = plan(session, roles)?;
    for locked_out in bereft.iter().filter(|bereft| !bereft.leads.is_empty()) {
        checked.fail("fence", side, locked_out_message(locked_out), locked_out_hint(locked_out));
    }
    for grant in undo.revoked.iter().filter(|grant| !grant.by_owner && !superuser) {
        let grantor = quote_identifier(&grant.grantor);
        checked.fail(
            "fence",
            side,
            format!("CONNECT on database {database} was granted by {grantor}, who alone can revoke it"),
            format!(
                "Run as {grantor}: REVOKE CONNECT ON DATABASE {database} FROM {}; or connect as a superuser.",
                grant.grantee_quoted()
            ),
        );
    }
    Ok(checked)
}

fn locked_out_message(bereft: &Bereft) -> String {
    let who = if bereft.is_us { ", as which pgdetour connects," } else { "" };
    format!(
        "role \"{}\"{who} would be kept out with \"{}\", which is a member of it",
        bereft.role,
        bereft.leads.join("\", \"")
    )
}

fn locked_out_hint(bereft: &Bereft) -> String {
    let (role, member) = (quote_identifier(&bereft.role), quote_identifier(&bereft.leads[0]));
    format!("Run REVOKE {role} FROM {member}; or add {role} to traffic.roles if it is the application's too.")
}

fn plan(session: &mut Session, roles: &[String]) -> Result<(FenceUndo, Vec<Bereft>)> {
    let (revoked, kept) = split(list_grants(session, roles)?);
    let keepers: Vec<String> = kept.into_iter().filter_map(|grant| grant.grantee).collect();
    let rows = session.query(&sql::fence::LIST_BEREFT_ROLES, &[&roles, &keepers])?;
    let bereft: Vec<Bereft> = rows
        .iter()
        .map(|row| Bereft { role: row.get("role_name"), is_us: row.get("is_us"), leads: row.get("leads") })
        .collect();
    let granted = bereft.iter().map(|bereft| bereft.role.clone()).collect();
    let undo =
        FenceUndo { kind: FenceKind::Closed, roles: roles.to_vec(), revoked, granted, settings: Vec::new() };
    Ok((undo, bereft))
}

/// The grants that have to go, a grantor before those who depend on him, and those that stay.
fn split(listed: Vec<Listed>) -> (Vec<ConnectGrant>, Vec<ConnectGrant>) {
    let (first, mut rest): (Vec<Listed>, Vec<Listed>) =
        listed.into_iter().partition(|listed| listed.reaches_general);
    let mut revoked = Vec::new();
    let mut queue = first;
    while !queue.is_empty() {
        // The owner's right to grant does not come from a grant.
        let givers: HashSet<String> = queue
            .iter()
            .filter(|listed| listed.grant.grantable && !listed.to_owner)
            .filter_map(|listed| listed.grant.grantee.clone())
            .collect();
        revoked.extend(queue.into_iter().map(|listed| listed.grant));
        (queue, rest) = rest
            .into_iter()
            .partition(|listed| !listed.grant.by_owner && givers.contains(&listed.grant.grantor));
    }
    // One that reaches a general role may itself depend on another such grant.
    let mut ordered: Vec<ConnectGrant> = Vec::new();
    while !revoked.is_empty() {
        let (ready, waiting): (Vec<_>, Vec<_>) = revoked.iter().cloned().partition(|grant| {
            grant.by_owner
                || !revoked
                    .iter()
                    .any(|giver| giver.grantable && giver.grantee.as_ref() == Some(&grant.grantor))
        });
        if ready.is_empty() {
            // PostgreSQL refuses circular grants.
            ordered.extend(waiting);
            break;
        }
        ordered.extend(ready);
        revoked = waiting;
    }
    (ordered, rest.into_iter().map(|listed| listed.grant).collect())
}

/// The statements that lower a fence where `now` are the grants and `present` the roles that exist.
fn lowering_script(now: &[Listed], undo: &FenceUndo, present: &HashSet<String>, database: &str) -> String {
    let is_given = |role: &String| {
        now.iter().any(|listed| listed.grant.by_owner && listed.grant.grantee.as_ref() == Some(role))
    };
    let is_missing = |grant: &ConnectGrant| {
        let is_known = present.contains(&grant.grantor)
            && grant.grantee.as_ref().is_none_or(|grantee| present.contains(grantee));
        let stands = now
            .iter()
            .any(|listed| listed.grant.is_same(grant) && (listed.grant.grantable || !grant.grantable));
        is_known && !stands
    };
    statements_that_lower(undo, database, is_given, is_missing)
}

/// Takes back what `is_given`, and gives what `is_missing`.
fn statements_that_lower(
    undo: &FenceUndo,
    database: &str,
    is_given: impl Fn(&String) -> bool,
    is_missing: impl Fn(&ConnectGrant) -> bool,
) -> String {
    let revoke =
        |role: &String| format!("revoke connect on database {database} from {};\n", quote_identifier(role));
    let grant = |grant: &ConnectGrant| {
        let option = if grant.grantable { " with grant option" } else { "" };
        let grantee = grant.grantee_quoted();
        grant.as_grantor(&format!("grant connect on database {database} to {grantee}{option}"))
    };
    let revokes = undo.granted.iter().filter(|role| is_given(role)).map(revoke);
    revokes.chain(undo.revoked.iter().filter(|grant| is_missing(grant)).map(grant)).collect()
}

fn listing_grants(roles: &[String]) -> String {
    sql::fence::LIST_CONNECT_GRANTS.text.replace("$1::text[]", &sql::quote_array(roles))
}

fn list_grants(session: &mut Session, roles: &[String]) -> Result<Vec<Listed>> {
    let rows = session.ask_script(&listing_grants(roles)).doing(|| "list connect grants".into())?;
    Ok(rows.iter().map(|row| Listed::of_text(row)).collect())
}

fn listing_admitted(roles: &[String]) -> String {
    sql::fence::LIST_ADMITTED_ROLES.text.replace("$1::text[]", &sql::quote_array(roles))
}

/// Runs `script` and commits when `proof`, whose rows `prove` looks at, shows that it has had its effect: two round
/// trips, or one. Tried again when somebody else has changed the same row of the catalog at the same moment.
fn change(
    session: &mut Session,
    script: &str,
    proof: &str,
    (ending, commit): (Ending, &str),
    committing: &mut bool,
    mut prove: impl FnMut(&[Vec<Option<String>>]) -> Result<()>,
) -> Result<()> {
    if session.is_dry() {
        return match script {
            "" => Ok(()),
            script if ending == Ending::Rollback => {
                session.change_script(&format!("begin;\n{script}rollback"))
            }
            script => session.atomically(|session| session.change_script(script)),
        };
    }
    let mut attempt = 1;
    loop {
        *committing |= ending == Ending::CommitAtOnce;
        let begun = session.ask_script(&format!("begin;\n{script}{proof}"));
        match begun.and_then(|rows| prove(&rows)) {
            Ok(()) if matches!(ending, Ending::CommitAtOnce | Ending::Open) => return Ok(()),
            Ok(()) if ending == Ending::Commit => {
                *committing = true;
                return session.change_script(commit);
            }
            Ok(()) => return session.change_script("rollback"),
            Err(error) => {
                // The first failure is the one to report; a lost session has rolled back by itself.
                let _ = session.change_script("rollback");
                // "tuple concurrently updated" has no code of its own.
                if attempt == ATTEMPTS || !error.is_sqlstate(&SqlState::INTERNAL_ERROR) {
                    return Err(error);
                }
                attempt += 1;
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

#[cfg(test)]
mod tests;
