//! `[restrict_role]`: the role that general traffic uses on the target, made like another one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::reader::Section;
use super::values::filled;
use super::{Config, Traffic};
use crate::error::{Error, Result};
use crate::phase::Side;

/// `[restrict_role]`.
#[derive(Debug, Clone)]
pub struct RestrictRole {
    /// Its name on the target.
    pub name: String,
    /// The role whose privileges, settings and memberships it gets.
    pub like: String,
    /// Where its password is; a role without one logs in by other means.
    pub password: Option<PasswordPlace>,
}

/// Where a password is read from when it is needed.
#[derive(Debug, Clone)]
pub enum PasswordPlace {
    /// An environment variable.
    Environment(String),
    /// A file that holds it and nothing else; a line break at its end is left out.
    File(PathBuf),
}

impl PasswordPlace {
    /// The password, and what is to be said about the place.
    pub fn read(&self) -> Result<(String, Option<String>)> {
        let usage = |message: String, hint: &str| Error::Usage { message, hint: hint.into() };
        let mut remark = None;
        let (password, place) = match self {
            PasswordPlace::Environment(name) => {
                let missing = |_| {
                    usage(
                        format!(
                            "environment variable {name}, which restrict_role.password_env names, is not set"
                        ),
                        "Set it to the password of the limited role.",
                    )
                };
                (std::env::var(name).map_err(missing)?, name.clone())
            }
            PasswordPlace::File(path) => {
                let place = path.display().to_string();
                let unreadable = |error: std::io::Error| {
                    usage(
                        format!("could not read {place}, which restrict_role.password_file names: {error}"),
                        "Write the password of the limited role into it.",
                    )
                };
                let text = std::fs::read_to_string(path).map_err(unreadable)?;
                let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
                if mode & 0o077 != 0 {
                    remark = Some(format!("{place} can be read by other users: run chmod 600"));
                }
                let text = text.strip_suffix('\n').unwrap_or(&text);
                (text.strip_suffix('\r').unwrap_or(text).to_owned(), place)
            }
        };
        if password.is_empty() || password.contains('\0') {
            return Err(usage(
                format!("{place} holds no password for the limited role"),
                "Give it one, or remove the key.",
            ));
        }
        Ok((password, remark))
    }
}

impl Config {
    /// The roles that general traffic uses on one side: on the target the limited one too, and one of a `[[restrict]]` that `PgBouncer`
    /// makes of all clients there.
    pub fn general_roles(&self, side: Side) -> Vec<String> {
        let mut roles = self.traffic.roles.clone();
        if side == Side::Target {
            let limited = self.restrict_role.iter().map(|role| &role.name);
            let named = self.restrict.iter().flat_map(|restrict| restrict.roles.iter().flatten());
            let forced = named.filter(|role| self.router.pgbouncer.iter().any(|one| one.forces(role)));
            for role in limited.chain(forced) {
                if !roles.contains(role) {
                    roles.push(role.clone());
                }
            }
        }
        roles
    }
}

pub(super) fn read(section: &Section, traffic: &Traffic, folder: &Path) -> Option<RestrictRole> {
    let name = section.required("name", filled(section, "name"), "Name the role, such as \"shop_limited\".");
    let like = filled(section, "like").or_else(|| match traffic.roles.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    });
    let like = section.required("like", like, "Name the role of the application that it is to be like.");
    let variable = filled(section, "password_env");
    let file = filled(section, "password_file");
    if variable.is_some() && file.is_some() {
        section.mistake(
            "password_env",
            "restrict_role.password_env and restrict_role.password_file both say where the password is",
            "Keep one of the two.",
        );
    }
    if name.is_some() && name == like {
        section.mistake(
            "name",
            "restrict_role.name is the same as restrict_role.like",
            "Give the limited role a name of its own, or leave [restrict_role] out to limit the application's role.",
        );
    }
    section.end();
    let password = match (variable, file) {
        (Some(variable), _) => Some(PasswordPlace::Environment(variable)),
        (None, Some(file)) => Some(PasswordPlace::File(folder.join(file))),
        (None, None) => None,
    };
    Some(RestrictRole { name: name?, like: like?, password })
}
