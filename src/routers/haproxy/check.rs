//! Every precondition of moving clients with one map of `HAProxy`.

use std::net::IpAddr;
use std::path::Path;

use crate::config::HaProxySettings;
use crate::error::{Checked, Error};
use crate::phase::Side;
use crate::routers::REACHABLE;
use crate::routers::haproxy::look::{get_weight, has_agent};
use crate::routers::haproxy::map::MapFile;
use crate::routers::haproxy::runtime::{SHOW_STAT, read_weight};
use crate::routers::haproxy::{HOLD, HaProxy};
use crate::routers::replaceable_file::ReplaceableFile;

/// All findings of one map.
pub fn check(router: &mut HaProxy) -> Checked {
    let mut checked = Checked::default();
    let name = &router.name.clone();
    let level = match router.runtime.ask("show cli level") {
        Ok(level) => level,
        Err(error) => {
            let hint = "See that HAProxy runs, that \"socket\" is a \"stats socket\" of its configuration, and that \
                        this user may write to it.";
            checked.fail(REACHABLE, name, error.with_cause(), hint);
            check_file(router, &mut checked);
            return checked;
        }
    };
    if level != "admin" {
        let hint =
            "Write \"level admin\" behind the stats socket in HAProxy's configuration, then reload it.";
        checked.fail(
            "router_admin",
            name,
            format!("the socket has level {level}, which may not end sessions"),
            hint,
        );
    }
    let file = check_file(router, &mut checked);
    check_map(router, file.as_deref(), &mut checked);
    check_backends(router, file.as_deref(), &mut checked);
    check_admin_networks(router, &mut checked);
    for (server, _) in &router.settings.weights {
        let command = get_weight(server);
        let asked = router.runtime.ask(&command).and_then(|answer| {
            read_weight(&answer).map(drop).ok_or_else(|| router.runtime.refused(&command, &answer))
        });
        if let Err(error) = asked {
            fail(&mut checked, "router_weight", &format!("{name}: server {server}"), &error);
        }
    }
    checked
}

fn fail(checked: &mut Checked, check: &'static str, object: &str, error: &Error) {
    let hint = match error {
        Error::Router { hint, .. } => hint,
        _ => "Correct it, then run the same command again.",
    };
    checked.fail(check, object, error.with_cause(), hint);
}

/// The file, and whether it can be rewritten; its value for the key.
fn check_file(router: &HaProxy, checked: &mut Checked) -> Option<String> {
    let HaProxySettings { file: path, file_command, .. } = &router.settings;
    let object = path.display().to_string();
    let file = MapFile::from(ReplaceableFile::check(path, file_command.as_deref(), "HAProxy", checked)?);
    match file.entry(&router.settings.key) {
        Ok((_, value)) => Some(value),
        Err(error) => {
            fail(checked, "router_entry", &object, &error);
            None
        }
    }
}

/// The key in the process, against the configuration and the file.
fn check_map(router: &mut HaProxy, file: Option<&str>, checked: &mut Checked) {
    let live = match router.live().and_then(|live| live.ok_or_else(|| router.no_key())) {
        Ok(live) => live,
        Err(error) => return fail(checked, "router_map", &router.name, &error),
    };
    let (name, settings) = (&router.name, &router.settings);
    if live == HOLD {
        let hint = format!(
            "Run \"set map {} {} {}\" in its runtime API, unless a switch was cut short: run that again.",
            settings.map,
            settings.key,
            file.unwrap_or(&settings.source)
        );
        checked.fail("router_held", name, "clients are held already", hint);
    }
    let is_known = |value: &str| router.side_of(value).is_some();
    if live != HOLD && !is_known(&live) || file.is_some_and(|value| !is_known(value)) {
        let value = if live == HOLD || is_known(&live) { file.unwrap_or_default() } else { &live };
        checked.fail(
            "router_entry",
            name,
            format!("it sends \"{}\" to \"{value}\", neither the source nor the target", settings.key),
            format!("Let the map's value be \"{}\", or correct source and target.", settings.source),
        );
    } else if let Some(file) = file
        && live != HOLD
        && live != file
    {
        checked.fail(
            "router_drift",
            name,
            format!("it sends clients to \"{live}\", and its file says \"{file}\""),
            "Reload HAProxy if the file is right, or correct the file.",
        );
    }
}

/// Both backends, and that the one clients would be sent to can serve them.
fn check_backends(router: &mut HaProxy, file: Option<&str>, checked: &mut Checked) {
    let asked = router.runtime.ask(SHOW_STAT).and_then(|answer| router.runtime.read_stats(&answer));
    let all = match asked {
        Ok(seen) => seen.stats,
        Err(error) => return fail(checked, "router_backend", &router.name, &error),
    };
    for (server, _) in router.settings.weights.iter().filter(|(server, _)| has_agent(server, &all)) {
        checked.warn(
            "router_weight",
            &format!("{}: server {server}", router.name),
            "its agent may set another weight at any time, so that status says nothing of it",
            format!("Run \"disable agent {server}\" in its runtime API for the detour, or leave it out of weights."),
        );
    }
    let now = file.and_then(|value| router.side_of(value)).unwrap_or(Side::Source);
    for side in [Side::Source, Side::Target] {
        if let Err(error) = router.stats_of(side, &all) {
            fail(checked, "router_backend", &router.name, &error);
        } else if let Some(message) = router.unserved(side, &all).filter(|_| side != now) {
            let backend = router.backend(side);
            let hint =
                format!("See \"show stat\" in its runtime API, and the health checks of \"{backend}\".");
            let refusing = router.refusing(side, &all);
            if side == Side::Source && !refusing.is_empty() {
                let message = format!(
                    "{message}; {} answer health checks, which the fence refuses where they log in as the application does: they \
                     are taken for up once it is lowered",
                    refusing.join(", ")
                );
                checked.warn("router_backend", &router.name, message, hint);
            } else {
                checked.fail("router_backend", &router.name, message, hint);
            }
        }
    }
}

/// Every configured network against the ACL, in the process and, where it can be read from here, in its file.
fn check_admin_networks(router: &mut HaProxy, checked: &mut Checked) {
    if router.admin_networks.is_empty() {
        return;
    }
    let Some(acl) = router.settings.admin_acl.clone() else {
        checked.warn(
            "admin_networks",
            "traffic.admin_networks",
            format!("whether {} keeps them on the source is not known", router.name),
            "Name the ACL's file in HAProxy's configuration with router.haproxy.admin_acl.",
        );
        return;
    };
    let show = format!("show acl {acl}");
    let asked = router.runtime.ask(&show).and_then(|answer| router.runtime.read_list(&show, &answer));
    let live = match asked {
        Ok(live) => live.into_iter().map(|(network, _)| network).collect::<Vec<_>>(),
        Err(error) => return fail(checked, "admin_networks", &router.name, &error),
    };
    let mut compare = |where_: &str, networks: &[String]| {
        let missing = missing_networks(&router.admin_networks, networks);
        if !missing.is_empty() {
            let message = format!("{where_} lacks {}: their clients are moved", missing.join(", "));
            let hint = format!("Add a line for each to {acl}, then reload HAProxy.");
            checked.fail("admin_networks", &router.name, message, hint);
        }
    };
    compare(&format!("the ACL {acl}"), &live);
    // A reload would forget what only the process knows.
    if let Ok(text) = std::fs::read_to_string(Path::new(&acl)) {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        compare(&format!("the file {acl}"), &lines.map(str::to_owned).collect::<Vec<_>>());
    }
}

/// Those of `wanted` that no single network of `present` covers.
fn missing_networks<'w>(wanted: &'w [String], present: &[String]) -> Vec<&'w str> {
    let present: Vec<_> = present.iter().filter_map(|text| parse_network(text)).collect();
    let is_covered = |text: &str| {
        parse_network(text).is_some_and(|inner| present.iter().any(|outer| covers(*outer, inner)))
    };
    wanted.iter().map(String::as_str).filter(|text| !is_covered(text)).collect()
}

/// Whether it is IPv6, the address's bits, left-aligned, and the length of its prefix.
type Network = (bool, u128, u32);

/// `10.9.0.0/16`, or one address.
fn parse_network(text: &str) -> Option<Network> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let (is_v6, value, width) = match address.parse().ok()? {
        IpAddr::V4(v4) => (false, u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (true, v6.to_bits(), 128),
    };
    let bits = match bits {
        None => width,
        Some(bits) => bits.parse().ok().filter(|bits| *bits <= width)?,
    };
    Some((is_v6, value, bits))
}

fn covers(outer: Network, inner: Network) -> bool {
    let mask = u128::MAX.checked_shl(128 - outer.2).unwrap_or(0);
    outer.0 == inner.0 && outer.2 <= inner.2 && outer.1 & mask == inner.1 & mask
}

#[cfg(test)]
mod tests {
    use super::missing_networks;

    #[test]
    fn a_network_is_covered_by_itself_and_by_wider_ones_of_its_family() {
        let missing = |wanted: &[&str], present: &[&str]| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            missing_networks(&owned(wanted), &owned(present)).join(" ")
        };
        let wanted = ["10.9.0.0/16", "192.0.2.7/32", "2001:db8::/32"];
        assert_eq!(missing(&wanted, &["10.9.0.0/16", "192.0.2.7", "2001:db8::/32"]), "");
        assert_eq!(missing(&wanted, &["10.0.0.0/8", "192.0.2.0/24", "::/0"]), "");
        assert_eq!(missing(&wanted, &["10.9.0.0/17", "192.0.2.8"]), wanted.join(" "));
        assert_eq!(missing(&wanted, &["0.0.0.0/0"]), "2001:db8::/32");
        assert_eq!(missing(&wanted, &["not a network"]), wanted.join(" "));
    }
}
