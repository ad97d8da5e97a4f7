//! What becomes of every object of the source: mirrored, left out by configuration, or beyond what a mirror can carry.

use std::collections::{BTreeMap, HashSet};

use crate::config::{FenceKind, SchemaMode};
use crate::error::{Checked, Doing as _, Result};
use crate::pg::catalog::Table;
use crate::pg::catalog::facts::read_database;
use crate::pg::catalog::inventory::{self, DatabaseSetting, Object};
use crate::pg::catalog::objects::{self, Name};
use crate::pg::fence::{FenceUndo, RoleSetting, SETTING};
use crate::phase::{Phase, Place, Side};
use crate::steps::Run;
use crate::steps::run::facts::Facts;

/// How many objects of a kind are named.
const NAMED: usize = 5;

/// A kind of object that a mirror does not carry as it carries a table.
struct Caveat {
    kind: &'static str,
    fate: Fate,
    /// What happens to it.
    message: &'static str,
    /// What can be done.
    hint: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Mirrored.
    Carried,
    /// It is not on the target afterwards, or not as it is on the source.
    Lost,
    /// It belongs to the whole server, where it is or is not; told only where it is not.
    Theirs,
}

const CAVEATS: [Caveat; 11] = [
    Caveat {
        kind: "unlogged table",
        fate: Fate::Lost,
        message: "its rows are in no WAL: it is made on the target and left empty, as after a crash",
        hint: "Where its rows are needed there, run ALTER TABLE … SET LOGGED; which rewrites it.",
    },
    Caveat {
        kind: "large object",
        fate: Fate::Lost,
        message: "large objects are in no replication stream and are not copied",
        hint: "Copy them yourself while nobody writes them, with pg_dump --large-objects --data-only; what is written to them on the target does not come home.",
    },
    Caveat {
        kind: "foreign table",
        fate: Fate::Carried,
        message: "its definition is mirrored, its rows stay on the foreign server",
        hint: "The target's server has to reach the foreign server too.",
    },
    Caveat {
        kind: "prepared transaction",
        fate: Fate::Lost,
        message: "mirroring waits until it ends, and fails after some minutes",
        hint: "Commit or roll it back first; cutover refuses those that hold rows of mirrored tables.",
    },
    Caveat {
        kind: "publication",
        fate: Fate::Lost,
        message: "publications are not mirrored: subscribers stay with the source, and get what is written on the target by replay",
        hint: "Nothing has to be done when they may wait until then.",
    },
    Caveat {
        kind: "subscription",
        fate: Fate::Lost,
        message: "subscriptions are not mirrored: this one goes on writing to the source, and while the target serves its changes do not get there",
        hint: "Run ALTER SUBSCRIPTION … DISABLE before cutover, and ENABLE after cutback.",
    },
    Caveat {
        kind: "extension table",
        fate: Fate::Lost,
        message: "it belongs to an extension: it is made with it, and its rows are not copied",
        hint: "Where you have changed its rows, change them on the target too.",
    },
    Caveat {
        kind: "trigger that always fires",
        fate: Fate::Carried,
        message: "it is ENABLE ALWAYS or REPLICA, and fires on the target again for each mirrored change",
        hint: "Run ALTER TABLE … ENABLE TRIGGER …; on the source, unless that is wanted.",
    },
    Caveat {
        kind: "database setting",
        fate: Fate::Carried,
        message: "settings of the database are copied where the target has none of the same name",
        hint: "Settings of the server are not: compare them yourself.",
    },
    Caveat {
        kind: "database grant",
        fate: Fate::Theirs,
        message: "privileges on the database itself are in no dump of it, and are not copied",
        hint: "Run the same GRANT or REVOKE … ON DATABASE on the target, where it is to hold there too.",
    },
    Caveat {
        kind: "role setting",
        fate: Fate::Theirs,
        message: "settings that a role has in all databases are the server's, as the role is: they are not copied",
        hint: "Run the same ALTER ROLE … SET on the target's server, where it is to hold there too.",
    },
];

/// Names what exists on the source and will not be mirrored as a table is.
pub fn objects(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let found = inventory::list_objects(run.source())?;
    let absent = absent(run)?;
    let is_theirs = |object: &Object| {
        CAVEATS.iter().any(|caveat| caveat.kind == object.kind && caveat.fate == Fate::Theirs)
    };
    let there = if found.iter().any(is_theirs) { inventory::list_objects(run.target())? } else { Vec::new() };
    for caveat in &CAVEATS {
        let of_kind: Vec<&Object> = found
            .iter()
            .filter(|object| object.kind == caveat.kind)
            .filter(|object| !object.relation.as_ref().is_some_and(|name| absent.contains(name)))
            .filter(|object| !(is_theirs(object) && there.contains(object)))
            .collect();
        if !of_kind.is_empty() {
            let named = name_some(of_kind.iter().map(|object| object.identity.as_str()));
            checked.warn("objects", &format!("{} {named}", caveat.kind), caveat.message, caveat.hint);
        }
    }
    Ok(())
}

/// Names what the source has and the server that gets its schema is too old to have.
pub fn newer_features(run: &mut Run, checked: &mut Checked) -> Result<()> {
    // Later on it is there, in whatever form somebody has found for it.
    if run.config.mirror.schema != SchemaMode::Dump
        || !matches!(run.phase(), Phase::Absent | Phase::Mirroring)
    {
        return Ok(());
    }
    let major = run.source().version / 10_000;
    let there = run.places();
    let older: Vec<(Place, i32)> = run
        .stages()
        .iter()
        .map(|stage| stage.subscriber())
        .filter(|place| there.contains(place))
        .map(|place| (place, run.session(place).version / 10_000))
        .filter(|(_, their)| *their < major)
        .collect();
    if older.is_empty() {
        return Ok(());
    }
    let absent = absent(run)?;
    for (place, their) in older {
        for feature in inventory::list_newer_features(run.source(), their)? {
            if feature.relation.as_ref().is_some_and(|name| absent.contains(name)) {
                continue;
            }
            let message =
                format!("it is {}, which PostgreSQL {their} of the {place} cannot have", feature.what);
            let hint = format!(
                "Take a {place} of PostgreSQL {} or later, change it on the source, or leave its table out with \
                 mirror.exclude.",
                feature.since
            );
            checked.fail("newer_feature", &feature.identity, message, hint);
        }
    }
    Ok(())
}

/// How many objects of one kind the source has, and what became of them.
#[derive(Debug, Default, serde::Serialize)]
pub struct KindCount {
    kind: String,
    mirrored: usize,
    skipped: usize,
    unsupported: usize,
    reasons: Vec<String>,
}

/// Holds every object of the source against what the target has now.
pub fn count_objects(run: &mut Run) -> Result<Vec<KindCount>> {
    if run.plan.is_dry() {
        return Ok(Vec::new());
    }
    let absent = run.looking_once(absent)?;
    let wanted = inventory::list_objects(run.source())?;
    let there = inventory::list_objects(run.target())?;
    let mut found: HashSet<(String, String)> =
        there.into_iter().map(|object| (object.kind, object.identity)).collect();
    found.extend(behind_the_fence(run)?);
    Ok(account(&wanted, &found, &absent, run.config.mirror.schema))
}

/// Settings that the target gets when its fence is lowered, as objects.
fn behind_the_fence(run: &Run) -> Result<Vec<(String, String)>> {
    let settings = run.stored_fence(Side::Target)?.map(|fence| fence.settings).unwrap_or_default();
    let identity = |setting: &RoleSetting| {
        let value = setting.before.as_ref()?;
        Some(("database setting".to_owned(), format!("{}: {SETTING}={value}", setting.role)))
    };
    Ok(settings.iter().filter_map(identity).collect())
}

fn account(
    wanted: &[Object],
    found: &HashSet<(String, String)>,
    absent: &HashSet<Name>,
    schema: SchemaMode,
) -> Vec<KindCount> {
    let mut kinds: BTreeMap<&str, KindCount> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for object in wanted {
        let count = kinds.entry(&object.kind).or_default();
        let caveat = CAVEATS.iter().find(|caveat| caveat.kind == object.kind);
        let belongs = |name: &Option<Name>| name.as_ref().is_some_and(|name| absent.contains(name));
        let is_found = found.contains(&(object.kind.clone(), object.identity.clone()));
        let reason = match caveat {
            _ if belongs(&object.relation) || belongs(&object.referenced) => {
                count.skipped += 1;
                "left out by [mirror]"
            }
            Some(caveat) if caveat.fate == Fate::Lost || caveat.fate == Fate::Theirs && !is_found => {
                count.unsupported += 1;
                caveat.message
            }
            _ if is_found => {
                count.mirrored += 1;
                continue;
            }
            _ if schema == SchemaMode::Existing => {
                count.skipped += 1;
                "with schema = \"existing\" the target's definitions are not ours to make"
            }
            _ => {
                count.unsupported += 1;
                "the target could not take it: a warning of the run that copied the schema tells why"
            }
        };
        reasons.entry(&object.kind).or_default().entry(reason).or_default().push(&object.identity);
    }
    kinds
        .into_iter()
        .map(|(kind, count)| {
            let told = reasons.remove(kind).unwrap_or_default();
            let told =
                told.into_iter().map(|(reason, names)| format!("{}: {reason}", name_some(names.into_iter())));
            KindCount { kind: kind.to_owned(), reasons: told.collect(), ..count }
        })
        .collect()
}

/// The first few names, and how many there are beside them.
pub fn name_some<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first: Vec<&str> = names.take(NAMED).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", first.join(", "))
}

/// Tables of the source that the configuration leaves out.
pub fn left_out_tables(run: &mut Run) -> Result<Vec<Table>> {
    let selected: HashSet<u32> = run.matching_tables(Side::Source)?.iter().map(|table| table.oid).collect();
    let mut tables = run.list_tables(Side::Source)?;
    tables.retain(|table| !selected.contains(&table.oid));
    Ok(tables)
}

/// Tables and views that the configuration leaves out, or that read such.
pub(super) fn absent(run: &mut Run) -> Result<HashSet<Name>> {
    let tables = left_out_tables(run)?;
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let mut absent: HashSet<Name> = tables.iter().map(Table::full_name).collect();
    if !oids.is_empty() {
        absent.extend(objects::list_dependent_views(run.source(), &oids)?);
    }
    Ok(absent)
}

/// Gives the target's database the settings of the source's that it has not; those that it has are its own.
pub fn copy_settings(run: &mut Run) -> Result<()> {
    if run.config.mirror.schema == SchemaMode::Existing {
        return Ok(());
    }
    let wanted = inventory::list_database_settings(run.source())?;
    let mut present = inventory::list_database_settings(run.target())?;
    let mut fence = run.stored_fence(Side::Target)?.filter(|fence| fence.kind == FenceKind::ReadOnly);
    if let Some(fence) = &fence {
        see_behind(fence, &mut present);
    }
    let has = |setting: &DatabaseSetting| present.iter().find(|other| other.is_for_the_same(setting));
    let mut added = run.facts()?.settings_added.unwrap_or_default();
    let mut missing = Vec::new();
    for setting in wanted {
        match has(&setting) {
            Some(other) if other.value != setting.value => run.warn(format!(
                "the target's database has a setting {} of its own, which stays: {} there, {} on the source",
                setting.display(),
                other.value,
                setting.value
            )),
            Some(_) => {}
            None => missing.push(setting),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    added.extend(missing.iter().filter(|setting| !added.contains(setting)).cloned().collect::<Vec<_>>());
    // Before they are made, so that whatever is made can be taken away.
    run.add_facts(&Facts { settings_added: Some(added), ..Facts::default() })?;
    let database = read_database(run.target())?.name;
    for setting in missing {
        // What the fence covers comes into force when it is lowered.
        if let Some(covered) = fence.as_mut().and_then(|fence| covered(fence, &setting)) {
            covered.before = Some(setting.value);
            continue;
        }
        if let Err(error) = run.target().change_script(&setting.set_statement(&database)) {
            if error.is_connection_lost() {
                return Err(error);
            }
            let why = error.server_error().map_or_else(|| error.to_string(), |said| said.message.clone());
            run.warn(format!("setting {} of the database could not be copied: {why}", setting.display()));
        }
    }
    match fence {
        Some(fence) => run.store_fence(Side::Target, &fence),
        None => Ok(()),
    }
}

/// A setting of the source's database that the target's has not, or otherwise.
pub struct UnlikeSetting {
    /// As it is on the source.
    pub setting: DatabaseSetting,
    /// Its value on the target.
    pub there: Option<String>,
    /// What makes it the same there.
    pub statement: String,
}

/// Settings that the databases have not in common, those of our own fences left out.
pub fn list_unlike_settings(run: &mut Run) -> Result<Vec<UnlikeSetting>> {
    let mut settings = |side: Side| -> Result<Vec<DatabaseSetting>> {
        let mut found = inventory::list_database_settings(run.session(side))?;
        if let Some(fence) = run.stored_fence(side)?.filter(|fence| fence.kind == FenceKind::ReadOnly) {
            see_behind(&fence, &mut found);
        }
        Ok(found)
    };
    let (wanted, present) = (settings(Side::Source)?, settings(Side::Target)?);
    let database = read_database(run.target())?.name;
    let unlike = wanted.into_iter().filter_map(|setting| {
        let other = present.iter().find(|other| other.is_for_the_same(&setting));
        let is_alike = other.is_some_and(|other| other.value == setting.value);
        let statement = setting.set_statement(&database);
        (!is_alike).then(|| UnlikeSetting {
            setting,
            there: other.map(|other| other.value.clone()),
            statement,
        })
    });
    Ok(unlike.collect())
}

/// Makes of the settings there are those there were before a read-only fence.
fn see_behind(fence: &FenceUndo, present: &mut Vec<DatabaseSetting>) {
    present.retain_mut(|setting| {
        let change = setting.role.as_deref().filter(|_| setting.name == SETTING);
        let Some(change) = change.and_then(|role| fence.setting_of(role)) else { return true };
        match &change.before {
            Some(value) => setting.value.clone_from(value),
            None => return false,
        }
        true
    });
}

/// What the fence does to a setting.
fn covered<'a>(fence: &'a mut FenceUndo, setting: &DatabaseSetting) -> Option<&'a mut RoleSetting> {
    let role = setting.role.as_ref().filter(|_| setting.name == SETTING)?;
    fence.settings.iter_mut().find(|change| change.role == *role)
}

/// Takes away again what [`copy_settings`] made.
pub fn remove_settings(run: &mut Run) -> Result<()> {
    let added = run.facts()?.settings_added.unwrap_or_default();
    if added.is_empty() {
        return Ok(());
    }
    let present = inventory::list_database_settings(run.target())?;
    let database = read_database(run.target())?.name;
    for setting in added.iter().filter(|setting| present.contains(setting)) {
        run.target()
            .change_script(&setting.reset_statement(&database))
            .doing(|| format!("reset {} of the database", setting.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_is_left_out_of_the_count() {
        let object = |kind: &str, identity: &str, relation: Option<&str>| Object {
            kind: kind.into(),
            identity: identity.into(),
            relation: relation.map(|name| ("public".into(), name.into())),
            referenced: None,
        };
        let wanted = [
            object("table", "public.a", Some("a")),
            object("table", "public.b", Some("b")),
            object("index", "public.b_pkey", Some("b")),
            object("large object", "7", None),
            object("event trigger", "e", None),
            object("role setting", "app: work_mem=8MB", None),
            object("role setting", "app: lock_timeout=1s", None),
        ];
        let found = HashSet::from([
            ("table".to_owned(), "public.a".to_owned()),
            ("role setting".to_owned(), "app: lock_timeout=1s".to_owned()),
        ]);
        let absent = HashSet::from([("public".to_owned(), "b".to_owned())]);
        let counts = account(&wanted, &found, &absent, SchemaMode::Dump);
        let told: Vec<_> = counts
            .iter()
            .map(|c| (c.kind.as_str(), c.mirrored, c.skipped, c.unsupported, c.reasons.len()))
            .collect();
        assert_eq!(
            told,
            [
                ("event trigger", 0, 0, 1, 1),
                ("index", 0, 1, 0, 1),
                ("large object", 0, 0, 1, 1),
                ("role setting", 1, 0, 1, 1),
                ("table", 1, 1, 0, 1)
            ]
        );
    }
}
