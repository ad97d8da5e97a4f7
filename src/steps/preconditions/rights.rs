//! What general roles may do with the users' objects: the same where they are about to work as where they work now.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::{Checked, Result};
use crate::flow::mapping::Mapping;
use crate::flow::sequences::{Sequence, list_heirs, list_sequences};
use crate::pg::catalog::facts::{Grant, RightOn, Role, list_grants, list_role_rights, list_roles};
use crate::pg::restriction::{self, LimitedRole};
use crate::phase::{Phase, Side};
use crate::sql::{quote_identifier, quote_qualified};
use crate::steps::Run;

/// How many objects are named.
const NAMED: usize = 5;

/// General roles may do with what is on the target all that they may do with it on the source, and nothing else. Grants go over with the
/// tables, but not what is granted or revoked since, nor what roles are members of, which is the business of the whole server.
pub fn rights_on_target(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let roles = run.config.traffic.roles.clone();
    let (source, target) = run.both();
    let here = list_role_rights(source, &roles)?;
    let there = list_role_rights(target, &roles)?;
    let (of_source, of_target) = (list_roles(source, &roles)?, list_roles(target, &roles)?);
    let present = objects(run)?;
    let carried =
        |on: &RightOn| on.arguments.is_none() && present.contains(&(on.schema.clone(), on.object.clone()));
    // Before the mirror stands, what there is on the target is not yet what it will be; and other schemas are not the mirror's.
    let mut more = surplus(&here, &there, [&of_source, &of_target]);
    more.retain(|on, _| present.contains(&(on.schema.clone(), None)));
    let lacking = lacking(here.into_iter().filter(|(on, _)| carried(on)), &there);
    tell(checked, &lacking, [Side::Source, Side::Target], [&of_source, &of_target]);
    tell_of_more(run, &more, [&of_source, &of_target], checked)
}

/// What roles may do on the target, and not with the same on the source.
fn surplus(
    here: &BTreeMap<RightOn, BTreeSet<String>>,
    there: &BTreeMap<RightOn, BTreeSet<String>>,
    [of_source, of_target]: [&[Role]; 2],
) -> BTreeMap<RightOn, BTreeSet<String>> {
    let is_in_use = |on: &RightOn| {
        let schema = RightOn { object: None, arguments: None, ..on.clone() };
        there.get(&schema).is_some_and(|may| !may.is_empty())
    };
    // No REVOKE binds a superuser, and what one lacks on the other side is told for itself.
    let is_bound = |on: &RightOn| {
        of_target.iter().any(|role| role.name == on.role && !role.superuser)
            && of_source.iter().any(|role| role.name == on.role)
    };
    let mut surplus = BTreeMap::new();
    for (on, may) in there.iter().filter(|(on, _)| is_bound(on) && is_in_use(on)) {
        let Some(known) = here.get(on) else { continue };
        let more: BTreeSet<String> = may.difference(known).cloned().collect();
        if !more.is_empty() {
            surplus.insert(on.clone(), more);
        }
    }
    surplus
}

/// Fails for each role that may do more on the target: users would get to what was taken from them on the source, and what the target
/// has them do would be missed at home.
fn tell_of_more(
    run: &mut Run,
    surplus: &BTreeMap<RightOn, BTreeSet<String>>,
    [of_source, of_target]: [&[Role]; 2],
    checked: &mut Checked,
) -> Result<()> {
    for role in of_target {
        let of_role: Vec<_> = surplus.iter().filter(|(on, _)| on.role == role.name).collect();
        if of_role.is_empty() {
            continue;
        }
        let named: Vec<String> =
            of_role.iter().map(|(on, may)| text(on, &Vec::from_iter((*may).clone()).join(", "))).collect();
        let shown = &of_role[..of_role.len().min(NAMED)];
        let objects: Vec<(&str, Option<&str>)> =
            shown.iter().map(|(on, _)| (on.schema.as_str(), on.object.as_deref())).collect();
        let grants = list_grants(run.target(), std::slice::from_ref(&role.name), &objects)?;
        let before = of_source.iter().find(|before| before.name == role.name);
        let groups: Vec<String> = role
            .member_of
            .iter()
            .filter(|group| before.is_some_and(|before| !before.member_of.contains(group)))
            .cloned()
            .collect();
        let is_through_group = |grant: &Grant| grant.grantee.as_ref().is_some_and(|one| groups.contains(one));
        let mut statements = Vec::new();
        let mut has_other_ways = false;
        for (on, may) in shown {
            let of_object = grants.iter().filter(|grant| grant.on == **on && may.contains(&grant.may));
            let (through, direct): (Vec<&Grant>, Vec<&Grant>) =
                of_object.partition(|grant| is_through_group(grant));
            has_other_ways |= direct.is_empty() || !through.is_empty();
            statements.extend(revocations(on, &direct));
        }
        if has_other_ways && !groups.is_empty() {
            let groups: Vec<String> = groups.iter().map(|group| quote_identifier(group)).collect();
            let from = quote_identifier(&role.name);
            statements.push(format!("REVOKE {} FROM {from};", groups.join(", ")));
        }
        let message = format!("on the target it may, and on the source it may not: {}", listed(&named));
        let hint = if statements.is_empty() {
            "Take it from the role on the target.".to_owned()
        } else {
            format!("Run on the target: {}", statements.join(" "))
        };
        checked.fail("role_rights", &role.name, message, hint);
    }
    Ok(())
}

/// The limited role may do on the target what the role may do that it is like: what came after it was made is granted to that one alone.
pub fn rights_of_limited_role(run: &mut Run, checked: &mut Checked) -> Result<()> {
    let Some(role) = run.config.restrict_role.clone() else { return Ok(()) };
    let role = LimitedRole { name: role.name, like: role.like, password: None };
    let target = run.target();
    let known = list_roles(target, &[role.name.clone(), role.like.clone()])?;
    // Of one that is not there others tell, and no grant makes another role a superuser's equal.
    if known.len() < 2 || known.iter().any(|one| one.superuser) {
        return Ok(());
    }
    let rights = list_role_rights(target, &[role.name.clone(), role.like.clone()])?;
    let of_model = rights.iter().filter(|(on, _)| on.role == role.like);
    let needed = of_model.map(|(on, may)| (RightOn { role: role.name.clone(), ..on.clone() }, may.clone()));
    let Some(missing) = lacking(needed, &rights).remove(&role.name) else { return Ok(()) };
    let named: Vec<String> = missing.iter().map(|(text, _)| text.clone()).collect();
    let message = format!("\"{}\" may on the target, and it may not: {}", role.like, listed(&named));
    let grants: Vec<&str> = missing.iter().take(NAMED).map(|(_, grant)| grant.as_str()).collect();
    if restriction::is_made_role(target, &role)? {
        let hint = format!("Run pgdetour restrict, or on the target: {}", grants.join(" "));
        checked.fail("role_rights", &role.name, message, hint);
    } else {
        let hint = format!("Unless it is meant so, run on the target: {}", grants.join(" "));
        checked.warn("role_rights", &role.name, message, hint);
    }
    Ok(())
}

/// What takes these grants on an object away, a statement for each grantee.
pub fn revocations(on: &RightOn, grants: &[&Grant]) -> Vec<String> {
    let mut by_grantee: BTreeMap<&Option<String>, BTreeSet<&str>> = BTreeMap::new();
    for grant in grants {
        by_grantee.entry(&grant.grantee).or_default().insert(&grant.may);
    }
    let statement = |(grantee, may): (&Option<String>, BTreeSet<&str>)| {
        let what = Vec::from_iter(may).join(", ");
        let from = grantee.as_ref().map_or_else(|| "PUBLIC".to_owned(), |role| quote_identifier(role));
        format!("REVOKE {what} ON {} FROM {from};", place(on, &what))
    };
    by_grantee.into_iter().map(statement).collect()
}

/// General roles may do on the source what they may do on the target, with what that has become: maintenance that makes an object
/// anew makes it without its grants.
pub fn rights_on_source(run: &mut Run, checked: &mut Checked) -> Result<()> {
    // Without a mapping nobody knows what has become of the tables.
    let Some(mapping) = run.checked_mapping.take() else { return Ok(()) };
    let outcome = rights_at_home(run, &mapping, checked);
    run.checked_mapping = Some(mapping);
    outcome
}

fn rights_at_home(run: &mut Run, mapping: &Mapping, checked: &mut Checked) -> Result<()> {
    let roles = run.config.traffic.roles.clone();
    let (source, target) = run.both();
    let (of_source, of_target) = (list_roles(source, &roles)?, list_roles(target, &roles)?);
    let (here, there) = (list_role_rights(target, &roles)?, list_role_rights(source, &roles)?);
    let sequences = list_sequences(source)?;
    let heirs = list_heirs(list_sequences(target)?, &sequences, source, mapping)?;
    // One that is not there cannot be fenced, which is told apart.
    let here: BTreeMap<_, _> =
        here.into_iter().filter(|(on, _)| of_source.iter().any(|role| role.name == on.role)).collect();
    let needs = Needs::at_home(&here, &there, &heirs, mapping);
    let lacking = lacking(needs.wanted.clone().into_iter(), &there);
    tell(checked, &lacking, [Side::Target, Side::Source], [&of_target, &of_source]);
    for (role, gone) in &needs.unknown {
        let message = format!("on the target it may, and the source has none of that name: {}", listed(gone));
        let hint = "Make it on the source again with its grants, or see that the application does not need it any more.";
        checked.warn("role_rights", role, message, hint);
    }
    for (role, sequence) in new_sequences(&needs, &there, &sequences, &heirs) {
        let name = sequence.display();
        let message = format!(
            "it may insert where sequence \"{name}\" of the source gives the value, and may not use that"
        );
        let grant = format!(
            "Unless the application gives the value itself, run on the source: GRANT USAGE ON SEQUENCE {} TO {};",
            quote_qualified(&sequence.schema, &sequence.name),
            quote_identifier(&role)
        );
        checked.warn("role_rights", &role, message, grant);
    }
    Ok(())
}

/// What general roles need on the source to do there what they do on the target.
#[derive(Default)]
struct Needs {
    wanted: BTreeMap<RightOn, BTreeSet<String>>,
    /// By role, what it may do with an object of which nobody can tell what it has become.
    unknown: BTreeMap<String, Vec<String>>,
}

impl Needs {
    /// Of `here`, what roles may do on the target; `heirs` are its sequences with what they are on the source.
    fn at_home(
        here: &BTreeMap<RightOn, BTreeSet<String>>,
        there: &BTreeMap<RightOn, BTreeSet<String>>,
        heirs: &[(Sequence, Option<Sequence>)],
        mapping: &Mapping,
    ) -> Needs {
        let mut of_sequences: HashMap<(&str, &str), Vec<&Option<Sequence>>> = HashMap::new();
        for (sequence, heir) in heirs {
            of_sequences.entry((&sequence.schema, &sequence.name)).or_default().push(heir);
        }
        let mut routines: HashSet<(&str, &str, Option<&str>)> = HashSet::new();
        for (on, may) in there.iter().filter(|(on, may)| on.arguments.is_some() && !may.is_empty()) {
            debug_assert!(may.contains("EXECUTE"));
            routines.insert((&on.role, &on.schema, on.object.as_deref()));
        }
        let mut needs = Needs::default();
        for (on, may) in here.iter().filter(|(_, may)| !may.is_empty()) {
            let Some(name) = &on.object else { continue };
            let schema = RightOn { object: None, arguments: None, ..on.clone() };
            // A right on what is in a schema that it may not use is none.
            if here.get(&schema).is_none_or(BTreeSet::is_empty) {
                continue;
            }
            if on.arguments.is_some() {
                let other_arguments = routines.contains(&(&on.role, &on.schema, Some(name)));
                if there.contains_key(on) {
                    needs.want(on.clone(), may);
                } else if !other_arguments {
                    needs.miss(on, may);
                }
                continue;
            }
            if let Some(heirs) = of_sequences.get(&(on.schema.as_str(), name.as_str())) {
                // One that has no heir is a finding of its own; that of an identity column gives its values to whoever may insert.
                for heir in heirs.iter().filter_map(|heir| heir.as_ref()).filter(|heir| !heir.identity) {
                    needs.want(on.at(&heir.schema, &heir.name), may);
                }
                continue;
            }
            let rules = mapping.rules_for(&on.schema, name);
            let mut images: Vec<RightOn> =
                rules.iter().map(|rule| on.at(&rule.to.schema, &rule.to.name)).collect();
            if images.is_empty() {
                images.push(on.clone());
            }
            for image in images {
                if there.contains_key(&image) { needs.want(image, may) } else { needs.miss(&image, may) }
            }
        }
        needs
    }

    fn want(&mut self, on: RightOn, may: &BTreeSet<String>) {
        let schema = RightOn { object: None, arguments: None, ..on.clone() };
        self.wanted.entry(schema).or_default().insert("USAGE".to_owned());
        self.wanted.entry(on).or_default().extend(may.iter().cloned());
    }

    fn miss(&mut self, on: &RightOn, may: &BTreeSet<String>) {
        let may: Vec<&str> = may.iter().map(String::as_str).collect();
        self.unknown.entry(on.role.clone()).or_default().push(text(on, &may.join(", ")));
    }
}

/// Sequences that maintenance has given columns of tables into which a role may insert, and that it may not use.
fn new_sequences<'a>(
    needs: &Needs,
    there: &BTreeMap<RightOn, BTreeSet<String>>,
    sequences: &'a [Sequence],
    heirs: &[(Sequence, Option<Sequence>)],
) -> Vec<(String, &'a Sequence)> {
    let known: HashSet<u32> = heirs.iter().filter_map(|(_, heir)| Some(heir.as_ref()?.oid)).collect();
    let mut found = Vec::new();
    for sequence in sequences.iter().filter(|sequence| !sequence.identity && !known.contains(&sequence.oid)) {
        let Some((schema, table, _)) = &sequence.owner else { continue };
        let inserts = needs.wanted.iter().filter(|(on, may)| {
            on.arguments.is_none()
                && &on.schema == schema
                && on.object.as_ref() == Some(table)
                && may.contains("INSERT")
        });
        for (on, _) in inserts {
            if there.get(&on.at(&sequence.schema, &sequence.name)).is_some_and(BTreeSet::is_empty) {
                found.push((on.role.clone(), sequence));
            }
        }
    }
    found
}

/// Fails for each role that lacks something on the second side which it has on the first, and warns of memberships.
fn tell(
    checked: &mut Checked,
    lacking: &BTreeMap<String, Vec<(String, String)>>,
    [from, to]: [Side; 2],
    [known, roles]: [&[Role]; 2],
) {
    for role in roles {
        let groups = missing_groups(role, known);
        let Some(missing) = lacking.get(&role.name) else {
            if !groups.is_empty() {
                let message =
                    format!("it is a member of {} on the {from}, and not on the {to}", groups.join(", "));
                checked.warn("role_member", &role.name, message, grant_groups(to, role, &groups));
            }
            continue;
        };
        let named: Vec<String> = missing.iter().map(|(text, _)| text.clone()).collect();
        let message = format!("on the {from} it may, and on the {to} it may not: {}", listed(&named));
        let hint = if groups.is_empty() {
            let grants: Vec<&str> = missing.iter().take(NAMED).map(|(_, grant)| grant.as_str()).collect();
            let instead = match to {
                Side::Source => {
                    " Where the source took it away on purpose, REVOKE it on the target, too, instead."
                }
                Side::Target => "",
            };
            format!("Run on the {to}: {}{instead}", grants.join(" "))
        } else {
            grant_groups(to, role, &groups)
        };
        checked.fail("role_rights", &role.name, message, hint);
    }
}

/// The first of them, and how many more.
fn listed(texts: &[String]) -> String {
    let named = texts.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    let more = texts.len().saturating_sub(NAMED);
    if more > 0 { format!("{named}, and {more} more") } else { named }
}

/// What of the mirror is on the target: schemas, and tables and sequences with theirs.
fn objects(run: &mut Run) -> Result<BTreeSet<(String, Option<String>)>> {
    // Before the mirror stands there is nothing.
    if matches!(run.phase(), Phase::Absent | Phase::Mirroring) {
        return Ok(BTreeSet::new());
    }
    let tables = run.selected_tables(Side::Target)?;
    let schemas: BTreeSet<String> = tables.iter().map(|table| table.schema.clone()).collect();
    let sequences = list_sequences(run.target())?;
    let sequences = sequences.into_iter().filter(|sequence| schemas.contains(&sequence.schema));
    let mut all: BTreeSet<(String, Option<String>)> =
        tables.into_iter().map(|table| (table.schema, Some(table.name))).collect();
    all.extend(sequences.map(|sequence| (sequence.schema, Some(sequence.name))));
    all.extend(schemas.into_iter().map(|schema| (schema, None)));
    Ok(all)
}

/// By role, what it lacks of what it needs, and the statement that gives it.
fn lacking(
    needed: impl Iterator<Item = (RightOn, BTreeSet<String>)>,
    there: &BTreeMap<RightOn, BTreeSet<String>>,
) -> BTreeMap<String, Vec<(String, String)>> {
    let mut lacking: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (on, may) in needed {
        let missing: Vec<String> = match there.get(&on) {
            Some(known) => may.difference(known).cloned().collect(),
            None => may.into_iter().collect(),
        };
        if missing.is_empty() {
            continue;
        }
        let what = missing.join(", ");
        let statement = format!("GRANT {what} ON {} TO {};", place(&on, &what), quote_identifier(&on.role));
        let text = text(&on, &what);
        lacking.entry(on.role).or_default().push((text, statement));
    }
    lacking
}

/// What GRANT and REVOKE of `what` name the object by.
fn place(on: &RightOn, what: &str) -> String {
    match (&on.object, &on.arguments) {
        (Some(name), Some(arguments)) => {
            format!("ROUTINE {}({arguments})", quote_qualified(&on.schema, name))
        }
        (Some(name), None) if what == "USAGE" => {
            format!("SEQUENCE {}", quote_qualified(&on.schema, name))
        }
        (Some(name), None) => format!("TABLE {}", quote_qualified(&on.schema, name)),
        (None, _) => format!("SCHEMA {}", quote_identifier(&on.schema)),
    }
}

/// `SELECT on "public.orders"`.
fn text(on: &RightOn, what: &str) -> String {
    match (&on.object, &on.arguments) {
        (Some(name), Some(arguments)) => format!("{what} of \"{}.{name}({arguments})\"", on.schema),
        (Some(name), None) => format!("{what} on \"{}.{name}\"", on.schema),
        (None, _) => format!("{what} of schema \"{}\"", on.schema),
    }
}

fn missing_groups(role: &Role, of_source: &[Role]) -> Vec<String> {
    let there = of_source.iter().find(|there| there.name == role.name);
    let groups = there.map(|there| there.member_of.clone()).unwrap_or_default();
    groups.into_iter().filter(|group| !role.member_of.contains(group)).collect()
}

fn grant_groups(side: Side, role: &Role, groups: &[String]) -> String {
    let groups: Vec<String> = groups.iter().map(|group| quote_identifier(group)).collect();
    format!("Run on the {side}: GRANT {} TO {};", groups.join(", "), quote_identifier(&role.name))
}
