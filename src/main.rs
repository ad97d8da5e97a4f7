//! pgdetour keeps a PostgreSQL service up while its database is under maintenance.

mod error;
mod flow;
mod pg;
mod phase;
mod plan;
mod routers;
mod sql;
mod steps;

fn main() {}
