//! Real servers, a real pooler and an application under load, for the tests and the demo.

pub mod admin;
pub mod answer;
pub mod binary;
pub mod browser;
pub mod detour;
pub mod disk;
pub mod extent;
pub mod fingerprint;
pub mod haproxy;
pub mod hold;
pub mod pgbouncer;
pub mod port;
pub mod postgres;
pub mod probe;
pub mod proxy;
pub mod scratch;
pub mod template;
pub mod terminal;
pub mod wait;
pub mod writer;
