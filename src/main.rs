//! pgdetour keeps a PostgreSQL service up while its database is under maintenance.

mod cli;
mod config;
mod error;
mod flow;
mod pattern;
mod pg;
mod phase;
mod plan;
mod routers;
mod sql;
mod steps;
mod units;

fn main() {}
