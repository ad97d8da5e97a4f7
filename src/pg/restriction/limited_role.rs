//! The role that general traffic uses on the target: made like the application's, marked as ours, removed with the rest.

use std::borrow::Cow;

use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sha::sha256;
use openssl::sign::Signer;
use postgres::Row;
use postgres::error::SqlState;
use postgres_protocol::password::scram_sha_256;

use crate::error::{Checked, Doing as _, Error, Finding, Result};
use crate::pg::Session;
use crate::sql::{self, quote_identifier, quote_literal};

/// What the limited role is to be.
#[derive(Debug, Clone)]
pub struct LimitedRole {
    /// Its name.
    pub name: String,
    /// Whose privileges, settings and memberships it gets.
    pub like: String,
    /// Its password; none leaves it without one.
    pub password: Option<String>,
}

/// What keeps the role from being made.
pub fn check_role(session: &mut Session, role: &LimitedRole) -> Result<Checked> {
    let mut checked = Checked::default();
    let side = session.place;
    let row = session.query_one(&sql::restrict::READ_LIMITED_ROLE, &[&role.name, &role.like])?;
    if !row.get::<_, bool>("has_model") {
        let like = quote_identifier(&role.like);
        checked.fail(
            "restrict_role",
            &format!("{side}: role {like}"),
            "it does not exist, and the limited role is to be like it",
            format!("Create it, or correct restrict_role.like: CREATE ROLE {like} LOGIN;"),
        );
    }
    if row.get("present") && !row.get::<_, bool>("is_ours") {
        checked.warn(
            "restrict_role",
            &format!("{side}: role {}", quote_identifier(&role.name)),
            "it was not made by pgdetour, so its password and its privileges stay as they are",
            "See to it that it may do what the application does.",
        );
    }
    Ok(checked)
}

/// Brings a role that we have made up to date; whether anything was changed.
pub fn update_role(session: &mut Session, role: &LimitedRole) -> Result<bool> {
    Ok(is_made_role(session, role)? && make_role(session, role)?)
}

/// Whether the role is there, and we have made it.
pub fn is_made_role(session: &mut Session, role: &LimitedRole) -> Result<bool> {
    let row = session.query_one(&sql::restrict::READ_LIMITED_ROLE, &[&role.name, &role.like])?;
    Ok(row.get("is_ours"))
}

/// Makes the role, or brings what we made up to date; whether anything was changed. One that somebody else made
/// is only marked.
pub fn make_role(session: &mut Session, role: &LimitedRole) -> Result<bool> {
    let row = session.query_one(&sql::restrict::READ_LIMITED_ROLE, &[&role.name, &role.like])?;
    let (present, is_ours, is_marked): (bool, bool, bool) =
        (row.get("present"), row.get("is_ours"), row.get("is_marked"));
    let (database, remark): (String, String) = (row.get("database_quoted"), row.get("remark"));
    let name = quote_identifier(&role.name);
    let mut script = Vec::new();
    let mut secret = None;
    if !present {
        script.push(format!("create role {name}"));
        script.push(format!("comment on role {name} is {}", quote_literal(&remark)));
    }
    if !present || is_ours {
        let rows = session.query(&sql::restrict::LIST_ROLE_CHANGES, &[&role.name, &role.like])?;
        script.extend(rows.iter().map(|row| row.get::<_, String>("statement")));
        if let Some(password) = &role.password
            && !(present && has_password(session, &role.name, password, row.get("may_read_password"))?)
        {
            secret = Some(format!(
                "alter role {name} password {}",
                quote_literal(&scram_sha_256(password.as_bytes()))
            ));
        }
    }
    if !is_marked {
        script.push(format!("alter role {name} in database {database} set pgdetour.limited to 'on'"));
    }
    if script.is_empty() && secret.is_none() {
        return Ok(false);
    }
    session
        .atomically(|session| {
            if !script.is_empty() {
                session.change_script(&(script.join(";\n") + ";"))?;
            }
            match &secret {
                Some(secret) => session.change_secret(secret, &format!("alter role {name} password '***'")),
                None => Ok(()),
            }
        })
        .doing(|| format!("make role {name}"))?;
    Ok(true)
}

/// The roles that we have made for this database.
pub fn list_made_roles(session: &mut Session) -> Result<Vec<String>> {
    let rows = session.query(&sql::restrict::FIND_LIMITED_ROLE, &[&None::<&str>])?;
    Ok(rows.iter().map(|row| row.get("role_name")).collect())
}

/// Removes the role that we have made, unless it is among those that are `kept`, with all that was granted to it, and the mark of
/// roles of others; the names of the roles. What the role owns by now goes to the role that it was made like, where we may act as
/// that, or else to us.
pub fn remove_roles(session: &mut Session, like: Option<&str>, kept: &[String]) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for row in session.query(&sql::restrict::FIND_LIMITED_ROLE, &[&like])? {
        let name: String = row.get("role_name");
        if kept.contains(&name) {
            continue;
        }
        let quoted = quote_identifier(&name);
        let heir = like.filter(|like| *like != name && row.get("has_heirs_privileges"));
        let heir = heir.map_or_else(|| "current_user".into(), quote_identifier);
        // Who has made a role may drop it, but only who has its privileges may do so with what it owns. Since 16 whoever makes
        // one becomes a member of it who may grant it, to himself too, and has none of its privileges.
        let options = if session.version >= 160_000 { " with inherit true" } else { "" };
        let join = if row.get("has_privileges") {
            String::new()
        } else {
            format!("grant {quoted} to current_user{options};\n")
        };
        let script = format!(
            "{join}reassign owned by {quoted} to {heir};\ndrop owned by {quoted};\ndrop role {quoted};"
        );
        let dropped = session.atomically(|session| session.change_script(&script));
        match dropped.doing(|| format!("drop role {quoted}")) {
            Err(error) if error.is_sqlstate(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
                return Err(needed_elsewhere(session, &name, like, error)?);
            }
            other => other?,
        }
        removed.push(name);
    }
    reset_marks(session, &mut removed)?;
    Ok(removed)
}

/// Roles that we have made or marked, and may neither remove nor release.
pub fn check_removal(session: &mut Session) -> Result<Vec<Finding>> {
    let place = session.place;
    let finding = |row: &Row| {
        let (role, own) = (quote_identifier(row.get("role_name")), quote_identifier(row.get("own_role")));
        let again = "then run the same command again.";
        let (needed, hint) = if row.get("is_superuser") {
            (
                "it is a superuser, and only superusers may",
                format!("Run pgdetour as a superuser there, or ALTER ROLE {role} NOSUPERUSER; {again}"),
            )
        } else if row.get("lacks_createrole") {
            ("that takes CREATEROLE", format!("Run ALTER ROLE {own} CREATEROLE; there, {again}"))
        } else {
            (
                "that takes the ADMIN OPTION on it",
                format!("Run GRANT {role} TO {own} WITH ADMIN OPTION; there, {again}"),
            )
        };
        let message =
            format!("the limited role has to be removed or released, and our role may not do that: {needed}");
        Finding::new("restrict_role", format!("{place}: role {role}"), message, hint)
    };
    let rows = session.query(&sql::restrict::LIST_WITHHELD_ROLES, &[])?;
    Ok(rows.iter().map(finding).collect())
}

/// Has the roles that we have made stay for good: they are no more ours than any other, and are told no more that they are limited;
/// their names.
pub fn release_roles(session: &mut Session) -> Result<Vec<String>> {
    let released = list_made_roles(session)?;
    for name in &released {
        let quoted = quote_identifier(name);
        session
            .change_script(&format!("comment on role {quoted} is null"))
            .doing(|| format!("take the comment off role {quoted}"))?;
    }
    reset_marks(session, &mut Vec::new())?;
    Ok(released)
}

/// Takes the mark off all roles that have it, but for those that are `removed`, among which they are then.
fn reset_marks(session: &mut Session, removed: &mut Vec<String>) -> Result<()> {
    for row in session.query(&sql::restrict::LIST_MARKED_ROLES, &[])? {
        let name: String = row.get("role_name");
        // In a dry run the roles above are still there.
        if removed.contains(&name) {
            continue;
        }
        let database: String = row.get("database_quoted");
        let quoted = quote_identifier(&name);
        session
            .change_script(&format!("alter role {quoted} in database {database} reset pgdetour.limited"))?;
        removed.push(name);
    }
    Ok(())
}

/// That the role cannot go as long as other databases know of it, which only sessions there can change.
fn needed_elsewhere(session: &mut Session, name: &str, like: Option<&str>, error: Error) -> Result<Error> {
    let rows = session.query(&sql::restrict::LIST_ROLE_HOLDS, &[&name])?;
    if rows.is_empty() {
        return Ok(error);
    }
    let role = quote_identifier(name);
    let (mut holds, mut statements) = (Vec::new(), Vec::new());
    for row in &rows {
        let database = quote_identifier(row.get("database_name"));
        let owns: bool = row.get("owns");
        let what = if owns { "it owns something" } else { "something is granted to it" };
        holds.push(format!("{what} in database {database}"));
        let heir = like.map_or_else(|| "CURRENT_USER".to_owned(), quote_identifier);
        let reassign = if owns { format!("REASSIGN OWNED BY {role} TO {heir}; ") } else { String::new() };
        statements.push(format!("in database {database} {reassign}DROP OWNED BY {role};"));
    }
    Ok(Error::Refused {
        kind: "role_needed",
        message: format!("role {role} of the {} cannot be dropped: {}", session.place, holds.join(", ")),
        detail: error.detail(),
        hint: format!("Run {}", statements.join(" and ")),
    })
}

/// Whether the server keeps this password. Where we may not look, what is there is taken for right.
fn has_password(session: &mut Session, role: &str, password: &str, may_look: bool) -> Result<bool> {
    if !may_look {
        return Ok(true);
    }
    let row = session.query_one(&sql::restrict::READ_STORED_PASSWORD, &[&role])?;
    let stored: Option<String> = row.get("stored_password");
    Ok(stored.is_some_and(|stored| is_verifier_of(&stored, password).unwrap_or(false)))
}

/// Whether `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` was made of the password (RFC 5802, 3), in the form that
/// RFC 4013 gives it where it can; none when it is not of that form.
fn is_verifier_of(stored: &str, password: &str) -> Option<bool> {
    let (parameters, keys) = stored.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
    let (iterations, salt) = parameters.split_once(':')?;
    let salt = openssl::base64::decode_block(salt).ok()?;
    let stored_key = openssl::base64::decode_block(keys.split_once(':')?.0).ok()?;
    let mut salted = [0; 32];
    let rounds = iterations.parse().ok()?;
    let prepared = stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password));
    pbkdf2_hmac(prepared.as_bytes(), &salt, rounds, MessageDigest::sha256(), &mut salted).ok()?;
    let key = PKey::hmac(&salted).ok()?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key).ok()?;
    let client_key = signer.sign_oneshot_to_vec(b"Client Key").ok()?;
    Some(stored_key.len() == 32 && memcmp::eq(&sha256(&client_key), &stored_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_password_is_told_from_another() {
        let stored = scram_sha_256(b"open sesame");
        assert_eq!(is_verifier_of(&stored, "open sesame"), Some(true));
        assert_eq!(is_verifier_of(&stored, "open sesame "), Some(false));
        // With an ordinal indicator, which SASLprep makes a letter, and with a bell, which it leaves alone with all else.
        for password in ["passwort\u{aa}", "passwort\u{aa}\u{7}"] {
            assert_eq!(is_verifier_of(&scram_sha_256(password.as_bytes()), password), Some(true));
        }
        assert_eq!(is_verifier_of("md5d8578edf8458ce06fbc5bb76a58c5ca4", "open sesame"), None);
    }
}
