//! The trip with HAProxy in front of both servers: general clients move, admins of their own network stay.

use crate::support::admin::Admin;
use crate::support::detour::{Detour, Serving};
use crate::support::haproxy::{HaProxy, MAP};
use crate::support::postgres::DBA_PASSWORD;

/// Threads of the harness's writer, each of which has one session.
const SESSIONS: usize = 2;

fn map(detour: &Detour) -> String {
    std::fs::read_to_string(detour.balancer().map_file()).expect("the map can be read")
}

/// Each session of the application was ended once for each of so many switches, and nothing else went wrong.
fn only_ended_sessions(detour: &Detour, switches: usize) {
    let errors = detour.client_errors();
    let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), SESSIONS * switches, "{text:?}");
    for error in &errors {
        assert!(error.sqlstate.is_none() || error.sqlstate.as_deref() == Some("57P01"), "{text:?}");
    }
}

#[test]
fn through_haproxy_the_application_moves_and_the_admin_network_stays() {
    let detour = Detour::new()
        .table("orders")
        .on_source("create table public.maintenance (id serial primary key, port int not null)")
        .configured("[mirror]\nexclude = [\"public.maintenance\"]")
        .behind_haproxy()
        .writing();
    let conninfo = format!("{} password={DBA_PASSWORD}", detour.balancer().admin_conninfo("dba"));
    let admin = Admin::start(&conninfo);
    let detour = detour
        .run("check")
        .exits(0)
        .mirrored()
        .no_client_error()
        .run("cutover")
        .exits(0)
        .changed(true)
        .phase("detoured")
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .application_goes_on();
    only_ended_sessions(&detour, 1);
    assert_eq!(map(&detour), MAP.replace("general  source", "general  target"));
    let detour = detour.run("cutover").exits(0).changed(false);
    let detour = detour
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0)
        .phase("returned")
        .serving(Serving::Source)
        .application_goes_on();
    only_ended_sessions(&detour, 2);
    assert_eq!(map(&detour), MAP, "home, byte for byte");

    let written = admin.stop();
    let source = detour.source.port();
    let count = |condition: &str| -> i64 {
        detour.source.value(&format!("select count(*) from public.maintenance where {condition}"))
    };
    assert!(written > 20, "only {written}");
    assert_eq!(count(&format!("port = {source}")), written);
    assert_eq!(count(&format!("port <> {source}")), 0);
    detour.no_row_lost();
}

#[test]
fn a_cutover_that_dies_while_clients_wait_is_taken_back_by_the_next() {
    let detour = Detour::new().table("orders").behind_haproxy().writing().mirrored();
    let detour = detour
        .run("cutover")
        .fault("after:hold clients")
        .dies()
        .run("status")
        .exits(0)
        .reports("/serving", "nobody")
        .reports("/router/0/held", true);
    assert_eq!(map(&detour), MAP, "until the decision the file leads to the source");
    detour
        .run("cutover")
        .exits(0)
        .serving(Serving::Target)
        .application_goes_on()
        .run("replay")
        .exits(0)
        .run("cutback")
        .fault("before:resume clients")
        .dies()
        .run("cutback")
        .exits(0)
        .serving(Serving::Source)
        .application_goes_on()
        .no_row_lost();
}

#[test]
fn a_network_that_is_missing_in_the_acl_is_refused() {
    let detour = Detour::new().table("orders").behind_haproxy();
    let acl = detour.balancer().map_file().with_file_name("admin_networks.acl");
    std::fs::write(acl, "10.9.0.0/16\n").expect("the scratch directory can be written");
    let missing = format!("lacks {}", HaProxy::ADMIN_NETWORK);
    detour.run("check").exits(3).finding("haproxy", &missing, "reload HAProxy");
}
