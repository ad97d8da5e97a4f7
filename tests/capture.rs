//! Changes recorded on the serving side, by its WAL and by triggers: hard histories, and servers that come and go.

use crate::support::detour::{Detour, Serving};
use crate::support::postgres::Shutdown;

const BY_TRIGGERS: &str = "[capture]\nmethod = \"trigger\"";

/// A server that cannot decode its WAL has the changes of the whole trip recorded by triggers.
#[test]
fn triggers_bring_every_change_home_from_a_server_without_logical_wal() {
    let mut detour = Detour::new().table("orders").configured(BY_TRIGGERS);
    detour.target.set("wal_level", "replica");
    detour.target.restart(Shutdown::Fast);
    let detour = detour
        .writing()
        .run("check")
        .exits(0)
        .mirrored()
        .run("capture")
        .exits(0)
        .reports("/method", "trigger")
        .run("cutover")
        .exits(0)
        .phase("detoured")
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .application_goes_on()
        .run("capture")
        .exits(0)
        .run("replay")
        .exits(0)
        .reports("/caught_up", true)
        .at_rest(|detour| detour.run("replay").exits(0).run("verify").exits(0).reports("/equal", true))
        .application_goes_on()
        .run("cutback")
        .exits(0)
        .phase("returned")
        .reports("/late_writes", 0)
        .serving(Serving::Source)
        .application_goes_on()
        .no_client_error();
    let left = "select count(*) from pg_trigger where tgname like '!pgdetour%'";
    assert_eq!(detour.target.value::<i64>(left), 0, "no trigger is left");
    detour.run("clean").exits(0).no_row_lost();
}

/// No server decodes its WAL: the mirror is caught up by its own runs, and drained by cutover.
#[test]
fn triggers_carry_the_mirror_from_a_server_without_logical_wal() {
    let mut detour =
        Detour::new().table("orders").configured("[mirror]\nmethod = \"trigger\"").configured(BY_TRIGGERS);
    for server in [&mut detour.source, &mut detour.target] {
        server.set("wal_level", "replica");
        server.restart(Shutdown::Fast);
    }
    detour
        .writing()
        .run("check")
        .exits(0)
        .mirrored()
        .application_goes_on()
        .at_rest(|detour| detour.run("mirror").exits(0).run("verify").exits(0).reports("/equal", true))
        .application_goes_on()
        .run("cutover")
        .exits(0)
        .phase("detoured")
        .reports("/late_writes", 0)
        .serving(Serving::Target)
        .application_goes_on()
        .run("replay")
        .exits(0)
        .run("cutback")
        .exits(0)
        .serving(Serving::Source)
        .application_goes_on()
        .no_client_error()
        .run("clean")
        .exits(0)
        .no_row_lost();
}
