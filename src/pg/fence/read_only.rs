//! The read-only fence: general roles get `default_transaction_read_only = on` in one database, and what they had before
//! comes back. libpq leaves such a server for the next one under `target_session_attrs=read-write`.

use serde::{Deserialize, Serialize};

use super::FenceUndo;
use crate::config::FenceKind;
use crate::error::{Checked, Doing as _, Error, Result};
use crate::pg::Session;
use crate::sql::{self, quote_identifier, quote_literal};

/// The setting.
pub const SETTING: &str = "default_transaction_read_only";

/// What we set it to, in the spelling by which we know it again.
const RAISED: &str = "on";

/// [`SETTING`] of one role in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleSetting {
    /// Whose.
    pub role: String,
    /// Its value before; None where none was set.
    pub before: Option<String>,
    /// It is changed as the role itself, which every role may do, since our own may not.
    pub as_itself: bool,
}

impl RoleSetting {
    fn alter(&self, database: &str, action: &str) -> String {
        let role = quote_identifier(&self.role);
        let statement = format!("alter role {role} in database {database} {action};\n");
        if self.as_itself { format!("set role {role};\n{statement}reset role;\n") } else { statement }
    }

    fn raise(&self, database: &str) -> String {
        self.alter(database, &format!("set {SETTING} = {RAISED}"))
    }

    fn restore(&self, database: &str) -> String {
        let action = match &self.before {
            Some(value) => format!("set {SETTING} = {}", quote_literal(value)),
            None => format!("reset {SETTING}"),
        };
        self.alter(database, &action)
    }

    fn is_raised(&self) -> bool {
        self.before.as_deref() == Some(RAISED)
    }
}

/// What there is to change: each role that exists, with its value now as the one before, but for what `earlier` has set.
pub fn plan(session: &mut Session, roles: &[String], earlier: Option<&FenceUndo>) -> Result<FenceUndo> {
    let mut settings = list(session, roles)?;
    for setting in settings.iter_mut().filter(|setting| setting.is_raised()) {
        if let Some(known) = earlier.and_then(|earlier| earlier.setting_of(&setting.role)) {
            setting.before.clone_from(&known.before);
        }
    }
    Ok(FenceUndo {
        kind: FenceKind::ReadOnly,
        roles: roles.to_vec(),
        revoked: Vec::new(),
        granted: Vec::new(),
        settings,
    })
}

impl FenceUndo {
    /// What it changes of one role's setting.
    pub fn setting_of(&self, role: &str) -> Option<&RoleSetting> {
        self.settings.iter().find(|setting| setting.role == role)
    }

    /// What it changes of other roles than these.
    pub fn beside(&self, roles: &[String]) -> FenceUndo {
        let mut others = self.clone();
        others.roles.retain(|role| !roles.contains(role));
        others.settings.retain(|setting| !roles.contains(&setting.role));
        others
    }
}

/// What opens it by hand for a role: what was set before comes back, where that is known and lets it write.
pub fn opening_statement(role: &str, database: &str, known: Option<&RoleSetting>) -> String {
    let before = known.filter(|known| !known.is_raised()).and_then(|known| known.before.as_deref());
    let action = match before {
        Some(value) => format!("SET {SETTING} = {}", quote_literal(value)),
        None => format!("RESET {SETTING}"),
    };
    format!("ALTER ROLE {} IN DATABASE {database} {action};", quote_identifier(role))
}

/// The statements that raise it.
pub fn raising_script(undo: &FenceUndo, database: &str) -> String {
    undo.settings.iter().map(|setting| setting.raise(database)).collect()
}

/// The statements that lower it where `now` are the settings: of a role that is not there any more, or whose setting somebody
/// else has changed, nothing is to be done.
pub fn lowering_script(now: &[RoleSetting], undo: &FenceUndo, database: &str) -> String {
    let ours = now.iter().filter(|setting| setting.is_raised());
    ours.filter_map(|setting| {
        let before = undo.setting_of(&setting.role).filter(|known| !known.is_raised())?.before.clone();
        Some(RoleSetting { before, ..setting.clone() }.restore(database))
    })
    .collect()
}

/// The same where it was raised just now.
pub fn lowering_script_at_once(undo: &FenceUndo, database: &str) -> String {
    undo.settings.iter().map(|setting| setting.restore(database)).collect()
}

/// The statements whose rows of one column are the roles that it does not hold for.
pub fn proof(roles: &[String]) -> String {
    let writers = sql::fence::LIST_WRITING_ROLES.text.replace("$1::text[]", &sql::quote_array(roles));
    format!("{};\n{writers}", sql::fence::NOTE_TIME.text)
}

/// The statement that ends sessions which would stay read-only once it is lowered.
pub fn ending_fenced(roles: &[String]) -> String {
    sql::fence::END_FENCED_SESSIONS.text.replace("$1::text[]", &sql::quote_array(roles))
}

/// The statement whose rows [`of_text`] understands.
pub fn listing(roles: &[String]) -> String {
    sql::fence::LIST_READ_ONLY_SETTINGS.text.replace("$1::text[]", &sql::quote_array(roles))
}

/// The settings as they are now, in one round trip.
pub fn list(session: &mut Session, roles: &[String]) -> Result<Vec<RoleSetting>> {
    let rows = session.ask_script(&listing(roles)).doing(|| "list read-only settings".into())?;
    Ok(of_text(&rows))
}

/// How many columns a row of [`listing`] has, and no other that comes with it.
const COLUMNS: usize = 5;

/// Rows in text form.
pub fn of_text(rows: &[Vec<Option<String>>]) -> Vec<RoleSetting> {
    let setting = |row: &Vec<Option<String>>| RoleSetting {
        role: row[0].clone().unwrap_or_default(),
        before: row[1].clone(),
        as_itself: row[2].as_deref() != Some("t"),
    };
    rows.iter().filter(|row| row.len() == COLUMNS).map(setting).collect()
}

/// The failure when `roles` could write all the same.
pub fn still_writing(roles: &[&str], database: &str) -> Error {
    Error::Refused {
        kind: "fence_open",
        message: format!(
            "role \"{}\" may still write in database {database} by default",
            roles.join("\", \"")
        ),
        detail: Some(format!(
            "Somebody has changed {SETTING}, or made the role, since the fence was planned."
        )),
        hint: "Run the same command again.".into(),
    }
}

/// What it needs beside roles that exist.
pub fn check(session: &mut Session, roles: &[String], earlier: Option<&FenceUndo>) -> Result<Checked> {
    let mut checked = Checked::default();
    let side = session.place.name();
    let database = quote_identifier(&session.database);
    let options = if session.version >= 160_000 { " WITH INHERIT FALSE, SET TRUE" } else { "" };
    for row in session.query(&sql::fence::LIST_READ_ONLY_SETTINGS, &[&roles])? {
        let name: String = row.get("role_name");
        let (role, us) = (quote_identifier(&name), quote_identifier(row.get("our_name")));
        let object = format!("{side}: role {role}");
        if !row.get::<_, bool>("may_alter") && !row.get::<_, bool>("may_become") {
            checked.fail(
                "fence",
                &object,
                format!("{us} cannot change its {SETTING} in database {database}"),
                format!("Run GRANT {role} TO {us}{options}; or connect as a superuser."),
            );
        }
        let is_on = row.get::<_, Option<String>>("value").as_deref() == Some(RAISED);
        if is_on && earlier.and_then(|earlier| earlier.setting_of(&name)).is_none() {
            checked.fail(
                "fence",
                &object,
                format!("{SETTING} is on for it in database {database} already, so that it makes its writes read-write itself"),
                format!("Run ALTER ROLE {role} IN DATABASE {database} RESET {SETTING} if nothing needs it; or leave traffic.fence out."),
            );
        }
    }
    Ok(checked)
}
