//! A dump fitted to the server that it goes to: what that server cannot take is left out, and named.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::error::Result;
use crate::pg::Session;
use crate::pg::dump::lexer::{self, Token};
use crate::pg::dump::script::Entry;
use crate::sql;

/// Settings at the head of a dump that concern psql's session; ours are pinned.
const HOUSEKEEPING: [&str; 9] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "client_encoding",
    "standard_conforming_strings",
    "client_min_messages",
    "row_security",
    "default_with_oids",
];

/// What the receiving server has and what our role may do there.
#[derive(Debug, Clone, Default)]
pub struct Abilities {
    /// Our role is a superuser.
    pub superuser: bool,
    /// Roles that exist.
    pub roles: HashSet<String>,
    /// Roles that our role may give objects to.
    pub own_as: HashSet<String>,
    /// Schemas that exist.
    pub schemas: HashSet<String>,
    /// Of these, those of roles that our role may not act for: where the checks let one pass, the dump has nothing to change of it.
    pub foreign_schemas: HashSet<String>,
    /// Tablespaces that exist.
    pub tablespaces: HashSet<String>,
    /// Parameters that exist.
    pub parameters: HashSet<String>,
    /// Tables and views that were left out of the dump: schema and name.
    pub absent: HashSet<(String, String)>,
    /// Schema and names of entries that cannot be without what is left out: of functions, rules, triggers and their comments.
    pub dependent: HashSet<(String, String)>,
}

/// Asks the receiving server; `absent` and `dependent` are left empty.
pub fn list_abilities(session: &mut Session) -> Result<Abilities> {
    let row = session.query_one(&sql::catalog::LIST_ABILITIES, &[&privilege_to_give(session)])?;
    let set = |name: &str| row.get::<_, Vec<String>>(name).into_iter().collect();
    Ok(Abilities {
        superuser: row.get("superuser"),
        roles: set("roles"),
        own_as: set("own_as"),
        schemas: set("schemas"),
        foreign_schemas: set("foreign_schemas"),
        tablespaces: set("tablespaces"),
        parameters: set("parameters"),
        absent: HashSet::new(),
        dependent: HashSet::new(),
    })
}

/// Which privilege on a role lets ours give objects to it: since 16 membership alone does not allow SET ROLE, which that requires.
pub fn privilege_to_give(session: &Session) -> &'static str {
    if session.version >= 160_000 { "SET" } else { "MEMBER" }
}

/// What was left out, by reason.
#[derive(Debug, Default)]
pub struct LeftOut(BTreeMap<String, BTreeSet<String>>);

impl LeftOut {
    fn add(&mut self, reason: String, what: impl Into<String>) {
        self.0.entry(reason).or_default().insert(what.into());
    }

    /// One warning a reason, with the first few objects that it concerns.
    pub fn warnings(&self) -> Vec<String> {
        let warning = |(reason, what): (&String, &BTreeSet<String>)| {
            let shown: Vec<&str> = what.iter().take(5).map(String::as_str).collect();
            let more = what.len().saturating_sub(shown.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{reason}: {}{more}", shown.join(", "))
        };
        self.0.iter().map(warning).collect()
    }
}

/// The role to which a statement gives an object.
pub fn read_new_owner(statement: &str) -> Option<String> {
    // Few statements do, and reading one takes longer than looking for this.
    statement.contains(" OWNER TO ").then(|| Reader::new(statement).owner()).flatten()
}

/// Takes out of `entries` what the receiving server cannot take.
///
/// Settings become `SET LOCAL`, so that they end with the transaction in which the statements run.
pub fn fit(entries: Vec<Entry>, abilities: &Abilities, left_out: &mut LeftOut) -> Vec<Entry> {
    let mut fitted = Vec::new();
    let mut skipping_grants = false;
    for mut entry in entries {
        let display = entry.display();
        // In the name of privileges the object's is quoted.
        if abilities.dependent.contains(&(entry.schema.clone(), entry.name.replace('"', ""))) {
            if !matches!(entry.kind.as_str(), "COMMENT" | "ACL") {
                left_out.add("what it needs is not mirrored".into(), display);
            }
            continue;
        }
        if entry.schema_itself().is_some_and(|schema| abilities.foreign_schemas.contains(&schema)) {
            continue;
        }
        let mut kept = Vec::new();
        for statement in std::mem::take(&mut entry.statements) {
            let reader = Reader::new(&statement);
            if reader.begins(&["reset", "session", "authorization"]) && skipping_grants {
                skipping_grants = false;
                continue;
            }
            if reader.begins(&["set", "session", "authorization"]) {
                let role = reader.name_at(3).unwrap_or_default();
                skipping_grants = !abilities.superuser || !abilities.roles.contains(&role);
                if skipping_grants {
                    left_out.add(reason_for_role(&role, abilities), format!("grants of {display}"));
                }
            }
            if skipping_grants {
                continue;
            }
            kept.extend(fit_statement(&statement, &reader, &display, abilities, left_out));
        }
        entry.statements = kept;
        fitted.push(entry);
    }
    fitted.retain(|entry| !entry.statements.is_empty());
    fitted
}

fn reason_for_role(role: &str, abilities: &Abilities) -> String {
    if abilities.roles.contains(role) {
        format!("may not act for role \"{role}\"")
    } else {
        format!("role \"{role}\" does not exist")
    }
}

/// The statement as it is to run, or nothing.
fn fit_statement(
    statement: &str,
    reader: &Reader,
    display: &str,
    abilities: &Abilities,
    left_out: &mut LeftOut,
) -> Option<String> {
    if reader.begins(&["set", "session"]) || reader.begins(&["reset"]) {
        return Some(statement.to_owned());
    }
    if reader.begins(&["set"]) {
        return fit_setting(statement, reader, abilities, left_out);
    }
    if statement.starts_with("SELECT pg_catalog.set_config('search_path'") {
        return None;
    }
    if is_ours(statement, reader) {
        return None;
    }
    // An empty one of that name may be there: it is taken over, and stays when the copies go.
    if reader.begins(&["create", "schema"]) {
        return Some(statement.replacen("CREATE SCHEMA ", "CREATE SCHEMA IF NOT EXISTS ", 1));
    }
    if reader.begins(&["comment", "on", "extension"]) && !abilities.superuser {
        left_out.add("may not comment on extensions".into(), display);
        return None;
    }
    let event_trigger = ["create", "alter"].iter().any(|verb| reader.begins(&[verb, "event", "trigger"]))
        || reader.begins(&["comment", "on", "event", "trigger"]);
    if event_trigger && !abilities.superuser {
        left_out.add("only superusers may make event triggers".into(), display);
        return None;
    }
    if reader.begins(&["create", "policy"]) {
        return fit_policy(statement, reader, display, abilities, left_out);
    }
    let missing = |role: &String| !is_public(role) && !abilities.roles.contains(role);
    let unowned = |role: &String| !abilities.superuser && !abilities.own_as.contains(role);
    if let Some(role) = reader.owner() {
        if missing(&role) || unowned(&role) {
            left_out.add(reason_for_role(&role, abilities), format!("ownership of {display}"));
            return None;
        }
    } else if let Some((owner, grantee)) = reader.default_privileges() {
        let lacking =
            if missing(&owner) || unowned(&owner) { Some(owner) } else { Some(grantee).filter(missing) };
        if let Some(role) = lacking {
            left_out.add(reason_for_role(&role, abilities), format!("default privileges {display}"));
            return None;
        }
    } else if let Some(role) = reader.grantee() {
        if missing(&role) {
            left_out.add(reason_for_role(&role, abilities), format!("grants of {display}"));
            return None;
        }
    } else if reader.begins(&["create", "user", "mapping", "for"]) {
        let role = reader.name_at(4).unwrap_or_default();
        if missing(&role) {
            left_out.add(reason_for_role(&role, abilities), display);
            return None;
        }
    } else if let Some(relation) = reader.needed_relation()
        && abilities.absent.contains(&relation)
    {
        left_out.add(format!("\"{}.{}\" is not mirrored", relation.0, relation.1), display);
        return None;
    }
    Some(statement.to_owned())
}

/// A trigger that we have put on a table for as long as a detour lasts: it calls what is not dumped.
fn is_ours(statement: &str, reader: &Reader) -> bool {
    let is_made = reader.begins(&["create", "trigger"])
        && reader.name_at(2).is_some_and(|name| name.starts_with("pgdetour_"));
    is_made || (reader.begins(&["alter", "table"]) && statement.contains(" ENABLE ALWAYS TRIGGER pgdetour_"))
}

fn is_public(role: &str) -> bool {
    role == "public"
}

fn fit_setting(
    statement: &str,
    reader: &Reader,
    abilities: &Abilities,
    left_out: &mut LeftOut,
) -> Option<String> {
    let name = reader.name_at(1)?;
    if HOUSEKEEPING.contains(&name.as_str()) {
        return None;
    }
    if !abilities.parameters.contains(&name) {
        left_out.add(format!("parameter \"{name}\" does not exist"), format!("\"{statement}\""));
        return None;
    }
    if name == "default_tablespace"
        && let Some(tablespace) = reader.name_at(3)
        && !abilities.tablespaces.contains(&tablespace)
    {
        let reason = format!("tablespace \"{tablespace}\" does not exist");
        left_out.add(reason, "its objects go to the default tablespace");
        return Some("SET LOCAL default_tablespace = ''".into());
    }
    Some(statement.replacen("SET ", "SET LOCAL ", 1))
}

/// A policy for roles of which some are missing is made for the others; without any it is left out.
fn fit_policy(
    statement: &str,
    reader: &Reader,
    display: &str,
    abilities: &Abilities,
    left_out: &mut LeftOut,
) -> Option<String> {
    let Some(to) = reader.position(0, "to") else { return Some(statement.to_owned()) };
    let mut roles = Vec::new();
    let mut at = to + 1;
    while let Some(role) = reader.name_at(at) {
        roles.push((role, reader.tokens[at].text(statement)));
        at += 1;
        if !reader.tokens.get(at).is_some_and(|token| token.is_symbol(statement, ',')) {
            break;
        }
        at += 1;
    }
    let (kept, gone): (Vec<_>, Vec<_>) =
        roles.into_iter().partition(|(role, _)| is_public(role) || abilities.roles.contains(role));
    for (role, _) in &gone {
        left_out.add(reason_for_role(role, abilities), display);
    }
    if gone.is_empty() {
        return Some(statement.to_owned());
    }
    if kept.is_empty() {
        return None;
    }
    let names: Vec<&str> = kept.iter().map(|(_, text)| *text).collect();
    let end = reader.tokens[at - 1].end;
    let head = &statement[..reader.tokens[to].end];
    Some(format!("{head} {}{}", names.join(", "), &statement[end..]))
}

/// A statement with its tokens.
struct Reader<'a> {
    statement: &'a str,
    tokens: Vec<Token>,
}

impl<'a> Reader<'a> {
    fn new(statement: &'a str) -> Self {
        Reader { statement, tokens: lexer::tokens(statement) }
    }

    fn begins(&self, keywords: &[&str]) -> bool {
        keywords.len() <= self.tokens.len()
            && keywords.iter().zip(&self.tokens).all(|(word, token)| token.is_word(self.statement, word))
    }

    /// The name, or the string's content when it is a string, at token `at`.
    fn name_at(&self, at: usize) -> Option<String> {
        let token = self.tokens.get(at)?;
        token.name(self.statement)
    }

    /// Index of the first `keyword` outside parentheses, from token `from` on.
    fn position(&self, from: usize, keyword: &str) -> Option<usize> {
        let mut depth = 0_usize;
        self.tokens.iter().enumerate().skip(from).find_map(|(at, token)| {
            match token.text(self.statement) {
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                _ => {}
            }
            (depth == 0 && token.is_word(self.statement, keyword)).then_some(at)
        })
    }

    /// `bob` of `ALTER … OWNER TO bob`.
    fn owner(&self) -> Option<String> {
        let count = self.tokens.len();
        let is_owner = self.begins(&["alter"])
            && count > 3
            && self.tokens[count - 3].is_word(self.statement, "owner")
            && self.tokens[count - 2].is_word(self.statement, "to");
        is_owner.then(|| self.name_at(count - 1)).flatten()
    }

    /// The role of `GRANT … TO role` or `REVOKE … FROM role`.
    fn grantee(&self) -> Option<String> {
        let before = match () {
            () if self.begins(&["grant"]) => "to",
            () if self.begins(&["revoke"]) => "from",
            () => return None,
        };
        let at = self.position(1, before)?;
        self.name_at(at + 1)
    }

    /// Owner and grantee of `ALTER DEFAULT PRIVILEGES FOR ROLE owner … GRANT … TO grantee`.
    fn default_privileges(&self) -> Option<(String, String)> {
        if !self.begins(&["alter", "default", "privileges", "for", "role"]) {
            return None;
        }
        let before = self.position(6, "to").or_else(|| self.position(6, "from"))?;
        Some((self.name_at(5)?, self.name_at(before + 1)?))
    }

    /// The relation that a foreign key refers to, or that a partition is attached to.
    fn needed_relation(&self) -> Option<(String, String)> {
        if !self.begins(&["alter", "table"]) {
            return None;
        }
        let only = usize::from(self.tokens.get(2)?.is_word(self.statement, "only"));
        let (relation, next) = lexer::qualified_name(self.statement, &self.tokens, 2 + only)?;
        let parts = if self.tokens.get(next)?.is_word(self.statement, "attach") {
            relation
        } else {
            let references = self.position(next, "references")?;
            lexer::qualified_name(self.statement, &self.tokens, references + 1)?.0
        };
        let [schema, name] = <[String; 2]>::try_from(parts).ok()?;
        Some((schema, name))
    }
}
