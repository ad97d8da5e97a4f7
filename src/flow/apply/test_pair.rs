//! Two databases of a real server and a flow between them, for tests.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::follow::BATCH_BYTES;
use crate::error::Result;
use crate::flow::mapping::{MapRule, Mapping};
use crate::flow::source::publication::Published;
use crate::flow::source::{publication, slot};
use crate::flow::{Applied, ChangeSource, Flow, FlowName, Origins, TableName, Until, apply_until, marker};
use crate::pg::test_server::TestServer;
use crate::pg::{Conninfo, Server, Session, catalog, record};
use crate::phase::Side;
use crate::plan::Plan;
use crate::sql;

pub(in crate::flow) const BUDGET: Duration = Duration::from_secs(60);
const DETOUR: &str = "11111111-2222-3333-4444-555555555555";

/// Two databases of one server, with our own tables in both.
pub(in crate::flow) struct Pair {
    pub(in crate::flow) server: TestServer,
    pub(in crate::flow) subscriber_role: &'static str,
}

impl Pair {
    pub(in crate::flow) fn new(source: &str, target: &str) -> Pair {
        Pair::with_settings("", source, target)
    }

    pub(in crate::flow) fn with_settings(settings: &str, source: &str, target: &str) -> Pair {
        let pair = Pair { server: TestServer::start(settings), subscriber_role: "postgres" };
        for statement in ["create role writer login", "create database source", "create database target"] {
            pair.server.client().batch_execute(statement).unwrap();
        }
        for (side, tables) in [(Side::Source, source), (Side::Target, target)] {
            let mut client = pair.client(side);
            client.batch_execute(sql::record::CREATE_SCHEMA.text).unwrap();
            client.batch_execute(sql::record::CREATE_COMMON.text).unwrap();
            client.batch_execute(tables).unwrap();
        }
        pair
    }

    fn conninfo(&self, side: Side, user: &str) -> Conninfo {
        let port = self.server.port;
        Conninfo::parse(&format!("host=127.0.0.1 port={port} dbname={side} user={user}")).unwrap()
    }

    pub(in crate::flow) fn client(&self, side: Side) -> postgres::Client {
        self.conninfo(side, "postgres").connect("test").unwrap()
    }

    pub(in crate::flow) fn on(&self, side: Side) -> Server {
        let user = if side == Side::Target { self.subscriber_role } else { "postgres" };
        Server {
            place: side.into(),
            conninfo: self.conninfo(side, user),
            application_name: "pgdetour test".to_owned(),
            plan: Plan::real(),
            conventions: crate::pg::Conventions::default(),
        }
    }

    pub(in crate::flow) fn session(&self, side: Side) -> Session {
        self.on(side).connect().unwrap()
    }

    fn tables(&self, side: Side) -> Vec<catalog::Table> {
        catalog::list_tables(&mut self.session(side)).unwrap()
    }

    pub(in crate::flow) fn mapping(&self, rules: &[MapRule]) -> Result<Mapping> {
        Mapping::build(&self.tables(Side::Source), rules, &mut self.session(Side::Target))
    }

    /// Publication, slot, mapping: the source's changes from here on go to the target.
    pub(in crate::flow) fn flow(&self, rules: &[MapRule]) -> Flow {
        let mut session = self.session(Side::Source);
        let tables: Vec<Published> = self
            .tables(Side::Source)
            .iter()
            .filter(|t| t.root.is_none())
            .map(|t| Published::whole(TableName::of(t)))
            .collect();
        publication::create_publication(&mut session, "pgdetour_mirror", &tables).unwrap();
        slot::create_slot(&mut session, "pgdetour_mirror", BUDGET).unwrap();
        Flow {
            name: FlowName::Mirror,
            detour: DETOUR.to_owned(),
            publisher: self.on(Side::Source),
            subscriber: self.on(Side::Target),
            source: ChangeSource::Slot {
                slot: "pgdetour_mirror".to_owned(),
                publication: "pgdetour_mirror".to_owned(),
            },
            mapping: self.mapping(rules).unwrap(),
            snapshots: HashMap::new(),
            passed_over: HashSet::new(),
            left_out: Origins::None,
            batch_bytes: BATCH_BYTES,
            backlog: None,
            quarantine: false,
        }
    }

    /// Notes on the subscriber that the flow begins here, as the way home does.
    pub(in crate::flow) fn begins(&self, flow: &Flow) {
        let start = flow.source.end(&mut self.session(Side::Source)).unwrap();
        record::write_progress(&mut self.session(Side::Target), flow.name.name(), &flow.detour, start)
            .unwrap();
    }

    /// Runs statements one by one, so that each is a transaction unless it says otherwise.
    pub(in crate::flow) fn source(&self, script: &str) {
        let mut client = self.client(Side::Source);
        script.split(';').for_each(|statement| client.batch_execute(statement).unwrap());
    }

    pub(in crate::flow) fn target(&self, script: &str) {
        self.client(Side::Target).batch_execute(script).unwrap();
    }

    /// All rows of a query as text, in order of their bytes.
    pub(in crate::flow) fn rows(&self, side: Side, query: &str) -> Vec<String> {
        let query = format!("select t::text from ({query}) as t order by t::text collate \"C\"");
        self.client(side).query(&query, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    pub(in crate::flow) fn assert_equal(&self, query: &str) {
        let (source, target) = (self.rows(Side::Source, query), self.rows(Side::Target, query));
        assert_eq!(source.len(), target.len(), "rows of {query}");
        assert!(source == target, "{query} differs");
    }
}

/// Applies everything that was written up to now.
pub(in crate::flow) fn drain(flow: &Flow) -> Result<Applied> {
    let mut publisher = flow.publisher.connect()?;
    let id = record::new_id(&mut publisher)?;
    marker::write_marker(&mut publisher, flow.name, &id)?;
    apply_until(flow, &Until::Marker(id), &AtomicBool::new(false), Some(BUDGET), &mut |_| ())
}

pub(in crate::flow) fn rule(
    from: &str,
    to: &str,
    key: &[(&str, &str)],
    columns: &[(&str, &str)],
    drop: &[&str],
) -> MapRule {
    let pairs =
        |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    MapRule {
        from: from.to_owned(),
        to: to.to_owned(),
        key: pairs(key),
        columns: pairs(columns),
        drop: drop.iter().map(|name| (*name).to_owned()).collect(),
        condition: None,
        joins: false,
    }
}
