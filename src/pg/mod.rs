//! One PostgreSQL server: how to reach it, what it holds, what we keep on it.

pub mod catalog;
pub mod conninfo;
mod conventions;
pub mod dump;
pub mod fence;
pub mod lock;
pub mod parameter;
pub mod patience;
#[cfg(test)]
mod pattern_tests;
pub mod record;
pub mod restriction;
pub mod server;
pub mod sessions;
mod shown;
#[cfg(test)]
mod statement_tests;
#[cfg(test)]
pub mod test_certificates;
#[cfg(test)]
#[path = "../../tests/support/port.rs"]
pub mod test_port;
#[cfg(test)]
pub mod test_server;
pub mod tls;
pub mod wire;

pub use conninfo::Conninfo;
pub use conventions::Conventions;
pub use postgres::types::PgLsn;
pub use server::{Server, Session};
